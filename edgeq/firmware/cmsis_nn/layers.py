"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED by CMSIS-NN, on int8.

The one rule: weights stay in the order that they have in the .tflite file, which is the library's, too.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.cmsis_nn.buffers import Build, Window
from edgeq.firmware.cmsis_nn.calls import (
    Value,
    called,
    clamp,
    context,
    dims,
    in_int8,
    routine,
    structure,
    tile,
    zero_points,
)
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output, Scratch
from edgeq.firmware.portable.scaling import Layer, weights_of
from edgeq.firmware.portable.text import Lines, shaped
from edgeq.firmware.portable.window import axes

LONGEST = 0xFFFF  # inputs of a sum, which the library counts in 16 bits
ENDS = "const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias"
CHANNELS = f"{ENDS}, const int32_t *mantissas, const int32_t *shifts, void *scratch"
ARGUMENTS = ("&context", "&parameters", "&factors", "&input", "x", "&filter", "weights", "&each", "bias",
             "&output", "y")
FACTORS = structure("per_channel_quant_params", "factors", multiplier="(int32_t *)(uintptr_t)mantissas",
                    shift="(int32_t *)(uintptr_t)shifts")


def convolution(build: Build, operation: Operation) -> Kernel | None:
    """CONV_2D of any stride, dilation and padding, in one group."""
    if not in_int8(operation):
        return None
    weights = weights_of(operation, 1)
    window = _window(operation, weights.shape[1:3])
    if weights.shape[3] != window.depth or window.taps > LONGEST:
        return None
    return _kernel(operation, (window, weights, len(weights)), build.convolution(window), {})


def depthwise(build: Build, operation: Operation) -> Kernel | None:
    """DEPTHWISE_CONV_2D of any multiplier, stride, dilation and padding."""
    if not in_int8(operation):
        return None
    weights = weights_of(operation, 1)
    window, channels = _window(operation, weights.shape[1:3]), weights.shape[3]
    multiplier, rest = divmod(channels, window.depth)
    if rest or (build.recent and window.depth == 1):  # for which it wants the memory of another function
        return None
    scratch = build.depthwise(window, operation.source.shape[0], multiplier)
    return _kernel(operation, (window, weights, channels), scratch, {"ch_mult": multiplier})


def dense(build: Build, operation: Operation) -> Kernel | None:
    """FULLY_CONNECTED with one scale for all weights."""
    if not in_int8(operation):
        return None
    weights = weights_of(operation, 1)
    outputs, inputs = weights.shape
    rows, rest = divmod(operation.source.elements, inputs)
    if rest or operation.input(1).grid.per_channel:
        return None
    layer = Layer(operation, weights, complete=True)
    mantissas, shifts = layer.factors()
    factor = {"multiplier": int(mantissas[0]), "shift": int(shifts[0])}
    body = [*structure("context", "context", buf="(void *)(uintptr_t)sums", size=4 * outputs),
            *structure("fc_params", "parameters", **zero_points(operation), activation=clamp(operation)),
            *structure("per_tensor_quant_params", "factors", **factor),
            *dims("input", (rows, 1, 1, inputs)), *dims("filter", (inputs, 1, 1, outputs)),
            *dims("each", (1, 1, 1, outputs)), *dims("output", (rows, 1, 1, outputs)),
            *called("arm_fully_connected_s8", *ARGUMENTS)]
    made = routine("cmsis_dense", f"Dense layer: {rows} x {inputs} -> {rows} x {outputs}.",
                   f"{ENDS}, const int32_t *sums", body)
    return Kernel(made, (Input(), Output(), Constant("weights", weights), _bias(layer), _sums(build, layer)))


def _window(operation: Operation, kernel: tuple[int, ...]) -> Window:
    high, wide = axes(operation, cast("tuple[int, int]", kernel))
    return Window((high.size, wide.size), (high.outputs, wide.outputs), (high.taps, wide.taps),
                  (high.stride, wide.stride), (high.dilation, wide.dilation), (high.padding, wide.padding),
                  operation.source.shape[3])


def _kernel(
    operation: Operation, shape: tuple[Window, Array, int], scratch: int, multiplier: dict[str, Value]
) -> Kernel:
    """A convolution, or a depthwise one where a `multiplier` of channels is given."""
    window, weights, channels = shape
    name, prefix = ("depthwise_conv", "dw_") if multiplier else ("convolve", "")
    parameters = structure(
        f"{prefix}conv_params", "parameters", **zero_points(operation), **multiplier,
        stride=tile(window.stride), padding=tile(window.padding), dilation=tile(window.dilation),
        activation=clamp(operation))
    body = [*context(scratch), *parameters, *FACTORS, *_dims(operation, window, channels),
            *called(f"arm_{name}_wrapper_s8", *ARGUMENTS)]
    layer = Layer(operation, np.moveaxis(weights[0], 2, 0) if multiplier else weights, complete=False)
    mantissas, shifts = (Constant(stem, each.astype(np.int32)) for stem, each in
                         zip(("mantissas", "shifts"), layer.factors(), strict=True))
    constants = Constant("weights", weights), _bias(layer), mantissas, shifts
    made = routine(f"cmsis_{name}", _what(operation, window), CHANNELS, body)
    return Kernel(made, (Input(), Output(), *constants, Scratch()), scratch)


def _dims(operation: Operation, window: Window, channels: int) -> Lines:
    depth = window.depth if operation.name == "CONV_2D" else channels
    return [*dims("input", operation.source.shape), *dims("filter", (channels, *window.kernel, depth)),
            *dims("each", (1, 1, 1, channels)), *dims("output", operation.sink.shape)]


def _bias(layer: Layer) -> Constant:
    """The biases; zeros where there are none, since some of its functions add to the address."""
    return Constant("bias", layer.bias.astype(np.int32))


def _sums(build: Build, layer: Layer) -> Constant:
    """What the library wants to know of each row of weights; where that is nothing, the biases stand in."""
    if not build.summed:
        return _bias(layer)
    sums = layer.weights.astype(np.int64).sum(axis=1)
    values = sums * layer.offset + layer.bias if build.folded else sums
    return Constant("sums", values.astype(np.int32))


def _what(operation: Operation, window: Window) -> str:
    kind = "Convolution" if operation.name == "CONV_2D" else "Depthwise convolution"
    sizes = (f"{high}x{wide}" for high, wide in (window.kernel, window.stride))
    dilated = "" if window.dilation == (1, 1) else f", dilation {window.dilation[0]}x{window.dilation[1]}"
    ends = f"{shaped(operation.source)} -> {shaped(operation.sink)}"
    return f"{kind} {', stride '.join(sizes)}{dilated}: {ends}."
