"""Depthwise convolutions that depthwise.py leaves: windows of any size, dilated, any number of channels.

The one rule: it takes whatever has one output a channel, so the arithmetic is TFLM's own, step by step:
eight channels in a vector of 16 bits, products of even and of odd ones in 32, taps outside left out.
"""

from __future__ import annotations

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output, Routine
from edgeq.firmware.mve.layer import Axis, Layer, integers, layer, padded, suits

LANES = 8
PARAMETERS = "const int8_t *in, int8_t *out, const int8_t *weights, const int32_t *rows"


def by_channels(operation: Operation) -> Kernel | None:
    """DEPTHWISE_CONV_2D of one image with one output a channel."""
    channels, taps = operation.source.shape[3], operation.input(1).shape[1:3]
    if not suits(operation) or operation.source.shape[0] != 1 or channels != operation.sink.shape[3]:
        return None
    found = layer(operation, integers(operation.input(1))[0].transpose(2, 0, 1))
    if found is None:
        return None
    dilations = (operation.option("dilationHFactor"), operation.option("dilationWFactor"))
    reach = [(tap - 1) * dilation + 1 for tap, dilation in zip(taps, dilations, strict=True)]
    axes = padded(operation, (reach[0], reach[1]))
    missing = -channels % LANES
    weights = np.pad(found.weights.reshape(channels, -1).T, ((0, 0), (0, missing))).astype(np.int8)
    routine = Routine(f"depthwise_{taps[0]}x{taps[1]}", PARAMETERS, _text(axes, dilations, found),
                      headers=("arm_mve.h",))
    rows = Constant("rows", _rows(found, missing))
    return Kernel(routine, (Input(), Output(), Constant("weights", weights), rows), over_read=missing)


def _rows(found: Layer, missing: int) -> Array:
    """Bias, left shift, mantissa and right shift: of eight channels, the even ones and then the odd ones."""
    sums = found.sums
    bias = sums.bias + found.border * found.weights.reshape(len(found.weights), -1).sum(1)
    rows = np.stack([bias, np.maximum(sums.shifts, 0), sums.mantissas, np.minimum(sums.shifts, 0)])
    blocks = np.pad(rows, ((0, 0), (0, missing))).reshape(4, -1, LANES // 2, 2)
    return np.ascontiguousarray(blocks.transpose(1, 0, 3, 2)).astype(np.int32)


def _text(axes: tuple[Axis, Axis], dilations: tuple[int, int], found: Layer) -> str:
    (down, across), sums, channels = axes, found.sums, len(found.weights)
    row = across.size * channels
    steps = dilations[0] * row, dilations[1] * channels
    lanes = -(-channels // LANES) * LANES
    taps = found.weights.shape[2]
    return f"""\
/* Four sums, shifted to the left, times mantissas, shifted to the right; halves away from zero. */
static inline int32x4_t @NAME@_scaled(int32x4_t sums, const int32_t *row) {{
  const int32x4_t shift = vld1q_s32(row + 24);
  const int32x4_t high = vqrdmulhq_s32(vshlq_s32(sums, vld1q_s32(row + 8)), vld1q_s32(row + 16));
  const int32x4_t sign = vshrq_n_s32(vandq_s32(high, shift), 31);
  return vrshlq_s32(vaddq_s32(high, sign), shift);
}}

/* Depthwise {found.weights.shape[1]} x {taps}: {down.size} x {across.size} x {channels} to \
{down.outputs} x {across.outputs} x {channels}. */
void @NAME@({PARAMETERS}) {{
  for (int32_t line = 0; line < {down.outputs}; line++) {{
{_inside("y", "line", down, dilations[0])}\
    for (int32_t column = 0; column < {across.outputs}; column++) {{
{_inside("x", "column", across, dilations[1])}\
      const int32_t corner_y = y0 + y_first * {dilations[0]};
      const int8_t *corner = in + corner_y * {row} + (x0 + x_first * {dilations[1]}) * {channels};
      const int32_t *block = rows;
      for (int32_t c = 0; c < {channels}; c += {LANES}) {{
        const mve_pred16_t some = vctp16q((uint32_t)({channels} - c));
        int32x4_t even = vld1q_s32(block);
        int32x4_t odd = vld1q_s32(block + 4);
        for (int32_t y = y_first; y < y_last; y++) {{
          const int8_t *from = corner + (y - y_first) * {steps[0]} + c;
          const int8_t *weight = weights + (y * {taps} + x_first) * {lanes} + c;
          for (int32_t x = x_first; x < x_last; x++) {{
            const int16x8_t value = vaddq_n_s16(vldrbq_s16(from), {-found.border});
            const int16x8_t factor = vldrbq_s16(weight);
            even = vaddq_s32(even, vmullbq_int_s16(value, factor));
            odd = vaddq_s32(odd, vmulltq_int_s16(value, factor));
            from += {steps[1]};
            weight += {lanes};
          }}
        }}
        int16x8_t found = vqmovntq_s32(vqmovnbq_s32(vdupq_n_s16(0), @NAME@_scaled(even, block)),
                                       @NAME@_scaled(odd, block + 4));
        found = vqaddq_n_s16(found, {sums.zero_point});
        found = vminq_s16(vmaxq_s16(found, vdupq_n_s16({sums.low})), vdupq_n_s16({sums.high}));
        vstrbq_p_s16(out + c, found, some);
        block += {4 * LANES};
      }}
      out += {channels};
    }}
  }}
}}
"""


def _inside(name: str, output: str, axis: Axis, dilation: int) -> str:
    """C that finds a window's origin, and its first and last tap inside the image."""
    taps = (axis.taps - 1) // dilation + 1
    origin, room = f"{name}0", f"({axis.size} - {name}0 + {dilation - 1}) / {dilation}"
    return (f"    const int32_t {origin} = {axis.origin(output)};\n"
            f"    const int32_t {name}_first = {origin} < 0 ? ({dilation - 1} - {origin}) / {dilation} : 0;\n"
            f"    const int32_t {name}_last = {room} < {taps} ? {room} : {taps};\n")
