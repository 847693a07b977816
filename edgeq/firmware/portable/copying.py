"""Operators that move values and compute nothing: PAD, PADV2, CONCATENATION, SPLIT, STRIDED_SLICE, TRANSPOSE.

The one rule: each is a walk over what moves, with a stride for either array along each dimension.
"""

from __future__ import annotations

from edgeq.arrays import Array
from edgeq.errors import Refused
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.text import Lines, Span, c_type, copied, function, loop, shaped, strides
from edgeq.graph import Tensor, values_of

Shape = tuple[int, ...]


def transpose(operation: Operation) -> Kernel:
    """TRANSPOSE of any type by a constant permutation."""
    order = [int(axis) for axis in _constant(operation, 1)]
    source, sink = operation.source, operation.sink
    steps = strides(source.shape), strides(sink.shape)
    walk = [Span(size, {"x": steps[0][order[axis]], "y": steps[1][axis]})
            for axis, size in enumerate(sink.shape)]
    return _moved(operation, f"Transposition by {order}: {shaped(source)} -> {shaped(sink)}.",
                  copied(c_type(source), walk))


def pad(operation: Operation) -> Kernel:
    """PAD with the zero point of the output, or PADV2 with a constant; constant paddings."""
    source, sink = operation.source, operation.sink
    paddings = _constant(operation, 1).reshape(-1, 2)
    value = int(_constant(operation, 2)[0]) if operation.name == "PADV2" else _zero(sink)
    steps = strides(sink.shape)
    start = sum(int(before) * step for (before, _), step in zip(paddings, steps, strict=True))
    walk = [Span(size, {"x": one, "y": other})
            for size, one, other in zip(source.shape, strides(source.shape), steps, strict=True)]
    return _moved(operation, f"Padding by {value}: {shaped(source)} -> {shaped(sink)}.",
                  [*_filled(sink, value), *copied(c_type(source), walk, starts=(0, start))])


def strided_slice(operation: Operation) -> Kernel:
    """STRIDED_SLICE of any type with constant bounds; no ellipsis, no new axis."""
    source, sink = operation.source, operation.sink
    if operation.option("ellipsisMask") or operation.option("newAxisMask"):
        raise Refused("it has an ellipsis or a new axis", "write the slice out, and reshape")
    ranges = [_range(operation, axis, size) for axis, size in enumerate(source.shape)]
    steps, taken = strides(source.shape), strides([len(each) for each in ranges])
    start = sum(each.start * step for each, step in zip(ranges, steps, strict=True))
    walk = [Span(len(each), {"x": each.step * step, "y": other})
            for each, step, other in zip(ranges, steps, taken, strict=True)]
    return _moved(operation, f"Slice: {shaped(source)} -> {shaped(sink)}.",
                  copied(c_type(source), walk, starts=(start, 0)))


def concatenation(operation: Operation) -> Kernel:
    """CONCATENATION of any type along any axis; the values stay as they are."""
    sink = operation.sink
    if operation.operator.options.get("fusedActivationFunction"):
        raise Refused("it has a fused activation", "leave the activation to an operator of its own")
    axis = int(operation.option("axis")) % len(sink.shape)
    sources = [operation.input(place) for place in range(len(operation.inputs))]
    _require_one_grid(sink, sources)
    kind, start, body = c_type(sink), 0, Lines()
    for number, source in enumerate(sources):
        body += _part(kind, source.shape, sink.shape, (f"x{number}", "y"), start)
        start += source.elements // _outer(source.shape, axis)
    what = f"Concatenation along {axis}: {', '.join(map(shaped, sources))} -> {shaped(sink)}."
    parameters = ", ".join((*(f"const {kind} *x{number}" for number in range(len(sources))), f"{kind} *y"))
    return Kernel(function(f"concatenation_{sink.dtype.lower()}", what, parameters, body),
                  (*(Input(place) for place in range(len(sources))), Output()))


def split(operation: Operation) -> Kernel:
    """SPLIT of any type into equal parts along a constant axis."""
    source = operation.input(1)
    axis = int(_constant(operation, 0)[0]) % len(source.shape)
    kind, start, body = c_type(source), 0, Lines()
    for number, sink in enumerate(operation.outputs):
        body += _part(kind, sink.shape, source.shape, (f"y{number}", "x"), start)
        start += sink.elements // _outer(sink.shape, axis)
    count = len(operation.outputs)
    what = f"Split along {axis}: {shaped(source)} -> {count} of {shaped(operation.sink)}."
    parameters = ", ".join((f"const {kind} *x", *(f"{kind} *y{number}" for number in range(count))))
    return Kernel(function(f"split_{source.dtype.lower()}", what, parameters, body),
                  (Input(1), *(Output(place) for place in range(count))))


def _require_one_grid(sink: Tensor, sources: list[Tensor]) -> None:
    if sink.quantization is None:
        return
    grids = {(float(each.grid.scales[0]), int(each.grid.zero_points[0])) for each in (sink, *sources)}
    if len(grids) > 1 and sink.dtype == "INT8":
        raise Refused("its inputs are on other grids than its output",
                      "quantize the model by TFLiteConverter, which brings them to one")


def _part(kind: str, part: Shape, whole: Shape, names: tuple[str, str], start: int) -> Lines:
    """Copies a part of an array to the whole, or back: `names` are those of part and whole."""
    one, other = names
    walk = [Span(size, {one: near, other: far})
            for size, near, far in zip(part, strides(part), strides(whole), strict=True)]
    if other == "y":
        return copied(kind, walk, (one, other), (0, start))
    return copied(kind, walk, (other, one), (start, 0))


def _outer(shape: Shape, axis: int) -> int:
    """How many times what lies along `axis` is repeated in memory."""
    outer = 1
    for size in shape[:axis]:
        outer *= size
    return outer


def _range(operation: Operation, axis: int, size: int) -> range:
    """What a strided slice takes along an axis."""
    begin, end, step = (int(_constant(operation, place)[axis]) for place in (1, 2, 3))
    bit = 1 << axis
    first = slice(None if int(operation.option("beginMask")) & bit else begin,
                  None if int(operation.option("endMask")) & bit else end, step)
    if int(operation.option("shrinkAxisMask")) & bit:
        at = begin % size if begin < 0 else begin
        return range(at, at + 1)
    return range(size)[first]


def _filled(sink: Tensor, value: int) -> Lines:
    """Fills an array with one value."""
    if sink.dtype in ("INT8", "UINT8") or value == 0:
        return [f"memset(y, {value}, {sink.elements}u * sizeof({c_type(sink)}));"]
    return loop("i", sink.elements, [f"y[i] = {value};"])


def _zero(sink: Tensor) -> int:
    return 0 if sink.quantization is None else int(sink.grid.zero_points[0])


def _constant(operation: Operation, place: int) -> Array:
    tensor = operation.input(place)
    if not tensor.constant:
        raise Refused(f"its input {place} is computed at run time", "export the model with constant shapes")
    return values_of(tensor).reshape(-1)


def _moved(operation: Operation, what: str, body: Lines) -> Kernel:
    kind, dtype = c_type(operation.source), operation.source.dtype.lower()
    routine = function(f"{operation.name.lower()}_{dtype}", what, f"const {kind} *x, {kind} *y", body)
    return Kernel(routine, (Input(), Output()))
