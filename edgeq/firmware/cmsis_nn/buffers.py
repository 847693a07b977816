"""The scratch memory that CMSIS-NN's functions take, in bytes.

The one rule: what is said here is what the library's own *_get_buffer_size functions say of the same
shape when they are compiled for the core, or more.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 124  # channels that its depthwise convolution for Helium works on at once: CH_IN_BLOCK_MVE


@dataclass(frozen=True)
class Window:
    """A convolution's image and kernel: sizes (height, width) and channels of the input."""

    image: tuple[int, int]
    outputs: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    depth: int

    @property
    def taps(self) -> int:
        """Inputs that an output channel sums over, of all channels."""
        return self.kernel[0] * self.kernel[1] * self.depth

    @property
    def pointwise(self) -> bool:
        """Whether a pixel of the output sees one of the input, at its own place or at strides."""
        return self.kernel == self.dilation == (1, 1) and self.padding == (0, 0)

    @property
    def row(self) -> bool:
        """Whether it is convolved along one row, four outputs at once."""
        return (self.image[0] == self.kernel[0] == self.dilation[1] == 1) and self.outputs[1] % 4 == 0


@dataclass(frozen=True)
class Build:
    """How the library is compiled: with the DSP extension, with Helium; `recent` from release 4.1 on.

    From then on its dense layers for Helium want sums of the weights: `folded` where these shall have the
    input's offset and the bias in them.
    """

    dsp: bool
    mve: bool
    recent: bool
    folded: bool = False

    @property
    def summed(self) -> bool:
        """Whether dense layers want sums of the weights."""
        return self.recent and self.mve

    def convolution(self, window: Window) -> int:
        """For arm_convolve_wrapper_s8: columns of the image, four of int8 for Helium, else two of int16."""
        if window.pointwise:
            return 0
        if self.recent:
            return 4 * _up(window.taps, 16 if self.mve else 4)
        if self.mve:
            return 0 if window.row else 4 * _up(window.taps, 8)
        return 4 * window.taps

    def depthwise(self, window: Window, batch: int, multiplier: int) -> int:
        """For arm_depthwise_conv_wrapper_s8: a window of all channels, or four of a block."""
        if multiplier != 1 or batch != 1 or window.dilation != (1, 1):
            return 0
        if self.mve:
            return 4 * BLOCK * window.kernel[0] * window.kernel[1]
        if not self.dsp or (self.recent and window.kernel == (3, 3) and max(window.padding) <= 1):
            return 0
        return 2 * window.taps

    def average(self, depth: int) -> int:
        """For arm_avgpool_s8: a sum for each channel, on cores with DSP and without Helium."""
        return 4 * depth if self.dsp and not self.mve else 0


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
