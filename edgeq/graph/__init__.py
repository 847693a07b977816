"""A typed view of .tflite graphs: all that reads or rewrites a graph goes through here."""

from edgeq.graph.macs import macs
from edgeq.graph.model import Graph, Operator, Quantization, Tensor
from edgeq.graph.precision import not_integer
from edgeq.graph.read import parse, read
from edgeq.graph.static import with_static_batch
from edgeq.graph.write import settled

__all__ = [
    "Graph", "Operator", "Quantization", "Tensor",
    "macs", "not_integer", "parse", "read", "settled", "with_static_batch",
]
