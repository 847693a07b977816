"""What an integer model shall come close to: the float model's scores, flattened gently.

A last softmax or sigmoid makes most samples all but certain, so the few doubtful ones would decide
which of two integer models is better; without it, the largest scores would, which decide nothing.
Here it is taken at the temperature T at which the scores of the usual sample spread by 1:

    p = softmax(scores / T),  T = the median of the samples' std(scores)

(a softmax at a temperature: Hinton et al. 2015, arXiv 1503.02531). Scores that no softmax or sigmoid
reads are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import parse
from edgeq.interpret import dequantize, quantize
from edgeq.ptq.stepping import Steps


@dataclass(frozen=True, eq=False)
class Aim:
    """The float model's `scores` (n, *shape) for some samples, and the `activation` that reads them."""

    scores: Floats
    activation: str

    def first(self, count: int) -> Aim:
        """The same for the first `count` samples."""
        return Aim(self.scores[:count], self.activation)

    def distance(self, scores: Floats) -> float:
        """The mean squared difference from other scores (n, *shape); infinite where one is no number."""
        error = float(np.square(self._flattened(scores) - self._flattened(self.scores)).mean())
        return error if np.isfinite(error) else float("inf")

    def loss(self, content: bytes, samples: Array) -> float:
        """The distance of the integer model `content`, run over float `samples` (n, *shape)."""
        return self.distance(integer_scores(content, samples))

    def _flattened(self, scores: Floats) -> Array:
        values, wanted = (each.astype(np.float64) for each in (scores, self.scores))
        if self.activation == "LOGISTIC":
            middle = np.median(wanted)
            spread = usual(np.abs(wanted - middle))
            shares: Array = (1 + np.tanh((values - middle) / spread / 2)) / 2  # 1 / (1 + exp(-x)), for any x
        elif self.activation == "SOFTMAX":
            powers = np.exp((values - values.max(axis=-1, keepdims=True)) / usual(wanted.std(axis=-1)))
            shares = powers / powers.sum(axis=-1, keepdims=True)
        else:
            shares = values
        return shares


def usual(sizes: Array) -> float:
    """The median of `sizes`, which a few large ones do not move; 1 where most are nothing."""
    return float(np.median(sizes)) or 1.0


def aim(baseline: bytes, samples: Array) -> Aim:
    """What models made of the float model `baseline` shall come close to on `samples` (n, *shape)."""
    return Aim(Steps(baseline, samples).scores(), parse(baseline, "the model").scores[1])


def integer_scores(content: bytes, samples: Array) -> Floats:
    """The scores (n, *shape) of a quantized model for float `samples`, as floats again."""
    steps = Steps(content, entered(content, samples))
    return dequantize(steps.scores(), steps.graph.scores[0].quantization)


def entered(content: bytes, samples: Array) -> Array:
    """Float `samples` on the grid of a model's input."""
    graph = parse(content, "the model")
    entry = graph.tensors[graph.inputs[0]]
    return quantize(samples, entry.dtype, entry.quantization)
