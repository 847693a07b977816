"""ADD of two int8 tensors of one shape: two multiplications an output, proved on all 65,536 pairs.

TFLite scales both values to a common grid, adds, and scales the sum, rounding thrice; the result is

    output = SAT8((a * x + b * y + c) >> n)

where constants are found with which that holds for every pair. It may be written in either's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Integers
from edgeq.firmware.arithmetic import bounds, multiplier, scaled
from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.emitting import added, limited, number
from edgeq.firmware.kernel import Input, Kernel, Operation, Output, Routine

PARAMETERS = "const int8_t *one, const int8_t *other, int8_t *out"
HEADROOM = 20  # TFLite's left shift of both values
CHANGES = sorted(range(-6, 7), key=abs)  # of the natural factors
TRIED = 6  # shifts, from the largest that has room
UNROLLED = 8


@dataclass(frozen=True)
class _Fit:
    a: int
    b: int
    c: int
    n: int


def add(operation: Operation) -> Kernel | None:
    """ADD of int8 tensors of the same shape; None for others, and where no constants are found."""
    one, other, sink = operation.input(0), operation.input(1), operation.sink
    if {one.dtype, other.dtype, sink.dtype} != {"INT8"} or not one.shape == other.shape == sink.shape:
        return None
    low, high = bounds(int(operation.option("fusedActivationFunction")), sink.grid, "INT8")
    up, down = low + 128, 127 - high
    fit = _fitted(operation, np.clip(_table(operation), low, high) - up)
    if fit is None:
        return None
    lines = [f"@ {one.elements} elements", *_instructions(one.elements, fit, (up, down))]
    return Kernel(Routine("add", PARAMETERS, assembly=function(lines)), (Input(0), Input(1), Output()),
                  in_place=(0, 1))


def _table(operation: Operation) -> Integers:
    """TFLite's outputs, (256, 256), of all pairs of int8 values, not clamped (reference_integer_ops::Add)."""
    grids = [operation.input(0).grid, operation.input(1).grid, operation.sink.grid]
    one, other, sink = (float(grid.scales[0]) for grid in grids)
    twice = 2 * max(one, other)
    values = np.arange(-128, 128)
    parts = [scaled((values - int(grid.zero_points[0])) << HEADROOM, *multiplier(scale / twice))
             for grid, scale in zip(grids, (one, other), strict=False)]
    sums = parts[0][:, None] + parts[1][None, :]
    return scaled(sums, *multiplier(twice / ((1 << HEADROOM) * sink))) + int(grids[2].zero_points[0])


def _fitted(operation: Operation, wanted: Integers) -> _Fit | None:
    """Constants with which every pair comes out as `wanted` (256, 256), its least value at -128."""
    sink = float(operation.sink.grid.scales[0])
    ratios = [float(operation.input(i).grid.scales[0]) / sink for i in range(2)]
    values = np.arange(-128, 128, dtype=np.int64)
    largest = int(np.floor(np.log2(2**31 / (sum(ratios) * 256 + 300))))
    top = int(wanted.max())
    for n in range(largest, max(largest - TRIED, 7), -1):
        above = np.where(wanted > -128, wanted << n, -2**62)
        below = np.where(wanted < top, (wanted + 1) << n, 2**62)
        natural = [round(ratio * 2.0**n) for ratio in ratios]
        for a, b in ((natural[0] + i, natural[1] + j) for i in CHANGES for j in CHANGES):
            products = a * values[:, None] + b * values[None, :]
            least, most = int((above - products).max()), int((below - products).min()) - 1
            c = (max(least, -2**31) + min(most, 2**31)) // 2
            if least <= most and np.abs(products + c).max() < 2**31 and abs(c) < 2**31:
                return _Fit(a, b, c, n)
    return None


def _instructions(elements: int, fit: _Fit, room: tuple[int, int]) -> Iterator[str]:
    whole = elements // UNROLLED
    yield "push {r4-r11, lr}"
    for register, value in (("r3", fit.a), ("r4", fit.b), ("r5", fit.c)):
        yield from number(register, value & 0xFFFFFFFF)
    if whole:
        yield "mov r6, r0"
        yield from added("r6", whole * UNROLLED, "r7")
        yield f"{label('n')}:"
        for place in range(0, UNROLLED, 4):
            yield from _elements(place, 4, fit.n, room)
        yield from (f"adds r0, r0, #{UNROLLED}", f"adds r1, r1, #{UNROLLED}", f"adds r2, r2, #{UNROLLED}",
                    "cmp r0, r6", f"bne.w {label('n')}")
    for place in range(0, elements % UNROLLED, 4):
        yield from _elements(place, min(4, elements % UNROLLED - place), fit.n, room)
    yield "pop {r4-r11, pc}"


def _elements(place: int, count: int, n: int, room: tuple[int, int]) -> Iterator[str]:
    """Up to four elements, from `place` behind the pointers on."""
    sums = [f"r{7 + i}" for i in range(count)]
    for values, factor, start in (("r0", "r3", "r5"), ("r1", "r4", "")):
        for i, each in enumerate(sums):
            yield f"ldrsb r12, [{values}, #{place + i}]"
            yield f"mla {each}, {factor}, r12, {start or each}"
    yield from (f"ssat {each}, #8, {each}, asr #{n}" for each in sums)
    yield from limited(sums, "r12", room)
    yield from (f"strb {each}, [r2, #{place + i}]" for i, each in enumerate(sums))
