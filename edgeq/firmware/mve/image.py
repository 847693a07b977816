"""The C around a product that slides over an image: what is inside goes as it lies, borders are made up.

The one rule: no row is copied that lies inside the input. Windows that hang over its border are made in
a patch, two at a time; or, where a patch would be large, their taps are pointed at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.firmware.mve.layer import Axis
from edgeq.firmware.mve.multiply import run
from edgeq.firmware.mve.product import VECTOR, Product
from edgeq.firmware.mve.requantize import Form

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants"
LARGE, SHARE = 1024, 25  # bytes of a patch, and their part of input and output, that are too many


@dataclass(frozen=True)
class Image:
    """Windows over an image of `channels`, with `border` around it, to `outputs` channels."""

    down: Axis
    across: Axis
    channels: int
    outputs: int
    border: int
    form: Form

    @property
    def product(self) -> Product:
        """The product that windows inside go through, and those of a patch."""
        across, channels = self.across, self.channels
        most = across.last - across.first if self.pointed else across.outputs
        return Product(self.down.taps, across.taps * channels, across.stride * channels, self.outputs,
                       aligned=channels % 4 == 0, pairs=most > 1, single=most % 2 == 1, form=self.form)

    @property
    def tapped(self) -> Product:
        """The product of a window whose taps are pointed at; its weights lie as those of `product`."""
        return Product(self.down.taps * self.across.taps, self.channels, 0, self.outputs, aligned=True,
                       pairs=False, single=True, form=self.form)

    @property
    def whole(self) -> bool:
        """Whether all windows lie inside."""
        return all(axis.first == 0 and axis.last == axis.outputs for axis in (self.down, self.across))

    @property
    def pointed(self) -> bool:
        """Whether windows at the border have their taps pointed at."""
        bytes_ = self.channels * self.down.size * self.across.size
        bytes_ += self.outputs * self.down.outputs * self.across.outputs
        return not self.whole and self.channels % VECTOR == 0 and self._patched > max(LARGE, bytes_ // SHARE)

    @property
    def scratch(self) -> int:
        """The bytes of working memory."""
        return 0 if self.whole else self.channels if self.pointed else self._patched

    @property
    def name(self) -> str:
        """What a routine is called."""
        down, across = self.down, self.across
        return (f"conv_{down.taps}x{across.taps}_{down.size}x{across.size}x{self.channels}"
                f"_to_{self.outputs}")

    @property
    def parameters(self) -> str:
        """The parameters of the routine."""
        return PARAMETERS if self.whole else f"{PARAMETERS}, int8_t *scratch"

    @property
    def headers(self) -> tuple[str, ...]:
        """The headers that its C needs."""
        return () if self.whole else ("arm_mve.h", "stdbool.h") if self.pointed else ("arm_mve.h",)

    def c(self) -> str:
        """The routine in C, which calls the product's function."""
        border = "" if self.whole else self._taps() if self.pointed else self._patch()
        return f"{self._rows()}{border}{self._driver()}"

    def assembly(self) -> str:
        """The functions that the routine calls."""
        return ((run(self.product) if self._in_rows else "")
                + (run(self.tapped, "_taps") if self.pointed else ""))

    @property
    def _in_rows(self) -> bool:
        """Whether any windows go row by row."""
        return not self.pointed or self._any_inside

    @property
    def _any_inside(self) -> bool:
        left, right = self._inside
        return right > left and self.down.size >= self.down.taps

    @property
    def _patched(self) -> int:
        bytes_ = self.down.taps * self._width * self.channels
        return (-(-bytes_ // VECTOR) + (self.across.taps * self.channels % VECTOR > 0)) * VECTOR

    @property
    def _width(self) -> int:
        """The columns that two windows side by side take, as a patch has them."""
        return self.across.taps + self.across.stride

    @property
    def _inside(self) -> tuple[int, int]:
        """The columns of the output whose windows need no patch; in pairs from the left, if others do."""
        axis = self.across
        if self.pointed:
            return axis.first, axis.last
        left = min(axis.first + axis.first % 2, axis.outputs)
        last = max(axis.last, left)
        return left, last if last == axis.outputs else left + (last - left) // 2 * 2

    def _rows(self) -> str:
        pointers = self.product.pointers
        return "" if not self._in_rows else f"""{declared('run')}
/* Windows whose rows are `row` bytes apart, the first one's at `pixel`. */
static void @NAME@_from(const int8_t *pixel, int32_t row, int8_t *out, const uint32_t *constants,
                        int32_t pixels) {{
  const int8_t *rows[{pointers}];
  for (int32_t i = 0; i < {pointers}; i++) {{
    rows[i] = pixel + (i < {self.down.taps} ? i : 0) * row;
  }}
  @NAME@_run(rows, out, constants, (uint32_t)pixels);
}}

"""

    def _driver(self) -> str:
        down, across, channels = self.down, self.across, self.channels
        (left, right), row = self._inside, across.size * channels
        inside = (f"pixels = {right} - column;\n"
                  f"const int8_t *pixel = in + y * {row} + {across.origin('column', channels)};\n"
                  f"@NAME@_from(pixel, {row}, out, constants, pixels);\n")
        if not self.whole:
            test = f"y >= 0 && y <= {down.size - down.taps} && column >= {left} && column < {right}"
            border = self._border()
            inside = (f"if ({test}) {{\n{_indented(inside, 2)}}} else {{\n{_indented(border, 2)}}}\n"
                      if self._any_inside else border)
        return f"""\
/* Windows of {down.taps} x {across.taps}, {down.stride} and {across.stride} apart: \
{down.size} x {across.size} x {channels} to {down.outputs} x {across.outputs} x {self.outputs}. */
void @NAME@({self.parameters}) {{
{_indented(f"@NAME@_fill(scratch, {channels});", 2) if self.pointed else ""}\
  for (int32_t line = 0; line < {down.outputs}; line++) {{
    const int32_t y = {down.origin("line")};
    int32_t column = 0;
    while (column < {across.outputs}) {{
      int32_t pixels;
{_indented(inside, 6)}\
      out += pixels * {self.outputs};
      column += pixels;
    }}
  }}
}}
"""

    def _border(self) -> str:
        """What the driver does where a window hangs over the border."""
        x = self.across.origin("column")
        if self.pointed:
            return f"pixels = 1;\n@NAME@_border(in, y, {x}, out, constants, scratch);\n"
        return (f"pixels = column + 1 < {self.across.outputs} ? 2 : 1;\n"
                f"@NAME@_patch(in, y, {x}, scratch);\n"
                f"@NAME@_from(scratch, {self._width * self.channels}, out, constants, pixels);\n")

    def _fill(self) -> str:
        return f"""
/* The input's zero point, `bytes` times, to a multiple of 16. */
static void @NAME@_fill(int8_t *to, int32_t bytes) {{
  for (int32_t i = 0; i < bytes; i += 16) {{
    vst1q_s8(to + i, vdupq_n_s8({self.border}));
  }}
}}

"""

    def _taps(self) -> str:
        """The function for a window at the border whose taps outside are pointed at the border's values."""
        down, across, channels, pointers = self.down, self.across, self.channels, self.tapped.pointers
        return f"""{declared("taps")}{self._fill()}\
/* The window from row y, column x; `zeros` is a pixel for what is not there. */
static void @NAME@_border(const int8_t *in, int32_t y, int32_t x, int8_t *out, const uint32_t *constants,
                          const int8_t *zeros) {{
  const int8_t *taps[{pointers}];
  for (int32_t i = 0; i < {pointers}; i++) {{
    const int32_t row = y + i / {across.taps};
    const int32_t column = x + i % {across.taps};
    const bool there = row >= 0 && row < {down.size} && column >= 0 && column < {across.size};
    taps[i] = there ? in + (row * {across.size} + column) * {channels} : zeros;
  }}
  @NAME@_taps(taps, out, constants, 1u);
}}

"""

    def _patch(self) -> str:
        """The function that makes a patch from what of it lies inside."""
        channels, height, width = self.channels, self.down.size, self.across.size
        return f"""{self._fill()}\
/* {self.down.taps} x {self._width} pixels from row y, column x; zero points where there are none. */
static void @NAME@_patch(const int8_t *in, int32_t y, int32_t x, int8_t *patch) {{
  const int32_t first = x < 0 ? -x : 0;
  const int32_t last = {width} - x < {self._width} ? {width} - x : {self._width};
  @NAME@_fill(patch, {self._patched});
  for (int32_t row = 0; row < {self.down.taps}; row++) {{
    if (y + row >= 0 && y + row < {height}) {{
      const int8_t *from = in + ((y + row) * {width} + x + first) * {channels};
      int8_t *to = patch + (row * {self._width} + first) * {channels};
      for (int32_t left = (last - first) * {channels}; left > 0; left -= 16) {{
        const mve_pred16_t some = vctp8q((uint32_t)left);
        vst1q_p_s8(to, vld1q_z_s8(from, some), some);
        from += 16;
        to += 16;
      }}
    }}
  }}
}}

"""


def declared(suffix: str) -> str:
    """The declaration of a product's function."""
    return (f"void @NAME@_{suffix}(const int8_t *const *rows, int8_t *out, const uint32_t *constants,\n"
            "                uint32_t pixels);\n")


def _indented(text: str, columns: int) -> str:
    return "".join(f"{' ' * columns}{line}\n" for line in text.splitlines())
