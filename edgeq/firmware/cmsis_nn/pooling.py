"""AVERAGE_POOL_2D and MAX_POOL_2D by CMSIS-NN, on int8 and one image."""

from __future__ import annotations

from edgeq.firmware.cmsis_nn.buffers import Build
from edgeq.firmware.cmsis_nn.calls import called, clamp, context, dims, in_int8, routine, structure, tile
from edgeq.firmware.kernel import Input, Kernel, Operation, Output, Scratch
from edgeq.firmware.portable.text import shaped
from edgeq.firmware.portable.window import axes


def average(build: Build, operation: Operation) -> Kernel | None:
    """AVERAGE_POOL_2D: the mean of what of a window is within the image."""
    return _pool(operation, "avgpool", build.average(operation.source.shape[3]))


def maximum(_build: Build, operation: Operation) -> Kernel | None:
    """MAX_POOL_2D: the largest of what of a window is within the image."""
    return _pool(operation, "max_pool", 0)


def _pool(operation: Operation, name: str, scratch: int) -> Kernel | None:
    if not in_int8(operation) or operation.source.shape[0] != 1 or not _same_grid(operation):
        return None
    taps = operation.option("filterHeight"), operation.option("filterWidth")
    high, wide = axes(operation, taps)
    body = [*context(scratch),
            *structure("pool_params", "parameters", stride=tile((high.stride, wide.stride)),
                       padding=tile((high.padding, wide.padding)), activation=clamp(operation)),
            *dims("input", operation.source.shape), *dims("filter", (1, *taps, 1)),
            *dims("output", operation.sink.shape),
            *called(f"arm_{name}_s8", "&context", "&parameters", "&input", "x", "&filter", "&output", "y")]
    kind = "Average" if name == "avgpool" else "Maximum"
    what = (f"{kind} of {taps[0]}x{taps[1]}, stride {high.stride}x{wide.stride}: "
            f"{shaped(operation.source)} -> {shaped(operation.sink)}.")
    made = routine(f"cmsis_{name}", what, "const int8_t *x, int8_t *y, void *scratch", body)
    return Kernel(made, (Input(), Output(), Scratch()), scratch)


def _same_grid(operation: Operation) -> bool:
    source, sink = operation.grids
    return (source.scales[0], source.zero_points[0]) == (sink.scales[0], sink.zero_points[0])
