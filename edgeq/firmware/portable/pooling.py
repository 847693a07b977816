"""AVERAGE_POOL_2D and MAX_POOL_2D: a channel at a time, over the taps of its window that are in the image."""

from __future__ import annotations

import numpy as np

from edgeq.errors import Refused
from edgeq.firmware.arithmetic import bounds
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.text import TYPES, Lines, function, loop, require_integers, shaped
from edgeq.firmware.portable.window import Axis, axes

CLOSE = 1e-6  # how far apart TFLM lets the scales of input and output be


def average_pool(operation: Operation) -> Kernel:
    """AVERAGE_POOL_2D of int8 or int16: the sum by the number of taps, rounded half away from zero."""
    both = _axes(operation)
    complete = all(axis.complete for axis in both)
    count = both[0].taps * both[1].taps
    counted = [] if complete else [f"const int32_t count = {both[0].count} * {both[1].count};"]
    number, half = (f"{count}", f"{count // 2}") if complete else ("count", "count / 2")
    mean = f"(sum > 0 ? sum + {half} : sum - {half}) / {number}"
    return _pool(operation, both, ("average", "int32_t sum = 0;", "sum += row[kx * {step}];", mean), counted)


def max_pool(operation: Operation) -> Kernel:
    """MAX_POOL_2D of int8 or int16."""
    least = int(np.iinfo(operation.source.dtype.lower()).min)
    taken = "most = row[kx * {step}] > most ? row[kx * {step}] : most;"
    return _pool(operation, _axes(operation), ("max", f"int32_t most = {least};", taken, "most"), [])


def _axes(operation: Operation) -> tuple[Axis, Axis]:
    source, sink = operation.grids
    if source.zero_points[0] != sink.zero_points[0] or abs(source.scales[0] - sink.scales[0]) > CLOSE:
        raise Refused("its input and output have different grids",
                      "quantize the model by TFLiteConverter, which gives them one")
    return axes(operation, (int(operation.option("filterHeight")), int(operation.option("filterWidth"))))


def _pool(operation: Operation, both: tuple[Axis, Axis], parts: tuple[str, str, str, str], counted: Lines
          ) -> Kernel:
    """A pool by its `parts`: its name, how a value begins, how it takes a tap, and what it is in the end."""
    kind = TYPES[require_integers(operation.source, operation.sink)]
    (high, wide), (name, begin, taken, end) = both, parts
    batch, _, _, depth = operation.source.shape
    low, top = bounds(operation.option("fusedActivationFunction"), operation.sink.grid, operation.sink.dtype)
    one = [f"const {kind} *row = corner + c;", begin,
           *loop("ky", high.end, [*loop("kx", wide.count, [taken.format(step=depth)]),
                                  f"row += {wide.size * depth};"], high.first),
           f"*y++ = ({kind})eq_clamped({end}, {low}, {top});"]
    corner = f"x + ({high.start} * {wide.size} + {wide.start}) * {depth}"
    pixels = loop("oy", high.outputs, [*high.bounds(), *loop("ox", wide.outputs, [
        *wide.bounds(), *counted, f"const {kind} *corner = {corner};", *loop("c", depth, one)])])
    body = pixels if batch == 1 else loop("image", batch, [*pixels, f"x += {high.size * wide.size * depth};"])
    what = (f"{name.capitalize()} of {high.taps}x{wide.taps}, stride {high.stride}x{wide.stride}: "
            f"{shaped(operation.source)} -> {shaped(operation.sink)}.")
    routine = function(f"{name}_pool_{operation.source.dtype.lower()}", what,
                       f"const {kind} *x, {kind} *y", body)
    return Kernel(routine, (Input(), Output()))
