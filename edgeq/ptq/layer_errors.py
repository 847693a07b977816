"""What each layer of a quantized model loses: its output's error, and the model's were it alone quantized.

A model and the float model that it was made of run side by side, and after each sample what every
operator wrote is compared:

    sqnr_db = 10 log10(sum f^2 / sum (f - q)^2)      f in the float model, q in the quantized one

That error includes those of all layers before it; what a layer does alone is told by ptq/sensitivity.py.
The one rule: operators are compared only where they compute the same, and a figure that there is none of
comes with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from edgeq import baseline as baselines
from edgeq.arrays import Array
from edgeq.errors import Refused
from edgeq.graph import BORDER, Graph, Operator, macs, read, with_integer_kernels, with_own_biases
from edgeq.interpret import dequantize, litert, on_grid
from edgeq.judging.scoring import decibels
from edgeq.ptq import sensitivity
from edgeq.ptq.calibration import affordable
from edgeq.quantization import DETAILS, MODEL, UNQUANTIZED
from edgeq.samples import samples_in

FILE = "errors.json"
FEWEST = 2
FLOATS = ("FLOAT32", "FLOAT16")
NO_SAMPLES = "there are no calibration samples to run it with"
TRAINED = "the model was trained on: its layers have other weights than the float model's"
BORDERING = "it only carries values between float and integers"
IN_FLOAT = "its values are floats: only weights are quantized, if anything is"
QUANTIZED = "the float model is quantized itself, in part"
REORDERED = "the model has its layers in another order than the float model"
NO_NUMBERS = "NaN or infinity is among what it writes"
TOO_LARGE = "the model is too large to be run once a layer for what each costs alone"


@dataclass(frozen=True)
class Row:
    """One operator of the quantized model, with the name and shape of what it writes.

    `reason` says why a figure is None.
    """

    index: int
    operator: str
    name: str
    shape: tuple[int, ...]
    macs: int | None = None
    weight_bytes: int | None = None
    sqnr_db: float | None = None
    alone_quantized_db: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Errors:
    """The operators of a model in execution order, their errors over so many `samples`."""

    samples: int = 0
    layers: tuple[Row, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class LayerErrors:
    """The errors of a .tflite over so many calibration `samples`; one that was `trained` on has none."""

    packages: ClassVar = ("ai-edge-litert",)
    native: ClassVar = True
    trained: bool = False
    samples: int = 32

    def measure(self, out: Path, quantized: Path, baseline: Path, calibration: Path | None) -> None:
        """Write `out/errors.json` of the model in `quantized`, made of the one in `baseline`."""
        graph = read(quantized / MODEL)
        rows = {row.index: row for row in plain(graph)}
        if self.trained or calibration is None:
            reason = TRAINED if self.trained else NO_SAMPLES
            write(out, Errors(0, tuple(replace(row, reason=reason) for row in rows.values())))
            return
        floats = out / baselines.NAME
        floats.write_bytes(_float_model(quantized, baseline))
        samples = sensitivity.spread(samples_in(calibration), self.samples)
        pairs, unlike = matched(read(floats), graph)
        found = _compared((floats, quantized / MODEL), pairs, samples)
        alone, why = _alone(quantized, floats, samples) if not unlike else ({}, "")
        floats.unlink()
        write(out, Errors(len(samples), tuple(
            _filled(row, found.get(index), alone, unlike.get(index), why) for index, row in rows.items())))


def plain(graph: Graph) -> Iterator[Row]:
    """The operators of `graph` with all that needs no run."""
    for operator in graph.operators:
        sink = next(iter(graph.outputs_of(operator)), None)
        held = sum(tensor.data.size for tensor in graph.present_inputs_of(operator)
                   if tensor.data is not None and (tensor.quantization or tensor.dtype in FLOATS))
        yield Row(operator.index, operator.name, sink.name if sink else "", sink.shape if sink else (),
                  macs(graph, only=operator), held)


def matched(floats: Graph, graph: Graph) -> tuple[dict[int, Operator], dict[int, str]]:
    """Operators of `graph` by index, with those of the float one that they stand for; of others, why not.

    In the same order where both have the same kinds of operators, else by the names of what they write.
    """
    ours, theirs = inner(floats), inner(graph)
    if [each.name for each in ours] == [each.name for each in theirs]:
        pairs = {their.index: our for our, their in zip(ours, theirs, strict=True)}
    else:
        pairs = _named_alike((floats, ours), (graph, theirs))
    pairs = {index: our for index, our in pairs.items()
             if _elements(floats, our) == _elements(graph, graph.operators[index])}
    return pairs, {their.index: f"the float model has no {their.name} that writes the same"
                   for their in theirs if their.index not in pairs}


def inner(graph: Graph) -> list[Operator]:
    """The operators of `graph`, without those that carry values between float and integers."""
    return [operator for operator in graph.operators if operator.name not in BORDER]


def powers(wanted: Array, found: Array) -> Array:
    """The sums of the squares of what is `wanted` and of what is off."""
    flat = wanted.reshape(-1).astype(np.float64)
    return np.array([np.square(flat).sum(), np.square(flat - found.reshape(-1)).sum()])


def write(out: Path, errors: Errors) -> None:
    """Write `errors` as `out/errors.json`."""
    (out / FILE).write_text(json.dumps(asdict(errors), indent=1), encoding="utf-8")


def errors_in(folder: Path) -> Errors:
    """What `write` left in `folder`."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=Errors)


def _float_model(quantized: Path, baseline: Path) -> bytes:
    """The float model that the quantized one was made of: the baseline, or what a recipe made of it."""
    edited = quantized / UNQUANTIZED
    if edited.exists():
        return edited.read_bytes()
    return with_integer_kernels(with_own_biases((baseline / baselines.NAME).read_bytes()))


def _named_alike(
    floats: tuple[Graph, list[Operator]], quantized: tuple[Graph, list[Operator]]
) -> dict[int, Operator]:
    """Operators of the quantized graph by index, with those of the float one of the same kind and outputs."""
    (before, ours), (after, theirs) = floats, quantized
    named = {(our.name, _written(before, our)): our for our in ours}
    found = {their.index: named.get((their.name, _written(after, their))) for their in theirs}
    return {index: our for index, our in found.items() if our}


def _written(graph: Graph, operator: Operator) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in graph.outputs_of(operator))


def _elements(graph: Graph, operator: Operator) -> list[int]:
    return [tensor.elements for tensor in graph.outputs_of(operator)]


def _compared(
    models: tuple[Path, Path], pairs: Mapping[int, Operator], samples: Array
) -> dict[int, float | None]:
    """The SQNR (dB) of each operator of the second model over all `samples`, against the first's.

    Sums alone are kept from sample to sample: what all operators write would not fit for long.
    """
    (_, before), (graph, after) = (_run(model) for model in models)
    sums = {index: np.zeros(2) for index in pairs}
    for sample in samples:
        wanted, found = (get(sample[np.newaxis]) for get in (before, after))
        for index, ours in pairs.items():
            for our, their in zip(ours.outputs, graph.operators[index].outputs, strict=True):
                grid = graph.tensors[their].quantization
                sums[index] += powers(wanted(our), dequantize(found(their), grid))
    return {index: round(decibels(*power), 3) for index, power in sums.items() if np.isfinite(power).all()}


Read = Callable[[int], Array]


def _run(model: Path) -> tuple[Graph, Callable[[Array], Read]]:
    """The graph at `model`, and what runs one sample (1, *shape) through it and then reads its tensors."""
    graph = read(model)
    interpreter: Any = litert(model, "own", keep_all=True)

    def run(sample: Array) -> Read:
        interpreter.reset_all_variables()
        interpreter.set_tensor(graph.inputs[0], on_grid(graph, sample)[0])
        interpreter.invoke()
        return lambda tensor: np.asarray(interpreter.get_tensor(tensor))

    return graph, run


def _alone(quantized: Path, floats: Path, samples: Array) -> tuple[dict[int, float], str]:
    """The output's SQNR (dB) with each layer alone quantized, by its place in the integer model; or why not.

    A recipe that ranked the layers has left its table.
    """
    table = quantized / DETAILS
    places = inner(read(quantized / MODEL))
    if reason := _incomparable(read(quantized / MODEL), read(floats)):
        return {}, reason
    if (table / sensitivity.FILE).exists():
        found = sensitivity.read(table)
    else:
        content = floats.read_bytes()
        count = affordable(content, len(samples))
        if count < min(FEWEST, len(samples)):
            return {}, TOO_LARGE
        try:
            found = sensitivity.sensitivity(content, (quantized / MODEL).read_bytes(), samples, count)
        except Refused as refusal:
            return {}, refusal.message
    return {places[row.index].index: row.alone_quantized_db for row in found.layers}, ""


def _incomparable(graph: Graph, floats: Graph) -> str:
    """Why no layer of `graph` can be put into the float model alone; empty where each can."""
    within = inner(graph)
    if not any(tensor.quantization for operator in within for tensor in graph.outputs_of(operator)):
        return IN_FLOAT
    if any(tensor.quantization for tensor in floats.tensors):
        return QUANTIZED
    alike = [each.name for each in within] == [each.name for each in floats.operators]
    return "" if alike else REORDERED


def _filled(
    row: Row, sqnr_db: float | None, alone: Mapping[int, float], unlike: str | None, why: str
) -> Row:
    reason = unlike or (BORDERING if row.operator in BORDER else None)
    if reason is None and sqnr_db is None:
        reason = NO_NUMBERS
    return replace(row, sqnr_db=sqnr_db, alone_quantized_db=alone.get(row.index),
                   reason=reason or why or None)
