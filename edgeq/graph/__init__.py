"""A typed view of .tflite graphs: all that reads or rewrites a graph goes through here."""

from edgeq.graph.edit import Change, changed, cut, edited, values_of, with_own_biases
from edgeq.graph.elementwise import with_integer_kernels, with_own_factors
from edgeq.graph.layers import Layer, layers
from edgeq.graph.macs import macs
from edgeq.graph.model import ALIASES, Graph, Operator, Quantization, Tensor
from edgeq.graph.precision import BORDER, not_integer
from edgeq.graph.read import parse, read, unpack, unpacked
from edgeq.graph.static import with_static_batch
from edgeq.graph.write import settled

__all__ = [
    "ALIASES", "BORDER", "Change", "Graph", "Layer", "Operator", "Quantization", "Tensor",
    "changed", "cut", "edited", "layers", "macs", "not_integer", "parse", "read", "settled", "unpack",
    "unpacked", "values_of", "with_integer_kernels", "with_own_biases", "with_own_factors",
    "with_static_batch",
]
