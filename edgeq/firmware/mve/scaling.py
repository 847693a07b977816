"""MUL of two int8 tensors of one shape, or of one with a factor for each of its channels: C with intrinsics.

The one rule: TFLM's own steps, in 32 bits, four elements at a time.
"""

from __future__ import annotations

from edgeq.firmware.arithmetic import bounds, multiplier
from edgeq.firmware.kernel import Argument, Input, Kernel, Operation, Output, Routine
from edgeq.graph import Tensor

PARAMETERS = "const int8_t *first, const int8_t *second, int8_t *out"


def multiplication(operation: Operation) -> Kernel | None:
    """MUL of int8 tensors; either may be a constant, and either may have channels alone."""
    one, two, sink = operation.input(0), operation.input(1), operation.sink
    if any(each.dtype != "INT8" for each in (one, two, sink)):
        return None
    places = (0, 1) if one.shape == sink.shape else (1, 0)
    whole, other = operation.input(places[0]), operation.input(places[1])
    if whole.shape != sink.shape or not (other.shape == sink.shape or _channels(other, sink)):
        return None
    line = sink.elements if other.shape == sink.shape else sink.shape[-1]
    text = _text(operation, places, line)
    routine = Routine(f"mul_{sink.elements}", PARAMETERS, text, headers=("arm_mve.h",))
    arguments: tuple[Argument, ...] = (Input(places[0]), Input(places[1]), Output())
    return Kernel(routine, arguments, in_place=(places[0],))


def _channels(tensor: Tensor, sink: Tensor) -> bool:
    """Whether a tensor has a value for each of the channels of `sink`, and no more."""
    return bool(tensor.shape) and tensor.shape[-1] == sink.shape[-1] == tensor.elements


def _text(operation: Operation, places: tuple[int, int], line: int) -> str:
    """A loop over lines, each times the same `line` values."""
    grids, sink = [operation.input(place).grid for place in places], operation.sink
    zeros = [int(grid.zero_points[0]) for grid in grids]
    scales = [float(operation.input(place).grid.scales[0]) for place in (0, 1)]
    mantissa, shift = multiplier(scales[0] * scales[1] / float(sink.grid.scales[0]))
    low, high = bounds(operation.option("fusedActivationFunction"), sink.grid, "INT8")
    value = f"vqrdmulhq_n_s32(vshlq_n_s32(vmulq_s32(a, b), {max(shift, 0)}), {mantissa})"
    signed = "vaddq_s32(high, vshrq_n_s32(high, 31))"
    down = f"vrshlq_s32({signed}, vdupq_n_s32({shift}))" if shift < 0 else "high"
    return f"""\
/* {sink.elements // line} times {line} products. */
void @NAME@({PARAMETERS}) {{
  for (int32_t line = 0; line < {sink.elements // line}; line++) {{
    for (int32_t i = 0; i < {line}; i += 4) {{
      const mve_pred16_t some = vctp32q((uint32_t)({line} - i));
      const int32x4_t a = vsubq_n_s32(vldrbq_z_s32(first + i, some), {zeros[0]});
      const int32x4_t b = vsubq_n_s32(vldrbq_z_s32(second + i, some), {zeros[1]});
      const int32x4_t high = {value};
      const int32x4_t raw = vaddq_n_s32({down}, {int(sink.grid.zero_points[0])});
      const int32x4_t value = vminq_s32(vmaxq_s32(raw, vdupq_n_s32({low})), vdupq_n_s32({high}));
      vstrbq_p_s32(out + i, value, some);
    }}
    first += {line};
    out += {line};
  }}
}}
"""
