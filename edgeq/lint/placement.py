"""Which operators become one piece for the accelerator: TFLite's way of cutting up a graph.

Pure arithmetic on operators and tensors; what is supported is said by others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgeq.graph import Graph, Operator


@dataclass(frozen=True)
class Piece:
    """Operators, by their index in execution order, that run as one on one side."""

    accelerated: bool
    operators: frozenset[int]


def pieces(graph: Graph, supported: Collection[int]) -> tuple[Piece, ...]:
    """`graph` cut into pieces, in the order in which they run; `supported` are operators' indices.

    A piece takes what is ready and of its kind until nothing more is, wherever it stands: a branch
    that needs nothing of an unsupported operator goes on beside it. The first ready operator says
    what kind the next piece is (PartitionGraphIntoIndependentNodeSubsets,
    https://github.com/tensorflow/tensorflow/blob/v2.5.0/tensorflow/lite/graph_info.cc).
    Operators that wait for each other in a ring, as in a damaged file, are in no piece.
    """
    waiting = list(graph.operators)
    missing = {tensor for operator in waiting for tensor in operator.outputs}
    found = []
    while ready := [operator for operator in waiting if missing.isdisjoint(operator.inputs)]:
        accelerated = ready[0].index in supported
        taken = _taken(waiting, missing, {o.index for o in waiting if (o.index in supported) == accelerated})
        found.append(Piece(accelerated, frozenset(taken)))
        waiting = [operator for operator in waiting if operator.index not in taken]
    return tuple(found)


def mapped(cut: Sequence[Piece]) -> frozenset[int]:
    """What runs on the accelerator: the first piece for it, and no other."""
    return next((piece.operators for piece in cut if piece.accelerated), frozenset())


def blocked_by(graph: Graph, cut: Sequence[Piece], supported: Collection[int]) -> dict[int, int]:
    """Supported operator that is not mapped -> the unsupported one that keeps it away.

    Of several, the first that runs.
    """
    settled = _settled(cut)
    blame: dict[int, int] = {}  # of what is written: tensor -> unsupported operator
    found: dict[int, int] = {}
    for operator in graph.operators:
        inherited = [blame[tensor] for tensor in operator.inputs if tensor in blame]
        if operator.index in settled:
            continue
        if operator.index in supported and inherited:
            found[operator.index] = min(inherited)
        blame |= dict.fromkeys(operator.outputs, found.get(operator.index, operator.index))
    return found


def _settled(cut: Sequence[Piece]) -> frozenset[int]:
    """What runs before, or in, the first piece for the accelerator."""
    first = next((i for i, piece in enumerate(cut) if piece.accelerated), len(cut))
    return frozenset[int]().union(*(piece.operators for piece in cut[:first + 1]))


def _taken(waiting: Sequence[Operator], missing: set[int], wanted: Collection[int]) -> set[int]:
    """The operators of `waiting` that one piece takes; what they write is `missing` no more."""
    taken: set[int] = set()
    grown = True
    while grown:
        grown = False
        for operator in waiting:
            fits = operator.index in wanted and operator.index not in taken
            if fits and missing.isdisjoint(operator.inputs):
                taken.add(operator.index)
                missing.difference_update(operator.outputs)
                grown = True
    return taken
