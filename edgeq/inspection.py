"""What is in a .tflite: operators, shapes, quantization, sizes, multiply-accumulates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.graph import Graph, Operator, Tensor, macs, read


def described(path: Path) -> dict[str, Any]:
    """The graph in the file at `path` as plain data; ConfigError where there is none."""
    graph = read(path)
    return {
        "model": path.name,
        "bytes": path.stat().st_size,
        "description": graph.description,
        "signatures": list(graph.signature_keys),
        "subgraphs": graph.subgraphs,
        "macs": macs(graph),
        "parameter_bytes": sum(t.data.size for t in graph.tensors if t.data is not None),
        "inputs": [_tensor(graph.tensors[i]) for i in graph.inputs],
        "outputs": [_tensor(graph.tensors[i]) for i in graph.outputs],
        "operators": [_operator(graph, operator) for operator in graph.operators],
    }


def _operator(graph: Graph, operator: Operator) -> dict[str, Any]:
    return {
        "index": operator.index,
        "name": operator.name,
        "version": operator.version,
        "macs": macs(graph, only=operator),
        "inputs": [_tensor(tensor) for tensor in graph.present_inputs_of(operator)],
        "outputs": [_tensor(tensor) for tensor in graph.outputs_of(operator)],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    grid = tensor.quantization
    return {
        "name": tensor.name,
        "type": tensor.dtype,
        "shape": list(tensor.signature),
        "constant_bytes": 0 if tensor.data is None else int(tensor.data.size),
        "quantization": grid and {
            "granularity": "per_channel" if grid.per_channel else "per_tensor",
            "scale": float(grid.scales[0]) if not grid.per_channel else None,
            "zero_point": int(grid.zero_points[0]) if not grid.per_channel else None,
        },
    }
