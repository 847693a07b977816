"""What models give for samples, run as the quantizing does: operator by operator where it can."""

from __future__ import annotations

import numpy as np

from edgeq.interpret import dequantize
from edgeq.ptq.aims import entered
from edgeq.ptq.stepping import Steps


def float_outputs(content: bytes, samples: np.ndarray) -> np.ndarray:
    """The outputs (n, *shape) of a float model."""
    return Steps(content, samples).rest()


def integer_outputs(content: bytes, samples: np.ndarray) -> np.ndarray:
    """The outputs (n, *shape) of a quantized model, as floats."""
    steps = Steps(content, entered(content, samples))
    return dequantize(steps.rest(), steps.graph.tensors[steps.graph.outputs[0]].quantization)
