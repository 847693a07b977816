"""What a baseline is: one float input, one float output, batch 1, every shape fixed.

Every frontend ends here, so that a source that cannot serve is refused with the same words.
"""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import ConfigError
from edgeq.graph import Graph, Tensor, parse, with_static_batch

NAME = "baseline.tflite"
FLOATS = ("FLOAT32", "INT32", "INT64", "BOOL")


def write_baseline(out: Path, content: bytes, origin: str) -> None:
    """Write the .tflite file `content` into `out` as a baseline, its batch closed at 1.

    Raises ConfigError where `content` is quantized, has several inputs or outputs, or a shape
    that is open in more than the batch. `origin` names the source in errors.
    """
    static = with_static_batch(content, origin)
    graph = parse(static, origin)
    _check(graph, origin)
    (out / NAME).write_bytes(static)


def _check(graph: Graph, origin: str) -> None:
    if found := next((t for t in graph.tensors if t.quantization or t.dtype not in FLOATS), None):
        raise ConfigError(
            f"{origin} is not a float model: tensor {found.name!r} is {found.dtype}"
            f"{' with a scale' if found.quantization else ''}",
            "give the float model that it was made from; edgeq quantizes it for each target")
    for end, indices in (("input", graph.inputs), ("output", graph.outputs)):
        names = ", ".join(repr(graph.tensors[i].name) for i in indices)
        if len(indices) != 1:
            raise ConfigError(f"{origin} has {len(indices)} {end}s ({names})",
                              f"export it with one {end}")
        _check_shape(graph.tensors[indices[0]], end, origin)


def _check_shape(tensor: Tensor, end: str, origin: str) -> None:
    if not tensor.shape or tensor.shape[0] != 1:
        raise ConfigError(f"{origin}: its {end} {tensor.name!r} has the shape {list(tensor.shape)}",
                          "export it with a batch of 1 as the first dimension")
