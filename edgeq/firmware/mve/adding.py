"""ADD and SUB of two int8 tensors of one shape: two products, a sum and a shift, eight elements at a time.

The one rule: the constants are proved over all 65,536 pairs of inputs. Where there are none, TFLM's own
steps are repeated.
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
from edgeq.graph import Quantization

PARAMETERS = "const int8_t *first, const int8_t *second, int8_t *out, const int32_t *constants"
HEADROOM = 20  # bits by which TFLite shifts int8 inputs to the left
VALUES = np.arange(-128, 128)
NEAR = sorted(itertools.product(range(-3, 4), range(-3, 4)), key=lambda each: abs(each[0]) + abs(each[1]))
FEWEST, DOWN = 8, 3  # fractional bits that are too few, and how many numbers of them are tried
FAR = 1 << 40  # beyond every sum


SCALED = {  # with a shift down, and without
    "down": """\
/* value * mantissa / 2^31, rounded, / 2^-shift, rounded, halves away from zero. */
static inline int32x4_t @NAME@_down(int32x4_t value, const int32_t *factor) {
  const int32x4_t high = vqrdmulhq_n_s32(value, factor[1]);
  return vrshlq_s32(vaddq_s32(high, vshrq_n_s32(high, 31)), vdupq_n_s32(factor[2]));
}

""",
    "whole": """\
/* value * mantissa / 2^31, rounded. */
static inline int32x4_t @NAME@_whole(int32x4_t value, const int32_t *factor) {
  return vqrdmulhq_n_s32(value, factor[1]);
}

"""}


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
    found, count = fitted(operation), sink.elements
    if found is None:
        return _exact(operation)
    text = function(_text(count, found))
    constants = Constant("addition", np.array([found.first, found.second, _halved(found)], np.int32))
    return Kernel(Routine(f"add_{count}", PARAMETERS, assembly=text),
                  (Input(0), Input(1), Output(), constants), over_read=-count % 8, in_place=(0, 1))


def reference(operation: Operation) -> Integers:
    """What TFLM computes of all pairs of inputs: (256, 256), from -128 on."""
    grids = _grids(operation)
    subtracted = operation.name == "SUB"
    one, two, outer = _factors(operation)
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
    wanted, limits = reference(operation), bounds(
        operation.option("fusedActivationFunction"), operation.sink.grid, "INT8")
    most = int(np.log2(2**31 / ((abs(ratios[0]) + abs(ratios[1])) * 256 + 300)))
    tries = [(min(most, NARROWEST), NEAR[:1]), *((n, NEAR) for n in range(most, most - DOWN, -1))]
    found = (_tried(wanted, ratios, limits, each) for each in tries if each[0] > FEWEST)
    return next((each for each in found if each is not None), None)


def _tried(wanted: Integers, ratios: tuple[float, float], limits: tuple[int, int],
           tries: tuple[int, list[tuple[int, int]]]) -> Addition | None:
    """An addition of `n` fractional bits with factors near the natural ones; `tries` are n and how near."""
    (low, high), (n, nears) = limits, tries
    above = np.where(wanted > low, wanted << n, -FAR)
    below = np.where(wanted < high, ((wanted + 1) << n) - 1, FAR)
    for near in nears:
        first, second = (round(ratio * 2**n) + each for ratio, each in zip(ratios, near, strict=True))
        sums = first * VALUES[:, None] + second * VALUES[None, :]
        least, most = int((above - sums).max()), int((below - sums).min())
        offset = min(max((least + most) // 2, -(2**30)), 2**30)
        if least <= offset <= most:
            return Addition(first, second, offset, n, low, high)
    return None


def _grids(operation: Operation) -> tuple[Quantization, Quantization, Quantization]:
    return operation.input(0).grid, operation.input(1).grid, operation.sink.grid


def _factors(operation: Operation) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """What the inputs and their sum are scaled by, as mantissas and shifts."""
    return (differing if operation.name == "SUB" else summing)(_grids(operation), HEADROOM)


def _exact(operation: Operation) -> Kernel | None:
    """Inputs shifted and scaled, their sum scaled: four elements at a time, in C."""
    factors, count = _factors(operation), operation.sink.elements
    if any(shift > 0 for _, shift in factors):
        return None
    low, high = bounds(operation.option("fusedActivationFunction"), operation.sink.grid, "INT8")
    zeros = (int(grid.zero_points[0]) for grid in _grids(operation))
    values = np.array([(zero, *factor) for zero, factor in zip(zeros, factors, strict=True)], np.int32)
    one, two, outer = ("down" if shift else "whole" for _, shift in factors)
    sign = "vsubq_s32" if operation.name == "SUB" else "vaddq_s32"
    text = f"""\
{"".join(SCALED[each] for each in dict.fromkeys((one, two, outer)))}\
static inline int32x4_t @NAME@_raised(int32x4_t value, const int32_t *factor) {{
  return vshlq_n_s32(vsubq_n_s32(value, factor[0]), {HEADROOM});
}}

/* {operation.name} of {count} elements. */
void @NAME@({PARAMETERS}) {{
  for (int32_t i = 0; i < {count}; i += 4) {{
    const mve_pred16_t some = vctp32q((uint32_t)({count} - i));
    const int32x4_t one = @NAME@_{one}(@NAME@_raised(vldrbq_z_s32(first + i, some), constants), constants);
    const int32_t *const other = constants + 3;
    const int32x4_t two = @NAME@_{two}(@NAME@_raised(vldrbq_z_s32(second + i, some), other), other);
    const int32x4_t sum = @NAME@_{outer}({sign}(one, two), constants + 6);
    const int32x4_t value = vmaxq_s32(vaddq_n_s32(sum, constants[6]), vdupq_n_s32({low}));
    vstrbq_p_s32(out + i, vminq_s32(value, vdupq_n_s32({high})), some);
  }}
}}
"""
    routine = Routine(f"{operation.name.lower()}_exact", PARAMETERS, text, headers=("arm_mve.h",))
    return Kernel(routine, (Input(0), Input(1), Output(), Constant("addition", values)), in_place=(0, 1))


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
    yield from ("vldrb.s32 q1, [r0, #4]", "vldrb.s32 q0, [r0], #8",
                "vmlas.s32 q0, q3, r6", "vmlas.s32 q1, q3, r6",
                "vldrb.s32 q2, [r1], #4", "vmla.s32 q0, q2, r5",
                "vldrb.s32 q2, [r1], #4", "vmla.s32 q1, q2, r5")
    narrow = min(found.n, NARROWEST)
    if found.n > narrow:
        yield from (f"vshr.s32 q0, q0, #{found.n - narrow}", f"vshr.s32 q1, q1, #{found.n - narrow}")
    yield from (f"vqrshrnb.s32 q0, q0, #{narrow}", f"vqrshrnt.s32 q0, q1, #{narrow}", "vqmovnb.s16 q0, q0")
    if found.low > -128:
        yield "vmax.s8 q0, q0, q5"
    if found.high < 127:
        yield "vmin.s8 q0, q0, q6"
