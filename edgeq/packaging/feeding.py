"""How a model is fed and read: shapes, types, scales and zero points of its ends, and its operators."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.artifact import digest_of_file
from edgeq.baseline import End
from edgeq.graph import Tensor, read
from edgeq.packaging.pte_operators import operators_in

SCHEMA = "edgeq-model/1"


@dataclass(frozen=True)
class Port:
    """An input or output: real = scale * (integer - zero_point); None where it holds real numbers."""

    name: str
    shape: tuple[int, ...]
    type: str
    scale: float | None = None
    zero_point: int | None = None

    @property
    def elements(self) -> int:
        """How many values it has."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Feed:
    """The file of a model, its sha256, its ends, and its operators in the order in which they first come."""

    file: str
    sha256: str
    source: Port
    sink: Port
    operators: tuple[str, ...]

    def as_json(self, model: str) -> dict[str, Any]:
        """What model.json says."""
        return {"schema": SCHEMA, "model": model, "file": self.file, "sha256": self.sha256,
                "inputs": [asdict(self.source)], "outputs": [asdict(self.sink)],
                "operators": list(self.operators)}


def fed_tflite(model: Path) -> Feed:
    """What a .tflite takes and gives."""
    graph = read(model)
    source, sink = (_port(graph.tensors[each[0]]) for each in (graph.inputs, graph.outputs))
    operators = tuple(dict.fromkeys(operator.name for operator in graph.operators))
    return Feed(model.name, digest_of_file(model), source, sink, operators)


def fed_exported(model: Path, ends: tuple[End, End]) -> Feed:
    """What a .pte takes and gives, by the `ends` of the program that it was lowered from."""
    source, sink = (Port(end.name, end.shape, end.dtype) for end in ends)
    return Feed(model.name, digest_of_file(model), source, sink, operators_in(model.read_bytes()))


def _port(tensor: Tensor) -> Port:
    grid = tensor.quantization
    if grid is None:
        return Port(tensor.name, tensor.shape, tensor.dtype)
    return Port(tensor.name, tensor.shape, tensor.dtype, float(grid.scales[0]), int(grid.zero_points[0]))
