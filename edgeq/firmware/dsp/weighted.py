"""Which kernel an operator with weights gets: that of the shape it has."""

from __future__ import annotations

from edgeq.firmware.dsp.convolution import convolution
from edgeq.firmware.dsp.dense import dense, takes
from edgeq.firmware.dsp.depthwise import depthwise
from edgeq.firmware.dsp.layer import Layer, Window, layer, plain_int8, weights_of, window
from edgeq.firmware.dsp.pointwise import pointwise
from edgeq.firmware.dsp.product import PIXELS
from edgeq.firmware.dsp.taps import taps
from edgeq.firmware.kernel import Kernel, Operation


def conv_2d(operation: Operation) -> Kernel | None:
    """CONV_2D of int8, one group, not dilated; None for others."""
    seen = window(operation) if plain_int8(operation) else None
    if seen is None or seen.dilations != (1, 1):
        return None
    weights = weights_of(operation)
    made = layer(operation, weights.reshape(len(weights), -1)) if weights.shape[3] == seen.channels else None
    return None if made is None else _convolved(made, seen)


def _convolved(made: Layer, seen: Window) -> Kernel | None:
    """The kernel of the convolution's shape: of a whole map, of 1x1, or of any kernel."""
    pixels = seen.sink[0] * seen.sink[1]
    if pixels == 1 and seen.kernel == seen.source and seen.pads == (0, 0):
        return dense(made, 1)
    if seen.kernel != (1, 1) or seen.strides != (1, 1):
        return convolution(made, seen)
    return pointwise(made, pixels) if pixels >= PIXELS else dense(made, pixels)


def depthwise_conv_2d(operation: Operation) -> Kernel | None:
    """DEPTHWISE_CONV_2D of int8: of one channel, or one output a channel; None for others."""
    seen = window(operation) if plain_int8(operation) else None
    if seen is None:
        return None
    weights = weights_of(operation)
    made = layer(operation, weights.reshape(-1, weights.shape[3]).T)
    if made is None:
        return None
    if seen.channels == 1:
        return convolution(made, seen) if seen.dilations == (1, 1) else None
    return depthwise(made, seen) or taps(made, seen)


def fully_connected(operation: Operation) -> Kernel | None:
    """FULLY_CONNECTED of int8; None for others."""
    if not plain_int8(operation):
        return None
    made = layer(operation, weights_of(operation))
    if made is None or not takes(made):
        return None
    rows, rest = divmod(operation.source.elements, made.inputs)
    if rest:
        return None
    blocks = pointwise(made, rows) if rows >= PIXELS else None
    return blocks or dense(made, rows)
