"""Whether one operator is on the terms of its rules: a check a rule, the first complaint counts.

Every number comes from the rules; a check only knows where in a graph it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.graph import Graph, Operator, Tensor
from edgeq.lint.advice import ADVICE
from edgeq.lint.rules import ModelRules, OperatorRules, Rules

INTEGERS = {"INT32": "<i4", "INT64": "<i8"}
NAME = 60  # letters of a tensor's name that a sentence has room for
BYTES = {"INT8": "i1", "UINT8": "u1"}
OPTIONS: Mapping[str, tuple[str, str]] = {
    "fusedActivationFunction": ("fused-activation", "it has a fused activation"),
    "weightsFormat": ("weights-format", "its weights are shuffled"),
    "ellipsisMask": ("masks", "it has an ellipsis mask"),
    "newAxisMask": ("masks", "it has a new-axis mask"),
}


@dataclass(frozen=True)
class Violation:
    """Which rule an operator breaks, in words, and what to do about it."""

    rule: str
    reason: str
    hint: str


@dataclass(frozen=True)
class Subject:
    """One operator under its rules, with its tensors: absent inputs are None.

    What has more dimensions than the `innermost` ones has a batch in front.
    """

    operator: Operator
    rules: OperatorRules
    innermost: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The inputs that must be constants."""
        return tuple(tensor for i in self.rules.parameters if (tensor := self.input(i)))

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The tensors that are written at run time: inputs that are no parameters, and outputs."""
        indices = range(len(self.inputs))
        given = (self.input(i) for i in indices if i not in self.rules.parameters)
        return (*(tensor for tensor in given if tensor and not tensor.constant), *self.outputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its first run-time input."""
        return self.values[0].shape if self.values else ()

    @property
    def batched(self) -> bool:
        """Whether the first dimension of what it reads or writes is a batch."""
        return any(len(tensor.shape) > self.innermost for tensor in self.values)

    def input(self, index: int | None) -> Tensor | None:
        """The input at `index`; None where it is absent."""
        return self.inputs[index] if index is not None and index < len(self.inputs) else None

    def integers(self, index: int | None) -> tuple[int, ...]:
        """The constant integers of the input at `index`; none where it is no such constant."""
        tensor = self.input(index)
        return integers_of(tensor) if tensor else ()


def integers_of(tensor: Tensor) -> tuple[int, ...]:
    """The integers that `tensor` holds; none where it is no constant of integers."""
    if tensor.data is None or tensor.dtype not in INTEGERS:
        return ()
    kind = np.dtype(INTEGERS[tensor.dtype])
    whole = tensor.data.size - tensor.data.size % kind.itemsize
    return tuple(int(each) for each in tensor.data[:whole].view(kind))


def named(tensor: Tensor) -> str:
    """Its name in quotes; of a long one the end, where converters put what it is of."""
    return repr(tensor.name if len(tensor.name) <= NAME else f"…{tensor.name[1 - NAME:]}")


def sized(shape: tuple[int, ...]) -> str:
    """A shape as people write it: 1x28x28."""
    return "x".join(str(size) for size in shape) or "a single value"


def violation(graph: Graph, operator: Operator, rules: Rules) -> Violation | None:
    """The first rule that `operator` breaks by itself; None where it can be mapped."""
    if operator.name not in rules.operators:
        hint = rules.unsupported.get(operator.name, ADVICE["unsupported"].hint)
        return Violation("unsupported", f"{operator.name} is never mapped", hint)
    subject = Subject(operator, rules.operators[operator.name], rules.model.innermost_dimensions,
                      graph.inputs_of(operator), graph.outputs_of(operator))
    first = next(_complaints(subject, rules.model), None)
    return Violation(*first, ADVICE[first[0]].hint) if first else None


def _complaints(subject: Subject, model: ModelRules) -> Iterator[tuple[str, str]]:
    yield from _types(subject, model)
    for check in CHECKS:
        yield from check(subject)


def _types(subject: Subject, model: ModelRules) -> Iterator[tuple[str, str]]:
    for tensor in subject.parameters:
        if not tensor.constant:
            yield "constant-parameters", f"{named(tensor)} is no constant"
    for tensor in subject.values:
        state = subject.rules.state_types if tensor.variable else ()
        if tensor.dtype not in (*model.activation_types, *state):
            yield "data-type", f"{named(tensor)} is {tensor.dtype}"
    for given in subject.inputs:
        if given and given.constant and given.dtype not in model.constant_types:
            yield "data-type", f"the constant {named(given)} is {given.dtype}"


def _rank(subject: Subject) -> Iterator[tuple[str, str]]:
    for tensor in subject.values:
        if any(size != 1 for size in tensor.shape[:-subject.innermost]):
            yield "rank", (f"{named(tensor)} is {sized(tensor.shape)}: more than its innermost "
                           f"{subject.innermost} dimensions exceed 1")


def _version(subject: Subject) -> Iterator[tuple[str, str]]:
    newest, version = subject.rules.max_version, subject.operator.version
    if newest is not None and version > newest:
        yield "operator-version", f"it is version {version}; up to {newest} is mapped"


def _zero_options(subject: Subject) -> Iterator[tuple[str, str]]:
    for option in subject.rules.zero_options:
        if subject.operator.options.get(option):
            yield OPTIONS.get(option, ("unsupported", f"its option {option} is set"))


def _equal_options(subject: Subject) -> Iterator[tuple[str, str]]:
    options = subject.operator.options
    found = [options[option] for option in subject.rules.equal_options if option in options]
    if any(each != found[0] for each in found):
        yield "dilation", f"its dilation is {' by '.join(map(str, found))}"


def _weights(subject: Subject) -> Iterator[tuple[str, str]]:
    if subject.rules.per_tensor:
        for tensor in subject.parameters:
            if tensor.quantization and tensor.quantization.per_channel:
                count = tensor.quantization.scales.size
                yield "per-channel-weights", f"{named(tensor)} has {count} scales, one a channel"


def _vectors(subject: Subject) -> Iterator[tuple[str, str]]:
    for index in subject.rules.vector_inputs:
        tensor = subject.input(index)
        if tensor and not _is_vector(tensor):
            yield "vector-input", f"{named(tensor)} is {sized(tensor.shape)}, not one vector"
    for tensor in subject.outputs if subject.rules.vector_output else ():
        if not _is_vector(tensor):
            yield "vector-output", f"its output is {sized(tensor.shape)}, not one vector"


def _zero_constant(subject: Subject) -> Iterator[tuple[str, str]]:
    for tensor in subject.inputs if subject.rules.zero_constant else ():
        if tensor and tensor.constant and (len(subject.inputs) != 2 or not _is_zero(tensor)):
            yield "zero-constant", f"the constant {named(tensor)} is not all zero, or not one of two"


def _batch_axis(subject: Subject) -> Iterator[tuple[str, str]]:
    if subject.batched:
        option = subject.operator.options.get(subject.rules.axis_option)
        if 0 in _axes(subject) or option in (0, -len(subject.values[-1].shape)):
            yield "batch-axis", "it works along the batch"
        if any(subject.integers(subject.rules.padding_input)[:2]):
            yield "batch-axis", "it pads the batch"


def _reduction(subject: Subject) -> Iterator[tuple[str, str]]:
    rules, shape = subject.rules, subject.shape
    axes = _axes(subject)
    multiple = rules.channel_multiple
    if multiple and len(shape) - 1 in axes and shape[-1] % multiple:
        yield "channel-multiple", f"it reduces {shape[-1]} channels, no multiple of {multiple}"
    reduced = _product(shape[axis] for axis in axes)
    if rules.max_reduced is not None and reduced > rules.max_reduced:
        yield "size", f"it reduces {reduced} values to one; up to {rules.max_reduced} are mapped"


def _strides(subject: Subject) -> Iterator[tuple[str, str]]:
    strides = subject.integers(subject.rules.stride_input)
    for place, stride in enumerate(strides):
        if stride != 1 and place - len(strides) not in subject.rules.strided_dimensions:
            yield "strides", f"its stride along dimension {place} is {stride}"


def _sizes(subject: Subject) -> Iterator[tuple[str, str]]:
    rules, shape = subject.rules, subject.shape
    if rules.min_input_size and min(shape[1:3], default=0) < rules.min_input_size:
        yield "size", (f"its input is {sized(shape)}, and needs a height and width of at least "
                       f"{rules.min_input_size}")
    for tensor in subject.outputs:
        if rules.max_output_elements is not None and tensor.elements > rules.max_output_elements:
            yield "size", (f"its output {sized(tensor.shape)} has {tensor.elements} values; up to "
                           f"{rules.max_output_elements} are mapped")
        if rules.max_innermost is not None and max(tensor.shape[-1:], default=0) > rules.max_innermost:
            yield "size", f"it runs over {tensor.shape[-1]} values; up to {rules.max_innermost} are mapped"


def _axes(subject: Subject) -> set[int]:
    """The axes that an input names, counted from the front."""
    rank = len(subject.shape)
    axes = subject.integers(subject.rules.axis_input)
    return {axis % rank for axis in axes} if rank else set()


def _is_vector(tensor: Tensor) -> bool:
    return all(size == 1 for size in tensor.shape[:-1])


def _is_zero(tensor: Tensor) -> bool:
    """Whether all its values stand for 0: they are at the zero point."""
    if tensor.data is None or tensor.dtype not in BYTES:
        return False
    zero = tensor.quantization.zero_points[0] if tensor.quantization else 0
    return bool((tensor.data.view(BYTES[tensor.dtype]) == zero).all())


def _product(sizes: Iterator[int]) -> int:
    return int(np.prod([*sizes], dtype=np.int64))


CHECKS: tuple[Callable[[Subject], Iterator[tuple[str, str]]], ...] = (
    _rank, _version, _zero_options, _equal_options, _weights, _vectors, _zero_constant, _batch_axis,
    _reduction, _strides, _sizes,
)
