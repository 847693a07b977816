"""Convolutions and FULLY_CONNECTED: a product (see multiply.py) of the input's pixels where they lie.

The one rule: no row is copied that lies inside the input. Windows that hang over its border are made in
a patch, two at a time, and what calls the product is plain C.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output, Routine, Scratch
from edgeq.firmware.mve import dense
from edgeq.firmware.mve.channels import by_channels
from edgeq.firmware.mve.dense import suits_dense
from edgeq.firmware.mve.depthwise import depthwise
from edgeq.firmware.mve.layer import Axis, Layer, integers, layer, suits, windows
from edgeq.firmware.mve.multiply import run
from edgeq.firmware.mve.product import VECTOR, Product, packed
from edgeq.firmware.mve.requantize import requantization

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants"
RUN = ("void @NAME@_run(const int8_t *const *rows, int8_t *out, const uint32_t *constants,\n"
       "                uint32_t pixels);\n")


def fully_connected(operation: Operation) -> Kernel | None:
    """FULLY_CONNECTED with constant int8 weights (outputs, inputs)."""
    if not suits(operation):
        return None
    found = layer(operation, integers(operation.input(1)))
    return _pixels(found, operation.source.elements // found.weights.shape[1]) if found else None


def convolution(operation: Operation) -> Kernel | None:
    """CONV_2D of one image with constant int8 weights, in one group and not dilated."""
    if not suits(operation) or operation.source.shape[3] != operation.input(1).shape[3]:
        return None
    return _convolution(operation, layer(operation, integers(operation.input(1))))


def spread(operation: Operation) -> Kernel | None:
    """DEPTHWISE_CONV_2D: of a single channel, which is a convolution, or as depthwise.py has it."""
    if not suits(operation):
        return None
    if operation.source.shape[3] != 1:
        return depthwise(operation) or by_channels(operation)
    weights = integers(operation.input(1)).transpose(3, 1, 2, 0)
    return _convolution(operation, layer(operation, weights))


def _convolution(operation: Operation, found: Layer | None) -> Kernel | None:
    axes, channels = windows(operation), operation.source.shape[3]
    if axes is None or found is None:
        return None
    down, across = axes
    if down.taps == across.taps == down.stride == across.stride == 1 and not down.before + across.before:
        return _pixels(found, down.size * across.size)
    return _Windows(down, across, channels, found.border).kernel(found)


def _pixels(found: Layer, pixels: int) -> Kernel:
    """Every pixel by itself: a matrix product."""
    channels, depth = found.weights.shape[0], found.weights[0].size
    constants, weights = requantization(found.sums), found.weights.reshape(channels, -1)
    if pixels == 1 and suits_dense(channels):
        values = Constant("weights", dense.packed(weights, constants))
        routine = Routine(f"dense_{depth}x{channels}", PARAMETERS,
                          assembly=dense.dense(depth, channels, constants.form))
        return Kernel(routine, (Input(), Output(), values), over_read=-depth % VECTOR)
    product = Product(1, depth, depth, channels, depth % 4 == 0, pixels % 2 == 1, constants.form)
    text = (f"{RUN}\n/* {pixels} x {depth} times {depth} x {channels}. */\n"
            f"void @NAME@({PARAMETERS}) {{\n"
            "  const int8_t *const rows[4] = {in, in, in, in};\n"
            f"  @NAME@_run(rows, out, constants, {pixels}u);\n}}\n")
    routine = Routine(f"product_{pixels}x{depth}x{channels}", PARAMETERS, text, run(product))
    values = Constant("weights", packed(product, weights, constants))
    return Kernel(routine, (Input(), Output(), values), over_read=product.over_read)


@dataclass(frozen=True)
class _Windows:
    """Windows over an image of `channels`, with `border` around it."""

    down: Axis
    across: Axis
    channels: int
    border: int

    @property
    def width(self) -> int:
        """The columns that two windows side by side take, as a patch has them."""
        return self.across.taps + self.across.stride

    @property
    def inside(self) -> tuple[int, int]:
        """The columns of the output whose windows need no patch, in pairs from the left."""
        axis = self.across
        left = min(axis.first + axis.first % 2, axis.outputs)
        last = max(axis.last, left)
        return left, last if last == axis.outputs else left + (last - left) // 2 * 2

    @property
    def whole(self) -> bool:
        """Whether all windows lie inside."""
        return all(axis.first == 0 and axis.last == axis.outputs for axis in (self.down, self.across))

    def kernel(self, found: Layer) -> Kernel:
        """The kernel of a layer with these windows."""
        constants, outputs = requantization(found.sums), len(found.weights)
        product = Product(self.down.taps, self.across.taps * self.channels,
                          self.across.stride * self.channels, outputs, self.channels % 4 == 0,
                          self.across.outputs % 2 == 1, constants.form)
        taps = f"{self.down.taps}x{self.across.taps}"
        name = f"conv_{taps}_{self.down.size}x{self.across.size}x{self.channels}_to_{outputs}"
        weights = Constant("weights", packed(product, found.weights.reshape(outputs, -1), constants))
        if self.whole:
            text = RUN + self._driver(product, "")
            return Kernel(Routine(name, PARAMETERS, text, run(product)), (Input(), Output(), weights),
                          over_read=product.over_read)
        bytes_ = -(-(self.down.taps * self.width * self.channels + product.over_read) // VECTOR) * VECTOR
        text = f"{RUN}\n{self._patch(bytes_)}\n{self._driver(product, self._border())}"
        routine = Routine(name, f"{PARAMETERS}, int8_t *scratch", text, run(product), ("arm_mve.h",))
        return Kernel(routine, (Input(), Output(), weights, Scratch()), bytes_, product.over_read)

    def _driver(self, product: Product, border: str) -> str:
        down, across = self.down, self.across
        left, right = self.inside
        step, row = across.stride * self.channels, across.size * self.channels
        scratch = ", int8_t *scratch" if border else ""
        inside = (f"      pixels = {right} - column;\n"
                  f"      pixel = in + y * {row} + column * {step} - {across.before * self.channels};\n")
        if border:
            test = (f"y >= 0 && y <= {down.size - down.taps} && column >= {left} && column < {right}"
                    if right > left else "0")
            inside = (f"      if ({test}) {{\n  " + inside.replace("\n      ", "\n        ").rstrip()
                      + f"\n      }} else {{\n{border}      }}\n")
        return f"""\
/* Windows of {down.taps} x {across.taps}, {down.stride} and {across.stride} apart: \
{down.size} x {across.size} x {self.channels} to {down.outputs} x {across.outputs} x {product.channels}. */
void @NAME@({PARAMETERS}{scratch}) {{
  for (int32_t line = 0; line < {down.outputs}; line++) {{
    const int32_t y = line * {down.stride} - {down.before};
    int32_t column = 0;
    while (column < {across.outputs}) {{
      const int8_t *rows[{product.pointers}];
      const int8_t *pixel;
      int32_t pixels;
      int32_t row = {row};
{inside}      for (int32_t i = 0; i < {product.pointers}; i++) {{
        rows[i] = pixel + (i < {down.taps} ? i : 0) * row;
      }}
      @NAME@_run(rows, out, constants, (uint32_t)pixels);
      out += pixels * {product.channels};
      column += pixels;
    }}
  }}
}}
"""

    def _border(self) -> str:
        """What the driver does where the windows hang over the border."""
        return f"""\
        pixels = column + 1 < {self.across.outputs} ? 2 : 1;
        row = {self.width * self.channels};
        @NAME@_patch(in, y, column * {self.across.stride} - {self.across.before}, scratch);
        pixel = scratch;
"""

    def _patch(self, bytes_: int) -> str:
        """The function that makes a patch from what of it lies inside."""
        channels, height, width = self.channels, self.down.size, self.across.size
        return f"""\
/* {self.down.taps} x {self.width} pixels from row y, column x; those that are not there are zero. */
static void @NAME@_patch(const int8_t *in, int32_t y, int32_t x, int8_t *patch) {{
  const int32_t first = x < 0 ? -x : 0;
  const int32_t last = {width} - x < {self.width} ? {width} - x : {self.width};
  for (int32_t i = 0; i < {bytes_}; i += 16) {{
    vst1q_s8(patch + i, vdupq_n_s8({self.border}));
  }}
  for (int32_t row = 0; row < {self.down.taps}; row++) {{
    if (y + row >= 0 && y + row < {height}) {{
      const int8_t *from = in + ((y + row) * {width} + x + first) * {channels};
      int8_t *to = patch + (row * {self.width} + first) * {channels};
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
