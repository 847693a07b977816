"""How much of a model's accuracy each layer costs, quantized alone, and what leaving it out would win.

A layer is an operator that computes; what only moves values (calibration.MOVED) goes with what wrote
them. Both of its figures are the signal-to-quantization-noise ratio of the model's output, in dB:

    alone quantized   the float graph, but for this layer: inputs, weights and output on int8 grids
    alone not         the integer graph, but for this layer: its function in float between those grids

Grids and integers are those of the real quantized model, and the samples are for calibration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from edgeq import progress
from edgeq.arrays import Array, Floats
from edgeq.graph import BORDER, Change, Graph, Operator, Quantization, Tensor, values_of
from edgeq.interpret import dequantize, quantize
from edgeq.judging.scoring import sqnr_db
from edgeq.ptq import quantizer
from edgeq.ptq.aims import entered
from edgeq.ptq.calibration import FEWEST, MOVED, affordable
from edgeq.ptq.posttraining import given
from edgeq.ptq.stepping import Steps
from edgeq.quantization import Granularity, Static

FILE = "sensitivity.json"
NONE: Mapping[int, Array] = {}


@dataclass(frozen=True)
class Row:
    """One layer: its place among the operators of the float graph, and both of its figures (dB).

    `name` and `shape` are those of its output; `weight_bytes` is what its weights and biases take in
    the integer model.
    """

    index: int
    operator: str
    name: str
    shape: tuple[int, ...]
    weight_bytes: int
    alone_quantized_db: float
    alone_not_db: float

    def __str__(self) -> str:
        return f"{self.index} {self.operator} ({self.short})"

    @property
    def short(self) -> str:
        """Its name as far as it tells: of those that a converter joined the first, by its last parts."""
        return "/".join(self.name.partition(";")[0].split("/")[-2:])


@dataclass(frozen=True)
class Table:
    """The layers of a model, the most sensitive first.

    They are judged by `samples` of `calibration_samples`; `all_quantized_db` is the integer model's figure.
    """

    samples: int
    calibration_samples: int
    all_quantized_db: float
    layers: tuple[Row, ...]


@dataclass(frozen=True)
class Sensitivity:
    """The sensitivity of a model by itself, for who wants to look at it.

    Layers are judged by `samples` of the calibration samples: as many as the model's size affords
    where it is None.
    """

    packages: ClassVar = (quantizer.NAME, "ai-edge-litert")
    native: ClassVar = True
    granularity: Granularity = "per_channel"
    samples: int | None = None

    def look(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/sensitivity.json` for the model as static-int8 makes it.

        Raises Refused where that cannot be.
        """
        start = given(baseline, calibration, Static(8, self.granularity, {}, ("int8", "int8")), "auto")
        plain = start.static(start.baseline)
        write(out, sensitivity(start.baseline, plain.content, start.samples, self.samples))


def sensitivity(baseline: bytes, quantized: bytes, samples: Array, count: int | None = None) -> Table:
    """The layers of the float model `baseline`, with the grids and integers of the `quantized` one.

    They are judged by `count` of `samples` (n, *shape), spread evenly over them; None is as many as
    the model's size affords. Of layers that are equally sensitive the earlier comes first.
    """
    taken = spread(samples, count or max(affordable(baseline, len(samples)), FEWEST))
    wanted: Floats = Steps(baseline, taken).rest()
    floats, integers = Steps(baseline, taken), Steps(quantized, entered(quantized, taken), alike=True)
    all_quantized = _db(_outputs(integers), wanted)
    both = [*layers(floats.graph, integers.graph)]
    rows = []
    for place, (ours, theirs) in enumerate(both):
        progress.tell(place / len(both), "layers")
        alone, otherwise = _both_ways(floats, integers, ours, theirs)
        sink = floats.graph.outputs_of(ours)[0]
        rows.append(Row(ours.index, ours.name, sink.name, sink.shape, _weight_bytes(integers.graph, theirs),
                        _db(alone, wanted), _db(otherwise, wanted)))
    ranked = sorted(rows, key=lambda row: (row.alone_quantized_db, row.index))
    return Table(len(taken), len(samples), all_quantized, tuple(ranked))


def layers(floats: Graph, integers: Graph) -> Iterator[tuple[Operator, Operator]]:
    """The layers of a float graph with the operators that stand for them in its quantized one."""
    theirs = (operator for operator in integers.operators if operator.name not in BORDER)
    for our, their in zip(floats.operators, theirs, strict=True):
        sinks = integers.outputs_of(their)
        if our.name not in MOVED and len(sinks) == 1 and sinks[0].quantization:
            yield our, their


def spread(samples: Array, count: int) -> Array:
    """`count` of `samples` (n, *shape), evenly from the first to the last; all where there are fewer."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples)))
    chosen: Array = samples[places.round().astype(int)]
    return chosen


def real(integers: Array, grid: Quantization) -> Floats:
    """The numbers that the `integers` of a constant stand for, a scale for each slice along the axis."""
    along = [-1 if grid.per_channel and axis == grid.axis else 1 for axis in range(integers.ndim)]
    values: Floats = (integers - grid.zero_points.reshape(along)) * grid.scales.reshape(along)
    return values.astype(np.float32)


def write(out: Path, table: Table) -> None:
    """Write `table` as `out/sensitivity.json`."""
    out.mkdir(exist_ok=True)
    (out / FILE).write_text(json.dumps(asdict(table), indent=1), encoding="utf-8")


def read(folder: Path) -> Table:
    """The table that `write` left in `folder`."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=Table)


def _both_ways(floats: Steps, integers: Steps, ours: Operator, theirs: Operator) -> tuple[Floats, Floats]:
    """The model's outputs with one layer alone quantized, and with it alone not.

    Both runs have come no further than to the layer, and stand behind it afterwards.
    """
    floats.advance(ours.index)
    integers.advance(theirs.index)
    like = {i: integers.graph.tensors[j] for i, j in zip(ours.inputs, theirs.inputs, strict=True) if i >= 0}
    gridded = {i: tensor for i, tensor in like.items() if tensor.quantization}
    seen = {i: _on_grid(floats.values[i], tensor) for i, tensor in gridded.items() if not tensor.constant}
    met = {i: dequantize(integers.values[tensor.index], tensor.quantization)
           for i, tensor in gridded.items() if not tensor.constant}
    alone, free = floats.through([ours], seen, _weights(gridded)), floats.through([ours], met)
    floats.advance(ours.index + 1)
    integers.advance(theirs.index + 1)
    sink = integers.graph.tensors[theirs.outputs[0]]
    return (floats.rest({ours.outputs[0]: _on_grid(alone, sink)}),
            _outputs(integers, {sink.index: quantize(free, sink.dtype, sink.quantization)}))


def _weights(gridded: Mapping[int, Tensor]) -> dict[int, Change]:
    """What the quantized constants among these stand for."""
    return {i: Change(real(values_of(tensor), tensor.quantization))
            for i, tensor in gridded.items() if tensor.constant and tensor.quantization}


def _on_grid(values: Floats, like: Tensor) -> Floats:
    """`values` as the quantized tensor `like` can hold them."""
    return dequantize(quantize(values, like.dtype, like.quantization), like.quantization)


def _outputs(integers: Steps, instead: Mapping[int, Array] = NONE) -> Floats:
    """What an integer graph ends in, some of its values replaced, as floats."""
    sink = integers.graph.tensors[integers.graph.outputs[0]]
    return dequantize(integers.rest(instead), sink.quantization)


def _weight_bytes(graph: Graph, operator: Operator) -> int:
    read = graph.present_inputs_of(operator)
    return sum(tensor.data.size for tensor in read if tensor.data is not None and tensor.quantization)


def _db(outputs: Floats, wanted: Floats) -> float:
    return round(sqnr_db(outputs, wanted), 3)
