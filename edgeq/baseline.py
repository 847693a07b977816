"""What a baseline is: one float input, one float output, batch 1, every shape fixed.

Every frontend ends here, so that a source that cannot serve is refused with the same words. A baseline is
a .tflite, or for ExecuTorch an exported program, which says what its ends are in a file beside it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeq.errors import ConfigError
from edgeq.graph import Graph, parse, read, with_static_batch

NAME = "baseline.tflite"
EXPORTED, ENDS = "baseline.pt2", "ends.json"
FLOATS = ("FLOAT32", "INT32", "INT64", "BOOL")


@dataclass(frozen=True)
class End:
    """What goes into a model or comes out of it: its name, its shape with the batch, its type (`FLOAT32`)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def ends_in(folder: Path) -> tuple[End, End]:
    """The input and the output of the baseline in `folder`, or of what else has its ends beside it."""
    if (folder / ENDS).exists():
        told = json.loads((folder / ENDS).read_text(encoding="utf-8"))
        entry, exit_ = (End(each["name"], tuple(each["shape"]), each["dtype"]) for each in told)
        return entry, exit_
    graph = read(folder / NAME)
    return _end(graph, graph.inputs[0]), _end(graph, graph.outputs[0])


def write_ends(out: Path, entry: End, exit_: End) -> None:
    """Write what goes into the model in `out`, and what comes out; ConfigError where the batch is not 1."""
    for end, what in ((entry, "input"), (exit_, "output")):
        _check_shape(end, what, "the model")
    (out / ENDS).write_text(json.dumps([asdict(entry), asdict(exit_)]), encoding="utf-8")


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
        _check_shape(_end(graph, indices[0]), end, origin)


def _end(graph: Graph, index: int) -> End:
    tensor = graph.tensors[index]
    return End(tensor.name, tensor.shape, tensor.dtype)


def _check_shape(found: End, end: str, origin: str) -> None:
    if not found.shape or found.shape[0] != 1:
        raise ConfigError(f"{origin}: its {end} {found.name!r} has the shape {list(found.shape)}",
                          "export it with a batch of 1 as the first dimension")
