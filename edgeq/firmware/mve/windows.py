"""Convolutions and FULLY_CONNECTED: products (see multiply.py) of the input's pixels where they lie.

The one rule: a layer takes the shortest way that it suits: one pixel, pixels by themselves, windows.
"""

from __future__ import annotations

from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output, Routine, Scratch
from edgeq.firmware.mve.channels import by_channels
from edgeq.firmware.mve.dense import dense, packed_dense, suits_dense
from edgeq.firmware.mve.depthwise import depthwise
from edgeq.firmware.mve.image import PARAMETERS, Image, declared
from edgeq.firmware.mve.layer import Layer, integers, layer, suits, windows
from edgeq.firmware.mve.multiply import run
from edgeq.firmware.mve.product import VECTOR, Product, packed
from edgeq.firmware.mve.requantize import requantization


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
    constants, outputs = requantization(found.sums), len(found.weights)
    image = Image(down, across, channels, outputs, found.border, constants.form)
    weights = Constant("weights", packed(image.product, found.weights.reshape(outputs, -1), constants))
    routine = Routine(image.name, image.parameters, image.c(), image.assembly(), image.headers)
    arguments = (Input(), Output(), weights, *(() if image.whole else (Scratch(),)))
    return Kernel(routine, arguments, image.scratch, image.product.over_read)


def _pixels(found: Layer, pixels: int) -> Kernel:
    """Every pixel by itself: a matrix product."""
    channels, depth = found.weights.shape[0], found.weights[0].size
    constants, weights = requantization(found.sums), found.weights.reshape(channels, -1)
    if pixels == 1 and suits_dense(channels):
        values = Constant("weights", packed_dense(weights, constants))
        routine = Routine(f"dense_{depth}x{channels}", PARAMETERS,
                          assembly=dense(depth, channels, constants.form))
        return Kernel(routine, (Input(), Output(), values), over_read=-depth % VECTOR)
    product = Product(1, depth, depth, channels, aligned=depth % 4 == 0, pairs=pixels > 1,
                      single=pixels % 2 == 1, form=constants.form)
    text = (f"{declared('run')}\n/* {pixels} x {depth} times {depth} x {channels}. */\n"
            f"void @NAME@({PARAMETERS}) {{\n"
            "  const int8_t *const rows[4] = {in, in, in, in};\n"
            f"  @NAME@_run(rows, out, constants, {pixels}u);\n}}\n")
    routine = Routine(f"product_{pixels}x{depth}x{channels}", PARAMETERS, text, run(product))
    values = Constant("weights", packed(product, weights, constants))
    return Kernel(routine, (Input(), Output(), values), over_read=product.over_read)
