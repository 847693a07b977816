"""Outputs of a depthwise 3x3 convolution from its planes (see planes.py), a channel at a time.

A word of A with the weights (0, 1) and the upper half of B's with weight 2 make an output of an even row;
the lower half of A's with weight 0 and a word of B with the weights (1, 2) make one of the odd row below.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from edgeq.firmware.assembly import label
from edgeq.firmware.dsp.emitting import IMMEDIATE, PAIR_OFFSET, added, listed
from edgeq.firmware.dsp.planes import CHANNELS, CONSTANTS, END, HELD, PLANES, SINK, Planes

FEW_BLOCKS = 3  # blocks of outputs that are written out
WEIGHTS, LOADED = ("r0", "r1", "r2", "r3", "r4", "r5"), ("r7", "r8", "r9", "r10")


def computed(shape: Planes, rows: int, parity: int) -> Iterator[str]:
    """One or two rows of outputs from the planes, of four channels one after the other."""
    channels, columns = shape.window.channels, shape.window.sink[1]
    way, head = shape.layer.requantization, label(f"h{rows}{parity}")
    yield from (f"ldr lr, [sp, #{SINK}]", f"ldr r12, [sp, #{PLANES}]", f"{head}:",
                f"ldr r6, [sp, #{CONSTANTS}]", f"ldm r6!, {listed(WEIGHTS)}", way.loaded("r6", LOADED),
                f"str r6, [sp, #{CONSTANTS}]", f"stm sp, {listed(LOADED[:way.width])}")
    done = yield from _row(shape, rows, parity)
    yield from added("r12", shape.plane - 4 * shape.stride * done, "r6")
    yield from added("lr", 1 - done * channels, "r6")
    yield from (f"ldr r6, [sp, #{SINK}]", f"adds r6, r6, #{CHANNELS}", "cmp lr, r6", f"bne.w {head}",
                f"ldr r6, [sp, #{CONSTANTS}]")
    yield from added("r6", -4 * CHANNELS * (6 + way.width), "r7")
    yield f"str r6, [sp, #{CONSTANTS}]"
    yield from added("lr", rows * columns * channels - CHANNELS, "r6")
    yield f"str lr, [sp, #{SINK}]"


def _row(shape: Planes, rows: int, parity: int) -> Generator[str, None, int]:
    """The outputs of one channel; answers how many columns the pointers have moved on."""
    at_once, columns = 4 // rows, shape.window.sink[1]
    step, looped = 4 * shape.stride, 0
    if columns // at_once > FEW_BLOCKS:
        loop, looped = label(f"x{rows}{parity}"), columns // at_once * at_once
        yield "mov r6, r12"
        yield from added("r6", looped * step, "r7")
        yield from (f"str r6, [sp, #{END}]", f"{loop}:")
        yield from _block(shape, (rows, parity), (0, at_once))
        yield from (f"ldr r10, [sp, #{END}]", f"add r12, r12, #{at_once * step}")
        yield from added("lr", at_once * shape.window.channels, "r11")
        yield from ("cmp r12, r10", f"bne.w {loop}")
    for column in range(0, columns - looped, at_once):
        yield from _block(shape, (rows, parity), (column, min(at_once, columns - looped - column)))
    return looped


def _block(shape: Planes, kind: tuple[int, int], span: tuple[int, int]) -> Iterator[str]:
    """Outputs of some columns, from the first of `span` on, as many as its second."""
    (rows, parity), (first, count), started = kind, span, set[str]()
    sums = [f"r{6 + i}" for i in range(count * rows)]
    columns = shape.stride * (count - 1) + 3
    for plane in range(2):
        base = 4 * shape.stride * first + CHANNELS * shape.plane * (parity ^ plane)
        for column in range(0, columns, 2):
            pair = min(2, columns - column)
            yield from _loaded(base + 4 * column, pair)
            for i, output in ((i, output) for i in range(pair) for output in range(count)):
                tap = column + i - shape.stride * output
                if 0 <= tap < 3:
                    yield from _tapped(sums[output * rows:][:rows], (plane, tap), f"r{10 + i}", started)
    yield from shape.layer.requantization.instructions_with(sums, HELD, ("r10", "r11"))
    yield from _stored(shape, sums, rows, span)


def _stored(shape: Planes, sums: Sequence[str], rows: int, span: tuple[int, int]) -> Iterator[str]:
    """One or two rows of outputs, from lr on; the second has a pointer of its own where it is too far."""
    channels = shape.window.channels
    below = shape.window.sink[1] * channels
    far = rows == 2 and below + sum(span) * channels > IMMEDIATE
    if far:
        yield "mov r10, lr"
        yield from added("r10", below, "r11")
    for i, each in enumerate(sums):
        beside, lower = (span[0] + i // rows) * channels, i % rows
        place = f"[r10, #{beside}]" if far and lower else f"[lr, #{beside + lower * below}]"
        yield f"strb {each}, {place}"


def _loaded(place: int, count: int) -> Iterator[str]:
    """One or two columns of a channel's plane into r10, r11."""
    if count == 2 and place <= PAIR_OFFSET:
        yield f"ldrd r10, r11, [r12, #{place}]"
    else:
        yield from (f"ldr r{10 + i}, [r12, #{place + 4 * i}]" for i in range(count))


def _tapped(sums: Sequence[str], place: tuple[int, int], values: str, started: set[str]) -> Iterator[str]:
    """A column's values times the weights of a tap, added to the sum of each row of outputs."""
    plane, tap = place
    kinds = (("d", 0), ("tb", 0)) if plane == 0 else (("bt", 3), ("d", 3))
    for each, (halves, weights) in zip(sums, kinds, strict=False):
        fresh = each not in started
        started.add(each)
        name = {"d": "smuad" if fresh else "smlad"}.get(halves, f"{'smul' if fresh else 'smla'}{halves}")
        yield f"{name} {each}, {values}, {WEIGHTS[weights + tap]}" + ("" if fresh else f", {each}")
