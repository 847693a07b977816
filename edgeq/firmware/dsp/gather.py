"""CONV_2D of any kernel: three pixels' windows are gathered into a block, then multiplied.

Scratch: one block (see product.py), and a patch of the window's size. What lies inside the input is
read where it is; a window across the border is first put together in the patch. Rows of a window are
read by words, up to three bytes beyond their end; their weights there are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.emitting import IMMEDIATE, added
from edgeq.firmware.dsp.layer import Layer, Window
from edgeq.firmware.dsp.product import PIXELS, Product, constants, mixable
from edgeq.firmware.kernel import Constant, Input, Kernel, Output, Routine, Scratch

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants, uint32_t *scratch"
OUT, STOP, END = range(0, 12, 4)  # places in the frame of the block's function
FRAME = 12
WRITTEN_OUT = 24  # words of a window that are gathered without a loop
ROW = 16  # words of a row that are
PATCH = """\
/* The {kh}x{kw} window whose first row and column are y and x, put together in `patch`. */
static const int8_t *@NAME@_patch(const int8_t *in, int32_t y, int32_t x, int8_t *patch) {{
  int8_t *to = patch;
  for (int32_t row = y; row < y + {kh}; row++) {{
    for (int32_t column = x; column < x + {kw}; column++) {{
      if (((uint32_t)row < {h}u) && ((uint32_t)column < {w}u)) {{
        const int8_t *from = &in[((row * {w}) + column) * {c}];
        for (uint32_t i = 0u; i < {c}u; i += {word}u) {{
          memcpy(&to[i], &from[i], {word}u);
        }}
      }} else {{
        for (uint32_t i = 0u; i < {c}u; i += {word}u) {{
          memset(&to[i], {zero}, {word}u);
        }}
      }}
      to += {c};
    }}
  }}
  return patch;
}}

"""
WITHIN = """\
      if (((uint32_t)y <= {inner_h}u) && ((uint32_t)x <= {inner_w}u)) {{
  {direct}      }} else {{
  {patched}      }}
"""
DIRECT = "      @NAME@_gather(&in[((y * {w}) + x) * {c}], &scratch[p], {row}u);\n"
PATCHED = ("      @NAME@_gather(@NAME@_patch(in, y, x, (int8_t *)&scratch[{packed}]), &scratch[p], "
           "{patch_row}u);\n")
DRIVER = """\
void @NAME@_gather(const int8_t *from, uint32_t *into, uint32_t row);
void @NAME@_block(int8_t *out, const uint32_t *constants, const uint32_t *block);

{patch}/* {h}x{w}x{c} -> {oh}x{ow}x{outputs} by {kh}x{kw}, strides {sy}x{sx}: three pixels at a time. */
void @NAME@({parameters}) {{
  for (int32_t next = 0; next < {pixels}; next += 3) {{
    const int32_t first = (next < {last}) ? next : {last};
    for (int32_t p = 0; p < 3; p++) {{
      const int32_t row = (first + p) / {ow};
      const int32_t y = (row * {sy}) - {top};
      const int32_t x = (((first + p) - (row * {ow})) * {sx}) - {left};
{gathered}    }}
    @NAME@_block(&out[first * {outputs}], constants, scratch);
  }}
}}
"""


def convolution(layer: Layer, window: Window) -> Kernel | None:
    """The convolution of `layer`, its inputs in the order of `window`; None for maps of one or two pixels."""
    pixels = window.sink[0] * window.sink[1]
    if pixels < PIXELS or layer.outputs < 2 or PIXELS * layer.outputs > IMMEDIATE:
        return None
    rows = _Rows(window)
    ordered = replace(layer, weights=rows.ordered(layer.weights))
    together = mixable(ordered.weights)
    product = Product(ordered, together, (OUT, END))
    routine = Routine("convolution", PARAMETERS, _driver(layer, window, product.steps),
                      function(_block(product), "_block") + function(rows.instructions(), "_gather"))
    words = Constant("convolution", constants(ordered, together=together))
    patch = 0 if _all_inside(window) else layer.inputs + 4
    return Kernel(routine, (Input(), Output(), words, Scratch()),
                  scratch=8 * PIXELS * product.steps + patch, over_read=3)


class _Rows:
    """How the rows of a window are gathered: whole words, and what is left of them.

    Where one byte of each of up to four rows is left, these make one word together.
    """

    def __init__(self, window: Window) -> None:
        self.count, self.bytes = window.kernel[0], window.kernel[1] * window.channels
        self.joined = self.bytes % 4 == 1 and self.count <= 4 and self.count * self.bytes // 4 <= WRITTEN_OUT
        self.words = self.bytes // 4 if self.joined else -(-self.bytes // 4)

    def ordered(self, weights: Array) -> Array:
        """Weights (outputs, rows * bytes) in the order that the block has the inputs in; zero elsewhere."""
        rows = weights.reshape(len(weights), self.count, self.bytes)
        filled = np.zeros((len(weights), self.count, 4 * self.words), np.int64)
        width = min(self.bytes, 4 * self.words)
        filled[:, :, :width] = rows[:, :, :width]
        flat = filled.reshape(len(weights), -1)
        tail: Array = np.zeros((len(weights), 4), np.int64)
        tail[:, :self.count] = rows[:, :, -1] if self.joined else 0
        return np.concatenate([flat, tail], 1) if self.joined else flat

    def instructions(self) -> Iterator[str]:
        """A function of (window, place in the block, bytes from a row to the next)."""
        yield from ("push {r4-r7, lr}", f"sub r2, r2, #{4 * self.words}")
        if self.count * self.words <= WRITTEN_OUT:
            for row in range(self.count):
                yield from self._words(self.words)
                if self.joined:
                    yield f"ldrsb r{4 + row}, [r0]"
                yield "add r0, r0, r2"
            if self.joined:
                yield from self._tail()
        else:
            yield from (f"mov r4, #{self.count}", f"{label('y')}:")
            yield from self._row()
            yield from ("add r0, r0, r2", "subs r4, r4, #1", f"bne.w {label('y')}")
        yield "pop {r4-r7, pc}"

    def _row(self) -> Iterator[str]:
        body = next(count for count in range(min(ROW, self.words), 0, -1) if self.words % count == 0)
        if body < self.words:
            yield from (f"movw r5, #{self.words // body}", f"{label('x')}:")
        yield from self._words(body)
        if body < self.words:
            yield from ("subs r5, r5, #1", f"bne {label('x')}")

    def _words(self, count: int) -> Iterator[str]:
        for _ in range(count):
            yield from ("ldr r3, [r0], #4", "sxtb16 r12, r3, ror #8", "sxtb16 r3, r3",
                        f"str r12, [r1, #{4 * PIXELS}]", f"str r3, [r1], #{8 * PIXELS}")

    def _tail(self) -> Iterator[str]:
        """The last bytes of the rows, as (x0, x2) and (x1, x3)."""
        yield "pkhbt r3, r4, r6, lsl #16" if self.count > 2 else "uxth r3, r4"
        yield "pkhbt r12, r5, r7, lsl #16" if self.count > 3 else "uxth r12, r5"
        yield from (f"str r12, [r1, #{4 * PIXELS}]", "str r3, [r1]")


def _block(product: Product) -> Iterator[str]:
    """A function of (output, constants, block)."""
    yield from ("push {r4-r11, lr}", f"sub sp, sp, #{FRAME}", f"str r0, [sp, #{OUT}]", "mov lr, r1",
                "mov r12, r2")
    yield from added("r0", product.pairs, "r3")
    yield f"str r0, [sp, #{STOP}]"
    yield from added("r2", 8 * PIXELS * product.steps, "r3")
    yield f"str r2, [sp, #{END}]"
    yield from product.instructions()
    yield from (f"add sp, sp, #{FRAME}", "pop {r4-r11, pc}")


def _all_inside(window: Window) -> bool:
    reached = [(after - 1) * stride + size <= before for before, after, stride, size in
               zip(window.source, window.sink, window.strides, window.kernel, strict=True)]
    return window.pads == (0, 0) and all(reached)


def _driver(layer: Layer, window: Window, steps: int) -> str:
    (h, w), (kh, kw), c = window.source, window.kernel, window.channels
    pixels = window.sink[0] * window.sink[1]
    values = {
        "h": h, "w": w, "c": c, "kh": kh, "kw": kw, "oh": window.sink[0], "ow": window.sink[1],
        "sy": window.strides[0], "sx": window.strides[1], "top": window.pads[0], "left": window.pads[1],
        "inner_h": h - kh, "inner_w": w - kw, "row": w * c, "patch_row": kw * c, "zero": layer.zero_point,
        "pixels": pixels, "last": pixels - PIXELS, "outputs": layer.outputs, "packed": 2 * PIXELS * steps,
        "word": 4 if c % 4 == 0 else 1, "parameters": PARAMETERS}
    direct, patched = DIRECT.format(**values), PATCHED.format(**values)
    gathered = patched if h < kh or w < kw else WITHIN.format(direct=direct, patched=patched, **values)
    if _all_inside(window):
        return DRIVER.format(patch="", gathered=direct, **values)
    return DRIVER.format(patch=PATCH.format(**values), gathered=gathered, **values)
