"""MEAN over any axes: sums of raw inputs, scaled by a factor that has the number of them in it."""

from __future__ import annotations

import numpy as np

from edgeq.errors import Refused
from edgeq.firmware.arithmetic import multiplier
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.text import (
    TYPES,
    Span,
    function,
    merged,
    nest,
    place,
    plus,
    require_integers,
    shaped,
    strides,
)
from edgeq.graph import Quantization, values_of


def mean(operation: Operation) -> Kernel:
    """MEAN of int8 or int16 over constant axes."""
    dtype = require_integers(operation.source, operation.sink)
    axes, shape = _axes(operation), operation.source.shape
    kept, gone = _walks(shape, axes)
    count = int(np.prod([shape[axis] for axis in axes], dtype=np.int64))
    source, sink = operation.grids
    kind, limits, zeros = TYPES[dtype], np.iinfo(dtype.lower()), int(source.zero_points[0]) * count
    mantissa, shift = averaging(source, sink, count)
    value = f"eq_scaled(sum, {mantissa}, {shift}){plus(int(sink.zero_points[0]))}"
    body = nest(kept, [
        f"const {kind} *from = &x[{place(kept, 'x')}];",
        f"int32_t sum = {-zeros};",
        *nest(gone, [f"sum += from[{place(gone, 'x', depth=len(kept))}];"], depth=len(kept)),
        f"*y++ = ({kind})eq_clamped({value}, {limits.min}, {limits.max});"])
    what = f"Mean of {count} values: {shaped(operation.source)} -> {shaped(operation.sink)}."
    routine = function(f"mean_{dtype.lower()}", what, f"const {kind} *x, {kind} *y", body)
    return Kernel(routine, (Input(), Output()))


def averaging(source: Quantization, sink: Quantization, count: int) -> tuple[int, int]:
    """What a sum of `count` values is scaled by to be their mean (QuantizedMeanOrSum of TFLite)."""
    mantissa, shift = multiplier(float(source.scales[0]) / float(sink.scales[0]))
    places = min(count.bit_length() - 1, 32, 31 + shift)
    return (mantissa << places) // count, shift - places


def _axes(operation: Operation) -> frozenset[int]:
    tensor, rank = operation.input(1), len(operation.source.shape)
    if not tensor.constant:
        raise Refused("its axes are computed at run time", "export the model with constant axes")
    return frozenset(int(axis) % rank for axis in values_of(tensor).reshape(-1))


def _walks(shape: tuple[int, ...], axes: frozenset[int]) -> tuple[list[Span], list[Span]]:
    """The walks over what is kept of the shape, and over what is summed."""
    spans = [Span(size, {"x": step}) for size, step in zip(shape, strides(shape), strict=True)]
    return (merged(span for axis, span in enumerate(spans) if axis not in axes),
            merged(span for axis, span in enumerate(spans) if axis in axes))
