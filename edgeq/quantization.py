"""What a statically quantized graph shall be, and whether a graph is that.

Engines differ, the promise does not: some algorithms silently leave operators in float, so what
an engine made is looked through before anything else sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgeq.errors import Refused
from edgeq.graph import Graph, not_integer, parse

Granularity = Literal["per_channel", "per_tensor"]
WEIGHTED = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED",
            "TRANSPOSE_CONV")
Weighted = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(WEIGHTED)})$")]
BorderType = Literal["int8", "uint8", "float32"]
MODEL = "model.tflite"


@dataclass(frozen=True)
class Static:
    """Integers throughout: int8 weights, activations of `activation_bits` (8 or 16).

    `by_operator` overrides the granularity of the weights for single operators, by their names in
    schema.fbs (`FULLY_CONNECTED`).
    """

    activation_bits: Literal[8, 16]
    granularity: Granularity
    by_operator: Mapping[str, Granularity]
    ends: tuple[str, str]

    def granularity_of(self, operator: str) -> Granularity:
        """How the weights of `operator` are to be scaled."""
        return self.by_operator.get(operator, self.granularity)


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


def _complaints(graph: Graph, wanted: Static) -> Iterator[str]:
    ends = (wanted.ends[0].upper(), wanted.ends[1].upper())
    yield from not_integer(graph, f"INT{wanted.activation_bits}", ends)
    for operator in graph.operators:
        if wanted.granularity_of(operator.name) == "per_tensor":
            grids = (tensor.quantization for tensor in graph.present_inputs_of(operator))
            if any(grid and grid.per_channel for grid in grids):
                yield f"operator {operator.index} {operator.name} has weights per channel"
