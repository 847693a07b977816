"""What a statically quantized graph shall be, and whether a graph is that.

Engines differ, the promise does not: some algorithms silently leave operators in float, so what
an engine made is looked through before anything else sees it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from edgeq.errors import Refused
from edgeq.graph import Graph, not_integer, parse

Granularity = Literal["per_channel", "per_tensor"]
WEIGHTED = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED",
            "TRANSPOSE_CONV")
Weighted = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(WEIGHTED)})$")]
NARROW = ("CONV_2D", "FULLY_CONNECTED")  # what LiteRT's kernels take with weights of 4 bits
BorderType = Literal["int8", "uint8", "float32"]
KeptAs = Literal["int16x8", "float32"]
KEPT: Mapping[KeptAs, str] = {"int16x8": "INT16", "float32": "FLOAT32"}  # and its activations
MODEL, EXPORTED = "model.tflite", "model.pt2"
UNQUANTIZED = "float.tflite"  # the float model that it was made of, where that is none but the baseline
NOTES = "notes.json"
DETAILS = "details"  # a folder of JSON files that are delivered beside the model


@dataclass(frozen=True)
class Static:
    """Integers throughout: int8 weights, activations of `activation_bits` (8 or 16).

    `by_operator` overrides the granularity of the weights for single operators, by their names in
    schema.fbs (`FULLY_CONNECTED`). `weight_bits` of 4 are for the operators in NARROW, the others
    keep 8. The operators that write the tensors named in `kept` stay as precise as `kept_as` says.
    """

    activation_bits: Literal[8, 16]
    granularity: Granularity
    by_operator: Mapping[str, Granularity]
    ends: tuple[str, str]
    weight_bits: Literal[4, 8] = 8
    kept: frozenset[str] = frozenset()
    kept_as: KeptAs = "float32"

    def granularity_of(self, operator: str) -> Granularity:
        """How the weights of `operator` are to be scaled."""
        return self.by_operator.get(operator, self.granularity)


@dataclass(frozen=True)
class FullInteger:
    """What every recipe for int8 activations may be told.

    `granularity_by_operator` holds exceptions for single operators (`FULLY_CONNECTED`); a
    target's own constraints come in here.
    """

    weight_bits: ClassVar[Literal[4, 8]] = 8
    granularity: Granularity = "per_channel"
    granularity_by_operator: Mapping[Weighted, Granularity] = field(default_factory=dict)
    inference_input_type: BorderType = "int8"
    inference_output_type: BorderType = "int8"

    def wanted(self) -> Static:
        """The graph that these fields ask for."""
        return Static(8, self.granularity, self.granularity_by_operator,
                      (self.inference_input_type, self.inference_output_type), self.weight_bits)


def write_static(out: Path, content: bytes, wanted: Static, engine: str) -> None:
    """Write the .tflite file `content` into `out`, once it is seen to be what was `wanted`.

    Raises Refused, naming the first operators that are not.
    """
    complaints = list(_complaints(parse(content, engine), wanted))
    if complaints:
        more = f"; and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise Refused(f"{engine} did not make the graph promised: {'; '.join(complaints[:3])}{more}",
                      "try the other engine, or a recipe that leaves these operators in float")
    (out / MODEL).write_bytes(content)


def note(out: Path, *sentences: str) -> None:
    """Add `sentences` to what a recipe, or a runner, says of what it makes in `out`."""
    (out / NOTES).write_text(json.dumps([*notes_in(out), *sentences]), encoding="utf-8")


def notes_in(folder: Path) -> tuple[str, ...]:
    """What was said of what was made in `folder`; mostly nothing."""
    file = folder / NOTES
    return tuple(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else ()


def _complaints(graph: Graph, wanted: Static) -> Iterator[str]:
    ends = (wanted.ends[0].upper(), wanted.ends[1].upper())
    kept = dict.fromkeys(wanted.kept, KEPT[wanted.kept_as])
    yield from not_integer(graph, f"INT{wanted.activation_bits}", ends, kept)
    for operator in graph.operators:
        if wanted.granularity_of(operator.name) == "per_tensor":
            grids = (tensor.quantization for tensor in graph.present_inputs_of(operator))
            if any(grid and grid.per_channel for grid in grids):
                yield f"operator {operator.index} {operator.name} has weights per channel"
