"""The graph of an exported program as a module that takes many samples at once, where that changes nothing.

A program is exported with a batch of 1, which stands in its reshapings. Calibration, training and
simulation are an order of magnitude faster where those are opened; a graph that computes anything else
then stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import ConfigError

RESHAPING = ("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default")
CLOSE = 1e-4  # of the largest output, between samples together and one by one
PROBES = 3


@dataclass(frozen=True, eq=False)
class Module:
    """A graph that can be run: `graph` is a torch.fx.GraphModule, `example` its input (1, *shape).

    `batch` is how many samples it takes at once.
    """

    graph: Any
    example: Any
    batch: int

    def batches(self, samples: Array) -> Iterator[Any]:
        """`samples` (n, …) as tensors (at most `batch`, *shape) of the input's type."""
        import torch

        shape = (-1, *self.example.shape[1:])
        for start in range(0, len(samples), self.batch):
            chunk = np.array(samples[start:start + self.batch], kind_of(self.example))
            yield torch.from_numpy(chunk.reshape(shape))

    def outputs(self, samples: Array) -> Any:
        """The outputs (n, *shape) for `samples`."""
        import torch

        with torch.no_grad():
            return torch.cat([single(self.graph(batch)) for batch in self.batches(samples)])


def opened(exported: Any, batch: int = 32) -> Module:
    """The module of an exported program, its batch opened where that changes nothing that it computes."""
    import torch

    torch.set_num_threads(1)
    entry = entry_of(exported)
    closed = exported.module(check_guards=False)
    shape = tuple(entry.shape)
    draw = torch.Generator().manual_seed(0)
    probes = torch.rand((PROBES, *shape[1:]), generator=draw).to(entry.dtype)
    alone = Module(closed, probes[:1], 1)
    several = Module(with_open_batch(copy.deepcopy(closed)), probes[:1], batch)
    return several if _same(alone, several, probes.numpy()) else alone


def with_open_batch(graph: Any) -> Any:
    """`graph`, a torch.fx.GraphModule, with no reshaping in it that names a first dimension of 1."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and str(node.target) in RESHAPING:
            shape, value = list(node.args[1]), node.meta.get("val")
            if value is not None and shape and shape[0] == 1:
                node.args = (node.args[0], [-1, *value.shape[1:]])
    graph.recompile()
    return graph


def entry_of(exported: Any) -> Any:
    """The input of an exported program, a tensor without values; ConfigError where there is not one alone."""
    names = set(exported.graph_signature.user_inputs)
    entries = [node.meta["val"] for node in exported.graph.nodes
               if node.op == "placeholder" and node.name in names]
    if len(entries) != 1:
        raise ConfigError(f"the exported program has {len(entries)} inputs", "export it with one input")
    return entries[0]


def kind_of(entry: Any) -> Any:
    """The numpy type of a tensor."""
    return np.dtype(str(entry.dtype).removeprefix("torch."))


def single(output: Any) -> Any:
    """The one output of a module, which may give it in a tuple."""
    return output[0] if isinstance(output, (tuple, list)) else output




def _same(alone: Module, several: Module, probes: Array) -> bool:
    """Whether samples together give what they give one by one."""
    try:
        found, wanted = several.outputs(probes), alone.outputs(probes)
    except RuntimeError:
        return False
    if found.shape != wanted.shape:
        return False
    return float((found - wanted).abs().max()) <= CLOSE * max(1e-12, float(wanted.abs().max()))
