"""AVERAGE_POOL_2D, MAX_POOL_2D and MEAN over the image, channel by channel in vectors: C with intrinsics.

The one rule: sums are kept in 16 bits where no window can leave them, else in 32.
"""

from __future__ import annotations

from edgeq.firmware.arithmetic import bounds
from edgeq.firmware.kernel import Input, Kernel, Operation, Output, Routine
from edgeq.firmware.mve.layer import Axis, padded
from edgeq.firmware.portable.reduction import averaging
from edgeq.graph import values_of

HEADERS = ("arm_mve.h",)
PARAMETERS = "const int8_t *in, int8_t *out"
SHORT = 255  # values of 8 bits whose sum is within 16 bits
IMAGE = {1, 2}  # the axes of an image's rows and columns


def average(operation: Operation) -> Kernel | None:
    """AVERAGE_POOL_2D of one int8 image."""
    axes = _axes(operation)
    if axes is None:
        return None
    low, high = bounds(operation.option("fusedActivationFunction"), operation.sink.grid, "INT8")
    value = "(sum > 0 ? sum + count / 2 : sum - count / 2) / count"
    return _summed(operation, axes, "average", f"eq_clamped({value}, {low}, {high})")


def mean(operation: Operation) -> Kernel | None:
    """MEAN of one int8 image over its rows and columns."""
    shape, axes = operation.source.shape, operation.input(1)
    if len(shape) != 4 or shape[0] != 1 or not axes.constant or not _int8(operation):
        return None
    if {int(axis) % 4 for axis in values_of(axes).reshape(-1)} != IMAGE:
        return None
    source, sink = operation.grids
    count = shape[1] * shape[2]
    mantissa, shift = averaging(source, sink, count)
    value = (f"eq_scaled(sum - ({int(source.zero_points[0]) * count}), {mantissa}, {shift})"
             f" + ({int(sink.zero_points[0])})")
    whole = Axis(shape[1], 1, shape[1], 1, 0), Axis(shape[2], 1, shape[2], 1, 0)
    return _summed(operation, whole, "mean", f"eq_clamped({value}, -128, 127)")


def most(operation: Operation) -> Kernel | None:
    """MAX_POOL_2D of one int8 image."""
    axes = _axes(operation)
    if axes is None:
        return None
    channels = operation.source.shape[3]
    low, high = bounds(operation.option("fusedActivationFunction"), operation.sink.grid, "INT8")
    body = f"""\
      for (int32_t c = 0; c < {channels}; c += 16) {{
        const mve_pred16_t some = vctp8q((uint32_t)({channels} - c));
        int8x16_t found = vdupq_n_s8({low});
        for (int32_t y = top; y < bottom; y++) {{
          const int8_t *from = in + (y * {axes[1].size} + left) * {channels} + c;
          for (int32_t x = left; x < right; x++) {{
            found = vmaxq_s8(found, vld1q_z_s8(from, some));
            from += {channels};
          }}
        }}
        vst1q_p_s8(out + c, vminq_s8(found, vdupq_n_s8({high})), some);
      }}
"""
    return _kernel(operation, axes, "max", body)


def _summed(operation: Operation, axes: tuple[Axis, Axis], what: str, value: str) -> Kernel:
    """A kernel that stores the `value` that C makes of `sum` and `count`."""
    channels, taps = operation.source.shape[3], axes[0].taps * axes[1].taps
    bits = 16 if taps <= SHORT else 32
    lanes, counted = 128 // bits, "count" in value
    count = "      const int32_t count = (bottom - top) * (right - left);\n" if counted else ""
    body = f"""\
{count}      for (int32_t c = 0; c < {channels}; c += {lanes}) {{
        const int32_t lanes = {channels} - c < {lanes} ? {channels} - c : {lanes};
        const mve_pred16_t some = vctp{bits}q((uint32_t)lanes);
        int{bits}x{lanes}_t total = vdupq_n_s{bits}(0);
        int{bits}_t sums[{lanes}];
        for (int32_t y = top; y < bottom; y++) {{
          const int8_t *from = in + (y * {axes[1].size} + left) * {channels} + c;
          for (int32_t x = left; x < right; x++) {{
            total = vaddq_s{bits}(total, vldrbq_z_s{bits}(from, some));
            from += {channels};
          }}
        }}
        vst1q_s{bits}(sums, total);
        for (int32_t i = 0; i < lanes; i++) {{
          const int32_t sum = sums[i];
          out[c + i] = (int8_t){value};
        }}
      }}
"""
    return _kernel(operation, axes, what, body)


def _kernel(operation: Operation, axes: tuple[Axis, Axis], what: str, body: str) -> Kernel:
    """A kernel that does `body` for every output pixel, its window cut off at the borders."""
    down, across = axes
    channels = operation.source.shape[3]
    text = f"""\
/* {what} of {down.taps} x {across.taps}: {down.size} x {across.size} x {channels} to \
{down.outputs} x {across.outputs} x {channels}. */
void @NAME@({PARAMETERS}) {{
  for (int32_t line = 0; line < {down.outputs}; line++) {{
    const int32_t y0 = {down.origin("line")};
    const int32_t top = y0 < 0 ? 0 : y0;
    const int32_t bottom = y0 + {down.taps} > {down.size} ? {down.size} : y0 + {down.taps};
    for (int32_t column = 0; column < {across.outputs}; column++) {{
      const int32_t x0 = {across.origin("column")};
      const int32_t left = x0 < 0 ? 0 : x0;
      const int32_t right = x0 + {across.taps} > {across.size} ? {across.size} : x0 + {across.taps};
{body}      out += {channels};
    }}
  }}
}}
"""
    return Kernel(Routine(f"{what}_pool", PARAMETERS, text, headers=HEADERS), (Input(), Output()))


def _axes(operation: Operation) -> tuple[Axis, Axis] | None:
    source, sink = operation.grids
    same = source.zero_points[0] == sink.zero_points[0] and source.scales[0] == sink.scales[0]
    if operation.source.shape[0] != 1 or not same or not _int8(operation):
        return None
    return padded(operation, (operation.option("filterHeight"), operation.option("filterWidth")))


def _int8(operation: Operation) -> bool:
    return operation.source.dtype == operation.sink.dtype == "INT8"
