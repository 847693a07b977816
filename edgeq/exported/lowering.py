"""Lowering an exported program to what ExecuTorch loads: a .pte, with parts of it compiled for a delegate.

What a delegate does not take stays behind for ExecuTorch's portable kernels on the CPU, and lowering
succeeds all the same: the split must be read.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.errors import EdgeqError, Refused
from edgeq.exported.counting import operators
from edgeq.exported.running import METHOD
from edgeq.exported.tracing import first_line


@dataclass(frozen=True, eq=False)
class Lowered:
    """A lowered program: operators of the delegate and of the CPU by kind, bytes of planned memory."""

    program: Any
    delegated: Mapping[str, int]
    on_cpu: Mapping[str, int]
    planned_bytes: int

    @property
    def share(self) -> float:
        """The share of the operators that the delegate takes."""
        taken, left = self.delegated.values(), self.on_cpu.values()
        return sum(taken) / max(1, sum(taken) + sum(left))

    def write(self, file: Path) -> None:
        """Write the .pte."""
        file.write_bytes(self.program.buffer)


def lowered(exported: Any, partitioners: Sequence[Any]) -> Lowered:
    """`exported`, a torch.export.ExportedProgram, lowered to the delegates of `partitioners`.

    Raises Refused where an operator has no form that ExecuTorch takes.
    """
    import executorch.kernels.quantized  # noqa: F401  so that what quantizes on the CPU has kernels
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    try:
        with warnings.catch_warnings(action="ignore"), _only_patterns_for(exported.graph):
            edge = to_edge_transform_and_lower(
                exported, partitioner=[*partitioners],
                compile_config=EdgeCompileConfig(_check_ir_validity=False))
            graph_module = edge.exported_program().graph_module
            delegated, on_cpu = _split(graph_module)
            program = edge.to_executorch()
    except EdgeqError:
        raise
    except (RuntimeError, ValueError, AssertionError, KeyError, NotImplementedError, TypeError) as error:
        raise Refused(f"ExecuTorch cannot lower the model: {type(error).__name__}: {first_line(error)}",
                      "see the log for the operator; another delegate or recipe may take it") from error
    plan = program.executorch_program.execution_plan[0]
    return Lowered(program, delegated, on_cpu, sum(plan.non_const_buffer_sizes))


def bundled(program: Any, inputs: Array, expected: Floats) -> bytes:
    """The `program` with `inputs` (n, *shape) and the outputs `expected` of it, as one file (.bpte)."""
    import torch
    from executorch.devtools import BundledProgram
    from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
    from executorch.devtools.bundled_program.serialize import (
        serialize_from_bundled_program_to_flatbuffer,
    )

    cases = [MethodTestCase(inputs=[torch.from_numpy(np.array(given))],
                            expected_outputs=[torch.from_numpy(np.array(wanted))])
             for given, wanted in zip(inputs, expected, strict=True)]
    with warnings.catch_warnings(action="ignore"):
        made = BundledProgram(program, [MethodTestSuite(method_name=METHOD, test_cases=cases)])
        content: bytes = serialize_from_bundled_program_to_flatbuffer(made)
    return content


def partitioners_of_xnnpack() -> list[Any]:
    """What gives XNNPACK all that it takes."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return [XnnpackPartitioner()]


@contextmanager
def _only_patterns_for(graph: Any) -> Iterator[None]:
    """Spare XNNPACK the patterns that cannot be in `graph`: it exports each anew in every process."""
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

    kinds = " ".join(operators(graph))
    kept = bilinear_2d.get_graphs_dict, sdpa.get_graphs
    if "upsample" not in kinds:
        bilinear_2d.get_graphs_dict = dict
    if "softmax" not in kinds and "attention" not in kinds:
        sdpa.get_graphs = list
    try:
        yield
    finally:
        bilinear_2d.get_graphs_dict, sdpa.get_graphs = kept


def _split(graph_module: Any) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The operators, by kind, within the delegates of a lowered graph, and those outside of them."""
    from executorch.exir.lowered_backend_module import get_lowered_submodules

    within: Counter[str] = Counter()
    for _, submodule, _ in get_lowered_submodules(graph_module):
        within.update(operators(submodule.original_module.graph))
    return dict(sorted(within.items())), dict(operators(graph_module.graph))
