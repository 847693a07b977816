"""DEPTHWISE_CONV_2D of any kernel, stride and dilation: four channels of a pixel at a time, tap by tap.

Scratch: a patch of four channels of a window, for the windows that reach across the border. The constants
hold, for each four channels, two words a tap, the weights of channels (0, 2) and of (1, 3) as pairs of 16
bits, then the constants of their requantization.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.layer import Layer, Window
from edgeq.firmware.kernel import Constant, Input, Kernel, Output, Routine, Scratch

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants, uint32_t *scratch"
CHANNELS = 4
LOOP_FREE = 25  # taps that are written out
SUMS, HELD, SPARE = ("r4", "r5", "r6", "r7"), ("r8", "r9", "r10", "r11"), "r12"
DRIVER = """\
void @NAME@_taps(const int8_t *from, int8_t *out, const uint32_t *constants, int32_t beside, int32_t below);

/* Four channels of the window whose first row and column are y and x, put together in `patch`. */
static const int8_t *@NAME@_patch(const int8_t *in, int32_t y, int32_t x, int8_t *patch) {{
  int8_t *to = patch;
  for (int32_t row = y; row <= y + {last_row}; row += {dy}) {{
    for (int32_t column = x; column <= x + {last_column}; column += {dx}) {{
      if (((uint32_t)row < {h}u) && ((uint32_t)column < {w}u)) {{
        memcpy(to, &in[((row * {w}) + column) * {c}], 4u);
      }} else {{
        memset(to, {zero}, 4u);
      }}
      to += 4;
    }}
  }}
  return patch;
}}

/* {h}x{w}x{c} -> {oh}x{ow}, {kh}x{kw} taps, strides {sy}x{sx}, dilated {dy}x{dx}: four channels at a time. */
void @NAME@({parameters}) {{
  const uint32_t *weights = constants;
  for (int32_t group = 0; group < {c}; group += 4) {{
    int8_t *to = &out[group];
    for (int32_t y = -{top}; y <= {last_y}; y += {sy}) {{
      for (int32_t x = -{left}; x <= {last_x}; x += {sx}) {{
        if ((y >= 0) && (y <= {inner_h}) && (x >= 0) && (x <= {inner_w})) {{
          @NAME@_taps(&in[(((y * {w}) + x) * {c}) + group], to, weights, {beside}, {below});
        }} else {{
          @NAME@_taps(@NAME@_patch(&in[group], y, x, (int8_t *)scratch), to, weights, 4, 0);
        }}
        to += {c};
      }}
    }}
    weights = &weights[{words}];
  }}
}}
"""


def taps(layer: Layer, window: Window) -> Kernel | None:
    """The depthwise convolution of `layer`, weights (channels, taps); None unless channels come in fours."""
    if window.channels % CHANNELS or window.channels != layer.outputs:
        return None
    words = _constants(layer)
    routine = Routine("taps", PARAMETERS, _driver(layer, window, words.shape[1]),
                      function(_instructions(layer, window), "_taps"))
    return Kernel(routine, (Input(), Output(), Constant("taps", words), Scratch()), scratch=4 * layer.inputs)


def _constants(layer: Layer) -> Array:
    """(groups, words)."""
    groups = layer.weights.reshape(-1, CHANNELS, layer.inputs) & 0xFFFF
    pairs = np.stack([groups[:, 0] | groups[:, 2] << 16, groups[:, 1] | groups[:, 3] << 16], 2)
    words: Array = np.concatenate([pairs.astype(np.uint32).reshape(len(groups), -1),
                                   layer.requantization.words.reshape(len(groups), -1)], 1)
    return words


def _instructions(layer: Layer, window: Window) -> Iterator[str]:
    """The function of (window, output, constants, bytes to the next column, and from a row's end on)."""
    way, (rows, columns) = layer.requantization, window.kernel
    yield from ("push {r4-r11, lr}", "ldr r12, [sp, #36]", *(f"mov {each}, #0" for each in SUMS))
    looped = rows * columns > LOOP_FREE
    if looped:
        yield from (f"movw lr, #{rows}", f"{label('y')}:")
    for _ in range(1 if looped else rows):
        for _ in range(columns):
            yield from _tap()
        yield "add r0, r0, r12"
    if looped:
        yield from ("subs lr, lr, #1", f"bne.w {label('y')}")
    for each in SUMS:
        yield way.loaded("r2", HELD)
        yield from way.instructions([each], HELD, [SPARE])
        yield f"strb {each}, [r1], #1"
    yield "pop {r4-r11, pc}"


def _tap() -> Iterator[str]:
    """Four channels of an input times their weights."""
    yield from ("ldr r10, [r0]", "add r0, r0, r3", "ldrd r8, r9, [r2], #8", "sxtb16 r11, r10",
                "sxtb16 r10, r10, ror #8")
    for i, halves in ((0, "bb"), (2, "tt")):
        yield f"smla{halves} {SUMS[i]}, r11, r8, {SUMS[i]}"
        yield f"smla{halves} {SUMS[i + 1]}, r10, r9, {SUMS[i + 1]}"


def _driver(layer: Layer, window: Window, words: int) -> str:
    (h, w), (kh, kw), (oh, ow) = window.source, window.kernel, window.sink
    (sy, sx), (dy, dx), (top, left), c = window.strides, window.dilations, window.pads, window.channels
    return DRIVER.format(
        h=h, w=w, c=c, oh=oh, ow=ow, kh=kh, kw=kw, sy=sy, sx=sx, dy=dy, dx=dx, top=top, left=left,
        last_row=(kh - 1) * dy, last_column=(kw - 1) * dx, last_y=(oh - 1) * sy - top,
        last_x=(ow - 1) * sx - left, inner_h=h - 1 - (kh - 1) * dy, inner_w=w - 1 - (kw - 1) * dx,
        beside=dx * c, below=(dy * w - kw * dx) * c, words=words, zero=layer.zero_point,
        parameters=PARAMETERS)
