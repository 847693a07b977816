"""Whether a delegate takes an operator of a graph, and which pieces of the graph it then gets.

Every number comes from the rules: a check only knows where in a graph it stands, and the first complaint
counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeq.graph import Graph, Operator, Tensor
from edgeq.lint.advice import ADVICE
from edgeq.lint.checks import Violation, integers_of, named, sized
from edgeq.lint.delegate_rules import QUANTIZED, Delegated, DelegateRules, Terms
from edgeq.lint.placement import Piece

Complaints = Iterator[tuple[str, str]]
BYTES = ("INT8", "UINT8")
WEIGHTS = (1, 2)  # where the weights of an operator stand
FUSED = "fusedActivationFunction"


@dataclass(frozen=True)
class Case:
    """An operator under terms, with its tensors: absent inputs are None."""

    operator: Operator
    terms: Terms
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The inputs that are written at run time."""
        return tuple(tensor for tensor in self.inputs if tensor and not tensor.constant)

    @property
    def typed(self) -> Tensor | None:
        """The input that gives the operator its type."""
        return self.input(self.terms.typed)

    def input(self, index: int) -> Tensor | None:
        """The input at `index`; None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None


def taken(graph: Graph, operator: Operator, rules: DelegateRules) -> Violation | None:
    """The first rule that `operator` breaks by itself; None where the delegate takes it."""
    known = rules.operators.get(operator.name)
    if known is None:
        return _violation("unsupported", f"{rules.name} has no {operator.name}")
    return _too_old(operator, known, rules) or _broken(graph, operator, known, rules)


def largest(cut: tuple[Piece, ...], rules: DelegateRules) -> frozenset[int]:
    """The operators of the largest pieces, at most as many as the delegate is given.

    Of two as large, the one that runs first; https://github.com/google-ai-edge/LiteRT
    tflite/delegates/nnapi/nnapi_delegate.h, max_number_delegated_partitions.
    """
    accelerated = sorted((piece.operators for piece in cut if piece.accelerated), key=len, reverse=True)
    return frozenset[int]().union(*accelerated[:rules.max_pieces])


def _too_old(operator: Operator, known: Delegated, rules: DelegateRules) -> Violation | None:
    if rules.api_level < known.min_api:
        return _violation("api-level", f"{rules.name} has it from API level {known.min_api} on; "
                                       f"this target's is {rules.api_level}")
    if known.max_version is not None and operator.version > known.max_version:
        return _violation("operator-version",
                          f"it is version {operator.version}; up to {known.max_version} is taken")
    return None


def _broken(graph: Graph, operator: Operator, known: Delegated, rules: DelegateRules) -> Violation | None:
    inputs, outputs = graph.inputs_of(operator), graph.outputs_of(operator)
    if first := next(_complaints(Case(operator, known.terms, inputs, outputs)), None):
        return _violation(*first)
    for level, terms in sorted(known.below.items()):
        if rules.api_level < level and (
                first := next(_complaints(Case(operator, terms, inputs, outputs)), None)):
            return _violation("api-level", f"{first[1]}, which is taken from API level {level} on; "
                                           f"this target's is {rules.api_level}")
    return None


def _violation(rule: str, reason: str) -> Violation:
    return Violation(rule, reason, ADVICE[rule].hint)


def _complaints(case: Case) -> Complaints:
    for check in CHECKS:
        yield from check(case)


def _types(case: Case) -> Complaints:
    terms = case.terms
    if terms.types and case.typed and not _is_of(case.typed, terms.types):
        yield "tensor-type", f"{named(case.typed)} is {case.typed.dtype}, and not {_either(terms.types)}"
    for tensor in case.outputs:
        if (terms.output_types and not _is_of(tensor, terms.output_types)) or _is_of(
                tensor, terms.barred_outputs):
            yield "tensor-type", f"its output {named(tensor)} is {tensor.dtype}"


def _weights(case: Case) -> Complaints:
    for tensor in _given(case, WEIGHTS):
        kinds = case.terms.weight_types
        if kinds and not _is_of(tensor, kinds):
            yield "tensor-type", f"its weights {named(tensor)} are {tensor.dtype}, not {_either(kinds)}"
        if case.terms.one_scale and tensor.quantization and tensor.quantization.per_channel:
            count = tensor.quantization.scales.size
            yield "tensor-type", f"its weights {named(tensor)} have {count} scales, one a channel"
    if not case.terms.hybrid and _is_hybrid(case):
        yield "tensor-type", "its weights are quantized and its activations float"


def _ranks(case: Case) -> Complaints:
    for tensors, ranks in ((case.values, case.terms.ranks), (case.outputs, case.terms.output_ranks)):
        for tensor in tensors:
            if ranks and len(tensor.shape) not in ranks:
                wanted = _either(tuple(map(str, ranks)))
                yield "tensor-rank", (f"{named(tensor)} is {sized(tensor.shape)}: {len(tensor.shape)} "
                                      f"dimensions, not {wanted}")


def _inputs(case: Case) -> Complaints:
    terms = case.terms
    if terms.counts and len(case.inputs) not in terms.counts:
        yield "missing-input", (f"it has {len(case.inputs)} inputs, not "
                                f"{_either(tuple(map(str, terms.counts)))}")
    for index in terms.required:
        if case.input(index) is None:
            yield "missing-input", f"its input {index}, the bias of a layer, is left out"


def _constants(case: Case) -> Complaints:
    terms = case.terms
    for tensor in _given(case, terms.constants):
        if not tensor.constant:
            yield "constant-parameters", f"{named(tensor)} is no constant"
    for tensor in _given(case, terms.integers):
        if tensor.dtype != "INT32":
            yield "tensor-type", f"{named(tensor)} is {tensor.dtype}, not INT32"
    for tensor in _given(case, terms.zeros):
        if any(integers_of(tensor)):
            yield "option", f"{named(tensor)} is not all zero"


def _options(case: Case) -> Complaints:
    options, terms = case.operator.options, case.terms
    for option, permitted in terms.options.items():
        if option in options and options[option] not in permitted:
            yield "option", f"its option {option} is {options[option]}"
    if options.get(FUSED) and case.typed and _is_of(case.typed, terms.unfused):
        yield "fused-activation", f"it has a fused activation, and works on {case.typed.dtype}"


def _axes(case: Case) -> Complaints:
    axis, rank = case.operator.options.get("axis"), len(case.outputs[0].shape)
    for barred in case.terms.barred_axes:
        if axis in (barred, barred + rank):
            yield "option", f"it works along the axis {axis}"


def _windows(case: Case) -> Complaints:
    width, height = (case.operator.options.get(each, 1) for each in ("filterWidth", "filterHeight"))
    most = case.terms.max_window
    if most is not None and isinstance(width, int) and isinstance(height, int) and (
            width * height > most and case.typed and _is_of(case.typed, (QUANTIZED,))):
        yield "option", f"its filter covers {width}x{height} values; up to {most} are taken"


def _scales(case: Case) -> Complaints:
    for tensor in case.outputs if case.terms.scaled else ():
        if tensor.quantization is None or not (tensor.grid.scales > 0).all():
            yield "tensor-type", f"its output {named(tensor)} has no scale above 0"
    if case.terms.narrow_scales and _is_narrow(case):
        yield "tensor-type", "its output's scale is not above that of its input times that of its weights"


def _grids(case: Case) -> Complaints:
    for tensor in case.values:
        grid = _grid(tensor)
        if tensor.dtype in case.terms.symmetric and grid and grid[1]:
            yield "tensor-type", f"the zero point of {named(tensor)} is {grid[1]}, not 0"
    if case.terms.same_grids and len({_grid(tensor) for tensor in case.values}) > 1:
        yield "tensor-type", "its inputs have different scales"


def _shapes(case: Case) -> Complaints:
    shapes = {tensor.shape for tensor in _given(case, case.terms.same_shapes)}
    if len(shapes) > 1:
        yield "tensor-rank", f"its inputs are {' and '.join(sorted(map(sized, shapes)))}, not of one shape"
    output = case.outputs[0].shape
    if case.terms.square and output[1:2] != output[2:3]:
        yield "option", f"its output is {sized(output)}, not as wide as high"
    given = [tensor.shape[-1:] for tensor in _given(case, (0, 1))]
    if case.terms.ungrouped and len(set(given)) > 1:
        yield "option", "it is grouped: its filter has fewer channels than its input"


def _given(case: Case, places: tuple[int, ...]) -> Iterator[Tensor]:
    """The inputs at `places` that are there; the weights among them only where they are constants."""
    for place in places:
        tensor = case.input(place)
        if tensor is not None and (places is not WEIGHTS or tensor.constant):
            yield tensor


def _is_of(tensor: Tensor, kinds: tuple[str, ...]) -> bool:
    return tensor.dtype in kinds or (QUANTIZED in kinds and tensor.dtype in BYTES)


def _is_hybrid(case: Case) -> bool:
    floats = case.typed is not None and case.typed.dtype == "FLOAT32"
    return floats and any(tensor.dtype in BYTES for tensor in _given(case, WEIGHTS))


def _is_narrow(case: Case) -> bool:
    """Whether scale of input * scale of weights >= scale of output, where all three have one."""
    tensors = (case.input(0), case.input(1), case.outputs[0])
    scales = [float(tensor.grid.scales[0]) for tensor in tensors if tensor and tensor.quantization]
    return len(scales) == 3 and scales[0] * scales[1] >= scales[2]


def _grid(tensor: Tensor) -> tuple[float, int] | None:
    found = tensor.quantization
    return (float(found.scales[0]), int(found.zero_points[0])) if found else None


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(words)


CHECKS: tuple[Callable[[Case], Complaints], ...] = (
    _types, _weights, _ranks, _inputs, _constants, _options, _axes, _windows, _scales, _grids, _shapes)
