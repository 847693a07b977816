"""What is to be said of a model as a whole, and whether the compiler reads it at all.

A finding of level `error` means that the compiler refuses the file, so that nothing is mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edgeq.graph import Graph, Operator
from edgeq.lint.advice import ADVICE
from edgeq.lint.checks import Violation
from edgeq.lint.delegate_rules import DelegateRules
from edgeq.lint.rules import ModelRules, ParameterRules, Rules

Level = Literal["error", "warning", "note"]
CUSTOM = "CUSTOM:"
SUMMED_UP = ("per-channel-weights", "rank", "constant-parameters", "data-type")


@dataclass(frozen=True)
class Finding:
    """One thing about the model: which rule, how grave, in words, what to do, which operators."""

    rule: str
    level: Level
    message: str
    hint: str
    operators: tuple[int, ...] = ()


def findings(graph: Graph, rules: Rules, broken: Mapping[int, Violation]) -> Iterator[Finding]:
    """All there is to say of `graph` as a whole; `broken` are its operators' own violations."""
    for check in REFUSALS:
        yield from check(graph, rules.model)
    yield from _open_batch(graph)
    if graph.subgraphs > 1:
        yield _finding("several-subgraphs", "warning", f"the file has {graph.subgraphs} graphs")
    for rule in SUMMED_UP:
        places = tuple(index for index, each in broken.items() if each.rule == rule)
        if places:
            first = _names(graph, places)
            yield _finding(rule, "warning", f"{ADVICE[rule].meaning} Not so: {first}", places)


def of_delegate(graph: Graph, rules: DelegateRules, mapped: Collection[int]) -> Iterator[Finding]:
    """What is to be said of a delegate, and of conditions for the `mapped` operators that nobody checked."""
    if rules.deprecated:
        yield Finding("deprecated", "warning", rules.deprecated, rules.instead or ADVICE["deprecated"].hint)
    places: dict[str, list[int]] = {}
    for operator in graph.operators:
        known = rules.operators.get(operator.name)
        if operator.index in mapped and known and known.unchecked:
            places.setdefault(f"{operator.name}: not checked: {known.unchecked}", []).append(operator.index)
    for text, indices in places.items():
        yield _finding("unchecked", "note", text, tuple(indices))
    if graph.subgraphs > 1:
        yield _finding("several-subgraphs", "warning", f"the file has {graph.subgraphs} graphs")


def uncertain_memory(total: int, rules: ParameterRules) -> Iterator[Finding]:
    """A note where nobody can say before compiling how much of `total` bytes the chip keeps."""
    if total > rules.usable_at_least_bytes:
        least = max(0, total - rules.usable_at_most_bytes)
        most = total - rules.usable_at_least_bytes
        yield _finding("uncertain-memory", "note",
                       f"of {total} bytes of parameters, between {least} and {most} are streamed")


def _versions(graph: Graph, model: ModelRules) -> Iterator[Finding]:
    places: dict[str, list[int]] = {}
    for operator in graph.operators:
        newest = model.parsed.get(operator.name, 0)
        if not operator.name.startswith(CUSTOM) and operator.version > newest:
            known = f"reads it up to version {newest}" if newest else "knows no such operator"
            text = f"{operator.name} version {operator.version}: the compiler {known}"
            places.setdefault(text, []).append(operator.index)
    for text, indices in places.items():
        yield _finding("unparsed-version", "error", text, tuple(indices))


def _customs(graph: Graph, model: ModelRules) -> Iterator[Finding]:
    known = {CUSTOM + name for name in (*model.known_custom, model.compiled)}
    for operator in graph.operators:
        if operator.name == CUSTOM + model.compiled:
            yield _finding("already-compiled", "error", "the model was compiled already", (operator.index,))
        elif operator.name.startswith(CUSTOM) and operator.name not in known:
            name = operator.name.removeprefix(CUSTOM)
            yield _finding("unknown-custom", "error", f"the compiler does not know the custom operator "
                                                      f"{name!r}", (operator.index,))


def _shapes(graph: Graph, model: ModelRules) -> Iterator[Finding]:
    for index in graph.inputs:
        tensor = graph.tensors[index]
        if any(size < 0 for size in tensor.signature[1:]):
            yield _finding("dynamic-shapes", "error",
                           f"the input {tensor.name!r} leaves dimensions open: {list(tensor.signature)}")
    places = tuple(op.index for op in graph.operators if _computes_shape(graph, op, model))
    if places:
        yield _finding("dynamic-shapes", "error",
                       f"shapes are computed at run time: {_names(graph, places)}", places)


def _computes_shape(graph: Graph, operator: Operator, model: ModelRules) -> bool:
    place = model.shape_inputs.get(operator.name)
    given = graph.inputs_of(operator)
    shape = given[place] if place is not None and place < len(given) else None
    return shape is not None and not shape.constant


def _quantized(graph: Graph, model: ModelRules) -> Iterator[Finding]:
    values = list(graph.activations())
    bytes_ = (each for each in values if each.dtype in model.activation_types and each.quantization)
    if values and not any(bytes_):
        types = ", ".join(sorted({tensor.dtype for tensor in values}))
        yield _finding("not-quantized", "error", f"no operator works on quantized bytes, but on {types}")


def _open_batch(graph: Graph) -> Iterator[Finding]:
    for index in graph.inputs:
        tensor = graph.tensors[index]
        if any(size < 0 for size in tensor.signature[:1]):
            yield _finding("open-batch", "warning", f"the input {tensor.name!r} leaves its batch open")


def _finding(rule: str, level: Level, message: str, operators: tuple[int, ...] = ()) -> Finding:
    return Finding(rule, level, message, ADVICE[rule].hint, operators)


def _names(graph: Graph, places: tuple[int, ...]) -> str:
    named = ", ".join(f"operator {index} {graph.operators[index].name}" for index in places[:3])
    return f"{named} and {len(places) - 3} more" if len(places) > 3 else named


REFUSALS: tuple[Callable[[Graph, ModelRules], Iterator[Finding]], ...] = (
    _versions, _customs, _shapes, _quantized)
