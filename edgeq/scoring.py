"""How well outputs do: against the labels by the task's metric, and against the baseline's outputs.

The formulas are pure functions over arrays; Scoring reads and writes the files round them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgeq import measurement
from edgeq.arrays import Array, Floats
from edgeq.errors import ConfigError, Refused
from edgeq.measurement import Value, value_of
from edgeq.program import OUTPUTS
from edgeq.samples import Labels, labels_in, samples_in
from edgeq.user_code import imported

FLOAT32_BITS = 24


@dataclass(frozen=True)
class Scoring:
    """`metric` is one of TASKS, the user's own `module:function`, or empty: no labels then."""

    packages: ClassVar = ("numpy", "scikit-learn")
    metric: str = ""

    def measure(
        self, out: Path, ran: Path, reference: Path, evaluation: Path, code: Path | None = None
    ) -> None:
        """Write `out/measurement.json` from the outputs in `ran` and in `reference`.

        Raises Refused where the target's outputs hold NaN or infinity.
        """
        outputs, baseline = np.load(ran / OUTPUTS), np.load(reference / OUTPUTS)
        if not np.isfinite(baseline).all():
            raise ConfigError("the float model gives NaN or infinity on the evaluation data",
                              "mend the model or its data first")
        if not np.isfinite(outputs).all():
            raise Refused("the target's outputs hold NaN or infinity", "try another recipe")
        found = against_baseline(outputs, baseline)
        if self.metric:
            task = self._task(code)
            labels, samples = labels_in(evaluation), samples_in(evaluation)
            found |= against_labels(*(task(each, labels, samples) for each in (outputs, baseline)),
                                    n=len(outputs))
        measurement.write(out / "measurement.json", found)

    def _task(self, code: Path | None) -> Callable[[Floats, Array | None, Array], float]:
        if self.metric in TASKS:
            return TASKS[self.metric]
        function = imported(code or Path(), self.metric, "metric")
        return lambda outputs, labels, _: _number(function(outputs, labels), self.metric)


def against_labels(accuracy: float, baseline: float, *, n: int) -> dict[str, Value]:
    """The score on the target, the baseline's on the same samples, and their difference."""
    return {
        "accuracy": value_of("accuracy", accuracy, "simulated", n=n),
        "baseline_accuracy": value_of("baseline_accuracy", baseline, "simulated", n=n),
        "accuracy_drop": value_of("accuracy_drop", baseline - accuracy, "simulated", n=n),
    }


def against_baseline(outputs: Floats, baseline: Floats) -> dict[str, Value]:
    """How close the outputs (n, *shape) are to the baseline's, without any labels."""
    n = len(outputs)
    found = {
        "sqnr_db": value_of("sqnr_db", sqnr_db(outputs, baseline), "simulated", n=n),
        "mse": value_of("mse", mse(outputs, baseline), "simulated", n=n),
        "cosine": value_of("cosine", cosine(outputs, baseline), "simulated", n=n),
    }
    if outputs.ndim > 1 and outputs.shape[-1] > 1:
        found["agreement"] = value_of("agreement", agreement(outputs, baseline), "simulated", n=n)
    return found


def top1(outputs: Floats, labels: Array, _: Array) -> float:
    """The share of samples whose largest output (n, classes) is at the label (n,)."""
    return float(np.mean(_by_class(outputs).argmax(axis=1) == labels))


def top5(outputs: Floats, labels: Array, _: Array) -> float:
    """The share of samples whose label (n,) is among the five largest outputs (n, classes)."""
    best = np.argsort(-_by_class(outputs), axis=1, kind="stable")[:, :5]
    return float(np.mean((best == labels[:, None]).any(axis=1)))


def auc(outputs: Floats, labels: Array, samples: Array) -> float:
    """The area under the ROC curve of the anomaly score, labels 1 for an anomaly.

    The score is the mean squared reconstruction error where the model gives back its input's
    shape (an autoencoder, as in MLPerf Tiny), else the last output.
    """
    from sklearn.metrics import roc_auc_score

    if outputs.shape == samples.shape:
        scores = np.square(outputs - samples).reshape(len(outputs), -1).mean(axis=1)
    else:
        scores = outputs.reshape(len(outputs), -1)[:, -1]
    if np.unique(labels).size < 2:
        raise ConfigError("auc needs samples of both kinds, and all labels are the same",
                          "add normal samples (0) and anomalies (1)")
    return float(roc_auc_score(labels, scores))


def agreement(outputs: Floats, baseline: Floats) -> float:
    """The share of positions whose largest entry along the last axis is where the baseline has it."""
    return float(np.mean(outputs.argmax(axis=-1) == baseline.argmax(axis=-1)))


def sqnr_db(outputs: Floats, baseline: Floats) -> float:
    """10 log10(sum baseline^2 / sum (baseline - outputs)^2), at most float32's own 144.5 dB."""
    limit = 20 * FLOAT32_BITS * np.log10(2)
    signal = np.square(baseline, dtype=np.float64).sum()
    noise = np.square(baseline - outputs, dtype=np.float64).sum()
    if noise == 0:
        return float(limit)
    return float(min(limit, 10 * np.log10(max(signal, np.finfo(np.float64).tiny) / noise)))


def mse(outputs: Floats, baseline: Floats) -> float:
    """The mean squared difference."""
    return float(np.square(baseline - outputs, dtype=np.float64).mean())


def cosine(outputs: Floats, baseline: Floats) -> float:
    """The mean over samples of the cosine of the angle between outputs and baseline."""
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (outputs, baseline))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = (a * b).sum(axis=1)
    alike = np.where(lengths > 0, dots / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1))
    return float(alike.mean())


def _by_class(outputs: Floats) -> Floats:
    """The outputs as (n, classes); ConfigError where a sample has more than one row of them."""
    if outputs.size != len(outputs) * outputs.shape[-1]:
        raise ConfigError(f"the outputs have the shape {list(outputs.shape)}, and this metric wants one "
                          "row of classes a sample", "leave out `metric:`, or name a module:function")
    return outputs.reshape(len(outputs), -1)


def _number(value: object, metric: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever the user's function returned
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the metric {metric} returned {value!r}",
                          "return one number, higher for better") from error
    if not np.isfinite(number):
        raise ConfigError(f"the metric {metric} returned {number}", "return a finite number")
    return number


TASKS: Mapping[str, Callable[[Floats, Any, Array], float]] = {"top1": top1, "top5": top5, "auc": auc}
LABELS: Mapping[str, Labels] = {"top1": "class", "top5": "class", "auc": "anomaly"}
