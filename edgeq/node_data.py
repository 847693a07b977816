"""What is told of a model's layers as Model Explorer's node data: a value and a colour for each node.

https://github.com/google-ai-edge/model-explorer/wiki/2.-User-Guide#custom-node-data has the form. The one
rule: a node's id is the index of its operator in the .tflite, as Model Explorer's own reader has it, and a
layer that has no figure has no node data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.graph import unpacked

NodeData = Mapping[str, Any]
MAIN = "main"  # what Model Explorer calls a graph that has no name
BAD, GOOD, CHEAP, DEAR = "#e57373", "#ffffff", "#ffffff", "#ffb74d"
PLACES = {"npu": "#81c784", "cpu": "#e57373"}
UNNAMED = re.compile(r"[^A-Za-z0-9 .,()_-]+")  # what would not pass in the name of a source of node data


@dataclass(frozen=True)
class Column:
    """One figure of every layer: its title, its name in layers.json, and the colours of least and most.

    A `level`, in dB, has no sum.
    """

    title: str
    name: str
    least: str = CHEAP
    most: str = DEAR
    level: bool = False


def node_data(described: Mapping[str, Any], graph: str) -> dict[str, NodeData]:
    """Node data of the layers that layers.json has `described`, by a name for a file, for the `graph`.

    What no layer has a figure of is left out. The last is what Model Explorer shows first.
    """
    found = {"placement": _places(described)}
    found |= {file: _figures(described, column) for file, column in _columns(described).items()}
    return {file: {graph: data} for file, data in found.items() if data["results"]}


def graph_id(model: Path) -> str:
    """What Model Explorer calls the main graph of the .tflite at `model`."""
    content = unpacked(model.read_bytes(), model.name)
    signatures = (each.signatureKey for each in content.signatureDefs if not each.subgraphIndex)
    name: bytes = content.subgraphs[0].name or next(signatures, None) or MAIN.encode()
    return name.decode("utf-8", "replace")


def _columns(described: Mapping[str, Any]) -> dict[str, Column]:
    cost = described["cost"]
    columns = {
        "weights": Column("bytes of weights", "weight_bytes"),
        "macs": Column("multiply-accumulates", "macs"),
        "cost": Column(f"{cost['metric']} ({cost['source']})", "cost"),
        "sensitivity": Column("SQNR of the model, this alone quantized (dB)", "alone_quantized_db", BAD, GOOD,
                              level=True),
        "error": Column("SQNR of the output (dB)", "sqnr_db", BAD, GOOD, level=True),
    }
    if cost["metric"] == "macs":
        del columns["cost"]
    return columns


def _figures(described: Mapping[str, Any], column: Column) -> NodeData:
    values = {str(layer["index"]): {"value": layer[column.name]}
              for layer in described["layers"] if layer[column.name] is not None}
    gradient = [{"stop": 0, "bgColor": column.least}, {"stop": 1, "bgColor": column.most}]
    hidden = {"hideAggregatedStats": ["sum"]} if column.level else {}
    return {"name": _title(column.title), "results": values, "gradient": gradient, **hidden}


def _places(described: Mapping[str, Any]) -> NodeData:
    values = {str(layer["index"]): {"value": layer["placed"], "bgColor": PLACES[layer["placed"]]}
              for layer in described["layers"] if layer["placed"] in PLACES}
    source = described.get("placement", {}).get("source")
    return {"name": _title(f"placement ({source})"), "results": values}


def _title(text: str) -> str:
    return UNNAMED.sub(" ", text)
