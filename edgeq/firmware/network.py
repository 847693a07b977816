"""From a graph to the steps of its program: every operator with the kernel that computes it.

What cannot be computed is refused here, all of it at once, each operator by its index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeq.errors import Refused
from edgeq.firmware.kernel import Generator, Kernel, Operation
from edgeq.graph import ALIASES, Graph, Operator

BYTES = {"INT8": 1, "INT16": 2, "INT32": 4, "FLOAT32": 4, "BOOL": 1, "UINT8": 1, "INT64": 8}
HINTS = {True: "use a full-integer recipe, with int8 inputs and outputs",
         False: "leave the operator out of the model, or keep its part on another target"}


@dataclass(frozen=True, eq=False)
class Library:
    """Sources that are not generated: their text by relative name, and the folders that hold headers."""

    files: Mapping[str, str]
    includes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Provider:
    """Kernels of one kind: their name, and a generator for each operator that they know.

    `library` is what their routines call, where that is not in their own text.
    """

    name: str
    kernels: Mapping[str, Generator]
    library: Library | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One operator of the program, in the order of execution, and who provides its kernel."""

    operation: Operation
    kernel: Kernel
    provider: Provider

    @property
    def label(self) -> str:
        """What a person calls it: `7 CONV_2D`."""
        return f"{self.operation.operator.index} {self.operation.name}"


@dataclass(frozen=True, eq=False)
class Network:
    """A graph and the steps that compute it; `roots` says in whose memory an aliased tensor lies."""

    graph: Graph
    steps: tuple[Step, ...]
    roots: Mapping[int, int]

    @property
    def libraries(self) -> tuple[Library, ...]:
        """What the kernels of its steps call, beside their own text."""
        used = dict.fromkeys(step.provider.library for step in self.steps)
        return tuple(library for library in used if library)

    def root(self, tensor: int) -> int:
        """The tensor whose memory `tensor` is."""
        return self.roots.get(tensor, tensor)

    def size(self, tensor: int) -> int:
        """The bytes of a tensor."""
        found = self.graph.tensors[tensor]
        return found.elements * BYTES[found.dtype]


def network(graph: Graph, providers: Sequence[Provider]) -> Network:
    """The steps of `graph`, each by the first of the `providers` that takes it.

    Raises Refused with every operator that none takes, for a graph with open dimensions, with more
    than one input or output, or with state.
    """
    _check(graph)
    roots: dict[int, int] = {}
    steps: list[Step] = []
    refusals: list[Refused] = []
    for operator in graph.operators:
        if operator.name in ALIASES:
            roots[operator.outputs[0]] = roots.get(operator.inputs[0], operator.inputs[0])
            continue
        try:
            steps.append(_step(graph, operator, providers))
        except Refused as refusal:
            refusals.append(refusal)
    if refusals:
        raise Refused("; ".join(refusal.message for refusal in refusals),
                      "; ".join(dict.fromkeys(refusal.hint for refusal in refusals)))
    return Network(graph, tuple(steps), roots)


def _step(graph: Graph, operator: Operator, providers: Sequence[Provider]) -> Step:
    operation = Operation(operator, graph.inputs_of(operator), graph.outputs_of(operator))
    told = f"operator {operator.index} ({operator.name})"
    try:
        for provider in providers:
            generator = provider.kernels.get(operator.name)
            kernel = generator(operation) if generator else None
            if kernel is not None:
                return Step(operation, kernel, provider)
    except Refused as refusal:
        raise Refused(f"{told}: {refusal.message}", refusal.hint) from refusal
    raise Refused(f"{told} has no firmware kernel", HINTS[_in_float(operation)])


def _in_float(operation: Operation) -> bool:
    tensors = (*operation.inputs, *operation.outputs)
    return any(tensor is not None and tensor.dtype == "FLOAT32" for tensor in tensors)


def _check(graph: Graph) -> None:
    """Raise Refused for what no firmware is made of, whatever its operators."""
    if problems := [*_problems(graph)]:
        raise Refused(f"firmware cannot be made of the model: {'; '.join(problems)}",
                      "export it with one input and one output of fixed shape, and quantize it in full")


def _problems(graph: Graph) -> Iterator[str]:
    if graph.subgraphs > 1:
        yield f"it has {graph.subgraphs} subgraphs"
    for what, ends in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        if len(ends) != 1:
            yield f"it has {len(ends)} {what}, and firmware takes one"
    for tensor in graph.tensors:
        if min(tensor.signature[1:], default=0) < 0:
            yield f"the shape of {tensor.name!r} is open: {tensor.signature}"
        if tensor.variable:
            yield f"{tensor.name!r} keeps state between inferences"
    if not any(tensor.quantization for tensor in graph.activations()):
        yield "nothing in it is quantized"
