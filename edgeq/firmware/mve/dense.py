"""One pixel times the weights of all channels, eight of them at once: FULLY_CONNECTED, mostly.

    void @NAME@(const int8_t *in, int8_t *out, const uint32_t *constants)

The one rule: the sums of even channels lie below those of odd ones, so that narrowing interleaves them.
r3 goes along the input, r1 along the constants, r5 along the output.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.assembly import function, label
from edgeq.firmware.mve.multiply import BODY, SUMS, added
from edgeq.firmware.mve.product import VECTOR
from edgeq.firmware.mve.requantize import Form, Requantization, of_channels

LANES = 8
END, FRAME = 32, 40  # where the stack has the end of the output, behind the sums, and its size


def suits_dense(channels: int) -> bool:
    """Whether blocks of eight channels cost less than those of four."""
    return -(-channels // LANES) * (2 * LANES + 1) < -(-channels // 4) * 9


def packed_dense(weights: Integers, requantization: Requantization) -> Array:
    """The constants: the unit, then blocks of eight channels: their weights 16 by 16, then the rows.

    `weights` are (channels, inputs). A row has the even channels first.
    """
    blocks = -(-len(weights) // LANES)
    missing = -weights.shape[1] % VECTOR
    padded = np.pad(weights, ((0, blocks * LANES - len(weights)), (0, missing)))
    vectors = padded.reshape(blocks, LANES, -1, VECTOR).transpose(0, 2, 1, 3)
    taken = np.ascontiguousarray(vectors, np.int8).view(np.uint32).reshape(blocks, -1)
    rows = requantization.padded(blocks * LANES).reshape(-1, blocks, LANES // 2, 2).transpose(1, 0, 3, 2)
    each = np.concatenate([taken, rows.reshape(blocks, -1)], 1)
    return np.concatenate([np.array([requantization.unit], np.uint32), each.reshape(-1)])


def dense(depth: int, channels: int, form: Form) -> str:
    """The function `@NAME@` of `depth` inputs."""
    blocks, vectors = -(-channels // LANES), -(-depth // VECTOR)
    partial, loop = channels % LANES, label("channels")
    return function((
        "push {r4-r11, lr}", f"sub sp, sp, #{FRAME + 4}", "mov r9, r0", "mov r5, r1", "ldr r11, [r2], #4",
        "mov r1, r2", *added("r7", "r5", LANES * blocks), f"str r7, [sp, #{END}]", f"{loop}:",
        *_sums(vectors, "vldrw.u32" if depth % 4 == 0 else "vldrb.u8"), f"stm sp, {{{', '.join(SUMS)}}}",
        *of_channels(form, 2, shared=False), f"ldr r7, [sp, #{END}]", *_stored(partial), "cmp r5, r7",
        f"bne.w {loop}", f"add sp, sp, #{FRAME + 4}", "pop {r4-r11, pc}"))


def _stored(partial: int) -> Iterator[str]:
    """Eight bytes, or as many as there are channels left."""
    if partial:
        yield from ("subs r0, r7, r5", f"subs r0, r0, #{LANES - partial}", "vctp.16 r0", "vpst")
    yield f"vstrb{'t' if partial else ''}.16 q0, [r5], #8"


def _sums(vectors: int, load: str) -> Iterator[str]:
    """The sums of eight channels over all inputs."""
    times, rest = divmod(vectors, BODY)
    yield "mov r3, r9"
    if vectors <= 2 * BODY:
        yield from _vectors(vectors, load, first=True)
        return
    loop = label("inputs")
    yield from [f"mov {each}, #0" for each in SUMS]
    yield from (*added("r7", "r3", times * BODY * VECTOR), f"{loop}:", *_vectors(BODY, load, first=False),
                "cmp r3, r7", f"bne.w {loop}", *_vectors(rest, load, first=False))


def _vectors(count: int, load: str, *, first: bool) -> Iterator[str]:
    for i in range(count):
        yield f"{load} q0, [r3], #16"
        for channel in range(LANES):
            yield "vldrw.u32 q1, [r1], #16"
            place = SUMS[channel // 2 + channel % 2 * (LANES // 2)]
            yield f"{'vmladav' if first and i == 0 else 'vmladava'}.s8 {place}, q1, q0"
