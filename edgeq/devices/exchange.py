"""What goes to a device for a program's samples, and what its bytes mean: for a .tflite and for a .pte.

The one rule: a device gets and gives the model's own types; reals are made of them here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.baseline import ends_in
from edgeq.devices.session import Task
from edgeq.errors import ConfigError
from edgeq.graph import Graph, read
from edgeq.interpret import Kernels, from_grid, on_grid
from edgeq.linux.kit import Kit, Request
from edgeq.program import PTE, SHIP, runnable_in


@dataclass(frozen=True, eq=False)
class Exchange:
    """A `model`'s file, samples `given` to it (n, *shape), its output's `shape` and `kind`: as it has them.

    `graph` is a .tflite's, whose quantization makes reals of outputs; a .pte gives reals.
    """

    model: Path
    given: Array
    shape: tuple[int, ...]
    kind: str
    graph: Graph | None

    def task(self, kit: Kit, kernels: Kernels, warm_up: int) -> Task:
        """The run of all samples by `kit`, each timed."""
        size = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.kind).itemsize
        request = Request(self.model.name, self.given[0].nbytes, size, kernels, warm_up, times=True)
        return Task(kit, self.model, self.given.tobytes(), request)

    def outputs(self, content: bytes) -> Floats:
        """The reals (n, *shape) that the outputs in `content`, one after the other, stand for."""
        made = np.frombuffer(content, self.kind).reshape(len(self.given), *self.shape)
        return from_grid(self.graph, made) if self.graph else made.astype(np.float32)


def exchanged(program: Path, samples: Array) -> Exchange:
    """What is exchanged to run `samples` (n, …), reals, through what `program` ships.

    Raises ConfigError where they are of another size than its input.
    """
    pte = program / SHIP / PTE
    if pte.exists():
        entry, sink = ends_in(program)
        _check_size(samples, entry.shape)
        given = np.ascontiguousarray(samples, entry.dtype.lower()).reshape(len(samples), *entry.shape)
        return Exchange(pte, given, sink.shape[1:], sink.dtype.lower(), None)
    model = runnable_in(program)
    graph = read(model)
    _check_size(samples, graph.tensors[graph.inputs[0]].shape)
    end = graph.tensors[graph.outputs[0]]
    shape = end.shape[1:] if end.shape[:1] == (1,) else end.shape
    return Exchange(model, on_grid(graph, samples), shape, end.dtype.lower(), graph)


def _check_size(samples: Array, shape: tuple[int, ...]) -> None:
    size, wanted = int(np.prod(samples.shape[1:])), int(np.prod(shape))
    if size != wanted:
        raise ConfigError(f"a sample has {size} values, and the model takes {wanted}",
                          "give samples of the model's own shape")
