"""AVERAGE_POOL_2D over the whole map: sums of four channels at a time, two in a register.

The division is a multiplication and a shift, proved for every sum that can be.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeq.firmware.arithmetic import bounds
from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.emitting import IMMEDIATE, added, number
from edgeq.firmware.kernel import Input, Kernel, Operation, Output, Routine

PARAMETERS = "const int8_t *in, int8_t *out"
MOST = 255  # values of int8 that a sum of 16 bits has room for
SHIFT = 23  # products of a mean with 2^23 have room in 32 bits
UNROLLED = 8


def average_pool_2d(operation: Operation) -> Kernel | None:
    """AVERAGE_POOL_2D of a whole int8 map, channels in fours, not clamped; None for others."""
    (batch, height, width, channels), sink = operation.source.shape, operation.sink
    if {operation.source.dtype, sink.dtype} != {"INT8"} or sink.shape != (1, 1, 1, channels) or batch != 1:
        return None
    limits = bounds(int(operation.option("fusedActivationFunction")), sink.grid, "INT8")
    whole = (operation.option("filterHeight"), operation.option("filterWidth")) == (height, width)
    if limits != (-128, 127) or not whole:
        return None
    return _pool(height * width, channels)


def _pool(pixels: int, channels: int) -> Kernel | None:
    division = _division(pixels) if pixels <= MOST else None
    if channels % 4 or division is None or UNROLLED * channels > IMMEDIATE:
        return None
    lines = [f"@ the mean of {pixels} pixels of {channels}", *_instructions(pixels, channels, division)]
    return Kernel(Routine("pool", PARAMETERS, assembly=function(lines)), (Input(), Output()))


def _division(count: int) -> tuple[int, int] | None:
    """A factor and an addend: sums / count, rounded half away from zero, are (factor * s + addend) >> 23.

    Of an even count, a negative s is first made one less.
    """
    sums = np.arange(-128 * count, 127 * count + 1)
    wanted = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    seen = sums - ((sums < 0) & (count % 2 == 0))
    factor = ((1 << SHIFT) + count // 2) // count
    least = ((wanted << SHIFT) - factor * seen).max()
    most = (((wanted + 1) << SHIFT) - 1 - factor * seen).min()
    return (factor, int(least + most) // 2) if least <= most else None


def _instructions(pixels: int, channels: int, division: tuple[int, int]) -> Iterator[str]:
    yield "push {r4-r9, lr}"
    yield from number("r5", division[0])
    yield from number("r6", division[1] & 0xFFFFFFFF)
    yield "mov r9, r1"
    yield from added("r9", channels, "r2")
    yield from (f"{label('c')}:", "mov r2, r0", "mov r7, #0", "mov r8, #0")
    whole, rest = divmod(pixels, UNROLLED)
    if whole:
        yield from (*number("r4", whole), f"{label('p')}:")
        yield from _pixels(UNROLLED, channels)
        yield from (f"add r2, r2, #{UNROLLED * channels}", "subs r4, r4, #1", f"bne {label('p')}")
    yield from _pixels(rest, channels)
    yield from ("sxth r2, r7", "sxth r3, r8", "asr r4, r7, #16", "asr r12, r8, #16")
    for each in ("r2", "r3", "r4", "r12"):
        if pixels % 2 == 0:
            yield f"add {each}, {each}, {each}, asr #31"
        yield from (f"mla {each}, {each}, r5, r6", f"asr {each}, {each}, #{SHIFT}", f"strb {each}, [r1], #1")
    yield from ("adds r0, r0, #4", "cmp r1, r9", f"bne.w {label('c')}", "pop {r4-r9, pc}")


def _pixels(count: int, channels: int) -> Iterator[str]:
    """Four channels of some pixels, added to the sums: r7 has the first and the third."""
    for pixel in range(count):
        yield from (f"ldr r3, [r2, #{pixel * channels}]", "sxtab16 r7, r7, r3", "sxtab16 r8, r8, r3, ror #8")
