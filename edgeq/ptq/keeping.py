"""Some operators of an integer model kept more precise than the others, which stay what they are.

What is kept reads and writes the int8 grids of the plain integer model wherever another operator
stands on the other side; only between two kept ones are values not on such a grid. The weights and
biases of all others are those of the plain model, integer by integer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from edgeq.graph import BORDER, Change, Graph, edited, parse, values_of
from edgeq.ptq import quantizer
from edgeq.ptq.calibration import MOVED, Ranges, proposals
from edgeq.ptq.posttraining import Candidate, Given
from edgeq.ptq.ranges import Range
from edgeq.quantization import KeptAs

CALLER = -1


@dataclass(frozen=True, eq=False)
class Kept:
    """A candidate with operators kept, and what it starts from: `given.wanted` names them."""

    given: Given
    candidate: Candidate

    def corrected(self) -> Kept:
        """The same with its biases corrected."""
        return replace(self, candidate=self.given.corrected(self.candidate))


def keeping(start: Given, plain: Candidate, operators: Collection[int], kept_as: KeptAs) -> Kept:
    """The integer model `plain` with the operators at these places of the float graph kept.

    Raises Refused where the library, or LiteRT, cannot have them so.
    """
    graph = parse(plain.baseline, "the model")
    places = with_movers(graph, operators)
    names = frozenset(tensor.name for place in places for tensor in graph.outputs_of(graph.operators[place]))
    given = replace(start, wanted=replace(start.wanted, kept=names, kept_as=kept_as))
    seen = proposals(plain.baseline, start.samples, ("minmax",))["minmax"]
    gridded, free = ranges_in(parse(plain.content, "the model")), {*between(graph, places)}
    ranges = {name: ends if name in free else gridded.get(name, ends) for name, ends in seen.items()}
    made = quantizer.static(plain.baseline, ranges, given.wanted)
    content = with_constants_of(plain.content, made, names)
    return Kept(given, Candidate(plain.baseline, content, content, given.loss(content), "layers kept"))


def with_movers(graph: Graph, operators: Collection[int]) -> set[int]:
    """`operators` and what only moves values from some of them to others."""
    movers = [operator.index for operator in graph.operators if operator.name in MOVED]
    before, after = _neighbours(graph)
    leading = _joined(reversed(movers), operators, after)
    return _joined(filter(leading.__contains__, movers), operators, before)


def between(graph: Graph, operators: Collection[int]) -> Iterator[str]:
    """The names of what those of `operators` write that are followed by others of them alone."""
    _, after = _neighbours(graph)
    for place in operators:
        if after[place] <= {*operators}:
            yield from (tensor.name for tensor in graph.outputs_of(graph.operators[place]))


def able_to(graph: Graph, ends: tuple[str, str], kept_as: KeptAs) -> set[int]:
    """The operators that can be kept as `kept_as`, the model's ends being of these types.

    Not at an end in uint8: no kernel turns that into 16 bits, and TFLM's turn no float into it.
    """
    both = zip((graph.inputs, graph.outputs), ends, strict=True)
    unsigned = {index for indices, kind in both if kind == "uint8" for index in indices}
    return {operator.index for operator in graph.operators
            if quantizer.can_keep(operator.name, kept_as)
            and unsigned.isdisjoint((*operator.inputs, *operator.outputs))}


def ranges_in(graph: Graph) -> Ranges:
    """Where the grids of the int8 activations begin and end, by the names that they had in float."""
    found: dict[str, Range] = {}
    for tensor in graph.activations():
        if tensor.dtype == "INT8" and tensor.quantization:
            scale, point = float(tensor.quantization.scales[0]), int(tensor.quantization.zero_points[0])
            found[tensor.name] = ((-128 - point) * scale, (127 - point) * scale)
    for operator in graph.operators:
        ends = (graph.tensors[operator.inputs[0]].name, graph.tensors[operator.outputs[0]].name)
        if operator.name in BORDER and found.keys() & {*ends}:
            found |= dict.fromkeys(ends, found[next(name for name in ends if name in found)])
    return found


def with_constants_of(plain: bytes, content: bytes, kept: Collection[str]) -> bytes:
    """`content` with the weights and biases that `plain` has, but for the operators that write `kept`."""
    theirs, ours = parse(plain, "the model"), parse(content, "the model")
    own = {i for operator in ours.operators for tensor in ours.outputs_of(operator)
           if tensor.name in kept for i in operator.inputs}
    return edited(content, {
        tensor.index: Change(values_of(tensor), tensor.quantization)
        for tensor, same in zip(theirs.tensors, ours.tensors, strict=False)
        if tensor.constant and tensor.quantization and tensor.dtype == same.dtype and same.index not in own})


def _neighbours(graph: Graph) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Who writes what each operator reads, and who reads what it writes; the caller is -1."""
    readers, producers = graph.consumers(), graph.producers()
    before = {operator.index: {producers[i].index for i in operator.inputs if i in producers}
              for operator in graph.operators}
    after = {operator.index: {reader.index for i in operator.outputs for reader in readers.get(i, ())}
             for operator in graph.operators}
    for writer in (producers[i] for i in graph.outputs if i in producers):
        after[writer.index].add(CALLER)
    return before, after


def _joined(movers: Iterable[int], kept: Collection[int], beside: Mapping[int, set[int]]) -> set[int]:
    """`kept`, and in their order those of `movers` that stand `beside` such alone."""
    joined = {*kept}
    for mover in movers:
        if beside[mover] and beside[mover] <= joined:
            joined.add(mover)
    return joined
