"""CONV_2D of any kernel: three pixels' windows are gathered into a block, then multiplied.

Scratch: one block (see product.py), and a patch of the window's size. What lies inside the input is
read where it is; a window across the border is first put together in the patch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgeq.firmware.assembly import function
from edgeq.firmware.dsp.emitting import IMMEDIATE, added
from edgeq.firmware.dsp.gather import Rows
from edgeq.firmware.dsp.layer import Layer, Window
from edgeq.firmware.dsp.product import PIXELS, Product, constants, mixable
from edgeq.firmware.kernel import Constant, Input, Kernel, Output, Routine, Scratch

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants, uint32_t *scratch"
OUT, STOP, END = range(0, 12, 4)  # places in the frame of the block's function
FRAME = 12
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
  {direct}    }} else {{
  {patched}    }}
"""
DIRECT = "    @NAME@_gather(&in[((y * {w}) + x) * {c}], &block[p], {row}u);\n"
PATCHED = ("    @NAME@_gather(@NAME@_patch(in, y, x, (int8_t *)&block[{packed}]), &block[p], "
           "{patch_row}u);\n")
APART = """\
/* Three windows, from that of pixel `first` on, wherever they are. */
static void @NAME@_apart(const int8_t *in, int32_t first, uint32_t *block) {{
  for (int32_t p = 0; p < 3; p++) {{
    const int32_t row = (first + p) / {ow};
    const int32_t y = (row * {sy}) - {top};
    const int32_t x = (((first + p) - (row * {ow})) * {sx}) - {left};
{gathered}  }}
}}

"""
THREES = """\
    const int32_t row = first / {ow};
    const int32_t column = first - (row * {ow});
    const int32_t y = (row * {sy}) - {top};
    const int32_t x = (column * {sx}) - {left};
    if (((uint32_t)y <= {inner_h}u) && ((uint32_t)x <= {inner_threes}u) && (column <= {last_threes})) {{
      @NAME@_threes(&in[((y * {w}) + x) * {c}], scratch);
    }} else {{
      @NAME@_apart(in, first, scratch);
    }}
"""
ALL_APART = "    @NAME@_apart(in, first, scratch);\n"
DRIVER = """\
void @NAME@_gather(const int8_t *from, uint32_t *into, uint32_t row);
void @NAME@_threes(const int8_t *from, uint32_t *block);
void @NAME@_block(int8_t *out, const uint32_t *constants, const uint32_t *block);

{patch}{apart}\
/* {h}x{w}x{c} -> {oh}x{ow}x{outputs} by {kh}x{kw}, strides {sy}x{sx}: three pixels at a time. */
void @NAME@({parameters}) {{
  for (int32_t next = 0; next < {pixels}; next += 3) {{
    const int32_t first = (next < {last}) ? next : {last};
{threes}    @NAME@_block(&out[first * {outputs}], constants, scratch);
  }}
}}
"""


def convolution(layer: Layer, window: Window) -> Kernel | None:
    """The convolution of `layer` over `window`; None for maps of one or two pixels."""
    pixels = window.sink[0] * window.sink[1]
    if pixels < PIXELS or layer.outputs < 2 or PIXELS * layer.outputs > IMMEDIATE:
        return None
    rows = Rows(window)
    ordered = replace(layer, weights=rows.ordered(layer.weights))
    together = mixable(ordered.weights)
    product = Product(ordered, together, (OUT, END))
    assembly = function(_block(product), "_block") + function(rows.one(), "_gather")
    if rows.threes:
        assembly += function(rows.three(), "_threes")
    routine = Routine("convolution", PARAMETERS, _driver(layer, rows, product.steps), assembly)
    words = Constant("convolution", constants(ordered, together=together))
    patch = 0 if _all_inside(window) else layer.inputs + 4
    return Kernel(routine, (Input(), Output(), words, Scratch()),
                  scratch=8 * PIXELS * product.steps + patch, over_read=3)


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


def _driver(layer: Layer, rows: Rows, steps: int) -> str:
    window = rows.window
    (h, w), (kh, kw), c = window.source, window.kernel, window.channels
    pixels = window.sink[0] * window.sink[1]
    values = {
        "h": h, "w": w, "c": c, "kh": kh, "kw": kw, "oh": window.sink[0], "ow": window.sink[1],
        "sy": window.strides[0], "sx": window.strides[1], "top": window.pads[0], "left": window.pads[1],
        "inner_h": h - kh, "inner_w": w - kw, "row": w * c, "patch_row": kw * c, "zero": layer.zero_point,
        "pixels": pixels, "last": pixels - PIXELS, "outputs": layer.outputs, "packed": 2 * PIXELS * steps,
        "inner_threes": w - kw - 2 * window.strides[1], "last_threes": window.sink[1] - PIXELS,
        "word": 4 if c % 4 == 0 else 1, "parameters": PARAMETERS}
    direct, patched = DIRECT.format(**values), PATCHED.format(**values)
    gathered = patched if h < kh or w < kw else WITHIN.format(direct=direct, patched=patched, **values)
    if _all_inside(window):
        gathered = direct
    return DRIVER.format(patch="" if _all_inside(window) else PATCH.format(**values),
                         apart=APART.format(gathered=gathered, **values),
                         threes=(THREES if rows.threes else ALL_APART).format(**values), **values)
