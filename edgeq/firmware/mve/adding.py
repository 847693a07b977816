"""ADD and SUB of two int8 tensors of one shape: two products, a sum and a shift, eight elements at a time.

The one rule: the constants are proved over all 65,536 pairs of inputs; without such constants there is no
kernel here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.arithmetic import bounds, scaled
from edgeq.firmware.assembly import function, label
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output, Routine
from edgeq.firmware.mve.requantize import NARROWEST
from edgeq.firmware.portable.elementwise import differing, summing

PARAMETERS = "const int8_t *first, const int8_t *second, int8_t *out, const int32_t *constants"
HEADROOM = 20  # bits by which TFLite shifts int8 inputs to the left
VALUES = np.arange(-128, 128)
NEAR = sorted(itertools.product(range(-6, 7), repeat=2), key=lambda each: abs(each[0]) + abs(each[1]))
FEWEST = 8  # fractional bits


@dataclass(frozen=True)
class Addition:
    """int8 = (x1 * first + x2 * second + offset) >> n, within low .. high; nothing overflows."""

    first: int
    second: int
    offset: int
    n: int
    low: int
    high: int

    def outputs(self, one: Array, two: Array) -> Integers:
        """What a machine makes of inputs."""
        found: Integers = np.clip((one * self.first + two * self.second + self.offset) >> self.n,
                                  self.low, self.high)
        return found


def addition(operation: Operation) -> Kernel | None:
    """ADD or SUB of int8 tensors of the same shape, either of which may be a constant."""
    one, two, sink = operation.input(0), operation.input(1), operation.sink
    if any(each.dtype != "INT8" or each.shape != sink.shape for each in (one, two, sink)):
        return None
    found = fitted(operation)
    if found is None:
        return None
    count = sink.elements
    text = function(_text(count, found))
    constants = Constant("addition", np.array([found.first, found.second, _halved(found)], np.int32))
    return Kernel(Routine(f"add_{count}", PARAMETERS, assembly=text),
                  (Input(0), Input(1), Output(), constants), over_read=-count % 8, in_place=(0, 1))


def reference(operation: Operation) -> Integers:
    """What TFLM computes of all pairs of inputs: (256, 256), from -128 on."""
    grids = operation.input(0).grid, operation.input(1).grid, operation.sink.grid
    subtracted = operation.name == "SUB"
    one, two, outer = (differing if subtracted else summing)(grids, HEADROOM)
    left, right = (scaled((VALUES - int(grid.zero_points[0])) << HEADROOM, *factor)
                   for grid, factor in zip(grids[:2], (one, two), strict=True))
    sums = left[:, None] + (-right if subtracted else right)[None, :]
    low, high = bounds(operation.option("fusedActivationFunction"), operation.sink.grid, "INT8")
    found: Integers = np.clip(scaled(sums, *outer) + int(operation.sink.grid.zero_points[0]), low, high)
    return found


def fitted(operation: Operation) -> Addition | None:
    """The addition that gives the reference for every pair, or None."""
    scales = [float(each.grid.scales[0]) for each in (operation.input(0), operation.input(1), operation.sink)]
    ratios = scales[0] / scales[2], scales[1] / scales[2] * (-1 if operation.name == "SUB" else 1)
    wanted = reference(operation)
    limits = bounds(operation.option("fusedActivationFunction"), operation.sink.grid, "INT8")
    most = int(np.log2(2**31 / ((abs(ratios[0]) + abs(ratios[1])) * 256 + 300)))
    for n in (*range(min(most, NARROWEST), FEWEST, -1), *range(NARROWEST + 1, most + 1)):
        found = _tried(wanted, ratios, n, limits)
        if found is not None:
            return found
    return None


def _tried(wanted: Integers, ratios: tuple[float, float], n: int, limits: tuple[int, int]) -> Addition | None:
    low, high = limits
    natural = [round(ratio * 2**n) for ratio in ratios]
    for near in NEAR:
        first, second = natural[0] + near[0], natural[1] + near[1]
        sums = first * VALUES[:, None] + second * VALUES[None, :]
        least = ((wanted << n) - sums)[wanted > low].max(initial=-(2**31))
        most = (((wanted + 1) << n) - 1 - sums)[wanted < high].min(initial=2**31 - 1)
        if least <= most:
            return Addition(first, second, int(least + most) // 2, n, low, high)
    return None


def _halved(found: Addition) -> int:
    """The offset for shifts that round (see requantize.py)."""
    return found.offset - (1 << found.n >> 1)


def _text(count: int, found: Addition) -> Iterator[str]:
    """r0, r1 and r2 go along; q4 has the places of a vector's bytes, q5 and q6 the limits."""
    loop, full, rest = label("add"), count // 8, count % 8
    yield from ("push {r4-r7, lr}", "vpush {d8-d13}", "ldm r3, {r4, r5, r6}", "vdup.32 q3, r4",
                f"adr r7, {label('places')}", "vldrh.u16 q4, [r7]", f"mov r4, #{found.low}", "vdup.8 q5, r4",
                f"mov r4, #{found.high}", "vdup.8 q6, r4")
    if full:
        yield from (f"ldr r4, ={full}", "dls lr, r4", f"{loop}:", *_eight(found), "vstrb.16 q0, [r2, q4]",
                    "adds r2, r2, #8", f"le lr, {loop}")
    if rest:
        yield from (*_eight(found), f"movs r4, #{rest}", "vpt.s16 lt, q4, r4", "vstrbt.16 q0, [r2, q4]")
    yield from ("vpop {d8-d13}", "pop {r4-r7, pc}", ".balign 4", f"{label('places')}:",
                ".short " + ", ".join(str(i // 2 + i % 2 * 4) for i in range(8)))


def _eight(found: Addition) -> Iterator[str]:
    """Elements 0 to 3 by q0, 4 to 7 by q1, then all of them in the even bytes of q0."""
    yield from ("vldrb.s32 q1, [r0, #4]", "vldrb.s32 q0, [r0], #8", "vmlas.s32 q0, q3, r6", "vmlas.s32 q1, q3, r6",
                "vldrb.s32 q2, [r1], #4", "vmla.s32 q0, q2, r5", "vldrb.s32 q2, [r1], #4", "vmla.s32 q1, q2, r5")
    narrow = min(found.n, NARROWEST)
    if found.n > narrow:
        yield from (f"vshr.s32 q0, q0, #{found.n - narrow}", f"vshr.s32 q1, q1, #{found.n - narrow}")
    yield from (f"vqrshrnb.s32 q0, q0, #{narrow}", f"vqrshrnt.s32 q0, q1, #{narrow}", "vqmovnb.s16 q0, q0")
    if found.low > -128:
        yield "vmax.s8 q0, q0, q5"
    if found.high < 127:
        yield "vmin.s8 q0, q0, q6"
