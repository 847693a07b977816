"""How well outputs do: against the labels by the task's metric, and against the baseline's outputs.

The formulas are pure functions over arrays; Scoring reads and writes the files round them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq import measurement
from edgeq.arrays import Array, Floats
from edgeq.errors import ConfigError, Refused
from edgeq.judging.groups import Judged, by_group, unscored
from edgeq.judging.paired import Evidence, Loss, Normal, Share, supported
from edgeq.judging.ranking import placements
from edgeq.measurement import Source, Value, in_group, value_of
from edgeq.program import OUTPUTS, source_in
from edgeq.samples import Labels, groups_in, labels_in, samples_in
from edgeq.user_code import imported

FLOAT32_BITS = 24
CORRECT = "correct.npy"


@dataclass(frozen=True)
class Scoring:
    """`metric` is one of TASKS, the user's own `module:function`, or empty: no labels then.

    Each of `groups` is scored by itself as well, and where `min_samples` is not 0, all groups of
    at least so many samples, for the worst.
    """

    packages: ClassVar = ("numpy",)
    metric: str = ""
    groups: tuple[str, ...] = ()
    min_samples: int = 0

    def measure(
        self, out: Path, ran: Path, reference: Path, evaluation: Path, code: Path | None = None
    ) -> None:
        """Write `out/measurement.json` from the outputs in `ran` and in `reference`.

        Where a sample is right or wrong, `out/correct.npy` (n,) says which; Refused where the
        target's outputs hold NaN or infinity.
        """
        outputs, baseline = np.load(ran / OUTPUTS), np.load(reference / OUTPUTS)
        if not np.isfinite(baseline).all():
            raise ConfigError("the float model gives NaN or infinity on the evaluation data",
                              "mend the model or its data first")
        if not np.isfinite(outputs).all():
            raise Refused("the target's outputs hold NaN or infinity", "try another recipe")
        found = against_baseline(outputs, baseline)
        if self.metric:
            given = Judged(outputs, baseline, labels_in(evaluation), samples_in(evaluation))
            score = self._score(code)
            found |= score(given)
            found |= by_group(score, given, groups_in(evaluation), self.groups, self.min_samples)
            if self.metric in RIGHT:
                np.save(out / CORRECT, RIGHT[self.metric](outputs, given.labels), allow_pickle=False)
        else:
            found |= unscored(self.groups, self.min_samples, "without `metric:` no group can be scored")
        if (source := source_in(ran)) != "simulated":
            found = {metric: _computed_by(source, metric, value) for metric, value in found.items()}
        measurement.write(out / "measurement.json", found)

    def _score(self, code: Path | None) -> Callable[[Judged], dict[str, Value]]:
        if self.metric in RIGHT:
            return functools.partial(_by_sample, RIGHT[self.metric])
        if self.metric == "auc":
            return _by_rank
        return functools.partial(
            _by_function, self.metric, imported(code or Path(), self.metric, "metric"))


def _computed_by(source: Source, metric: str, value: Value) -> Value:
    """`value` with the source of the outputs that it is of; the baseline's are never a device's."""
    own = value.value is not None and in_group(metric)[0] != "baseline_accuracy"
    return replace(value, source=source) if own else value


def correct_in(folder: Path) -> Array | None:
    """Whether each sample is right (n,), of what `Scoring.measure` left in `folder`; else None."""
    path = folder / CORRECT
    return np.load(path, allow_pickle=False) if path.exists() else None


def against_labels(accuracy: float, baseline: float, drop: float, *, n: int) -> dict[str, Value]:
    """The score on the target, the baseline's on the same samples, and their difference."""
    return {
        "accuracy": value_of("accuracy", accuracy, "simulated", n=n),
        "baseline_accuracy": value_of("baseline_accuracy", baseline, "simulated", n=n),
        "accuracy_drop": value_of("accuracy_drop", drop, "simulated", n=n),
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
        alike = value_of("agreement", agreement(outputs, baseline), "simulated", n=n)
        if outputs.size == n * outputs.shape[-1]:  # places within one sample are not independent
            alike = supported("agreement", alike, Share(round(agreement(outputs, baseline) * n), n))
        found["agreement"] = alike
    return found


def right_at_first(outputs: Floats, labels: Array) -> Array:
    """Whether the largest output (n, classes) is at the label (n,), a sample each."""
    right: Array = _by_class(outputs).argmax(axis=1) == labels
    return right


def right_among_five(outputs: Floats, labels: Array) -> Array:
    """Whether the label (n,) is among the five largest outputs (n, classes), a sample each."""
    best = np.argsort(-_by_class(outputs), axis=1, kind="stable")[:, :5]
    right: Array = (best == labels[:, None]).any(axis=1)
    return right


def anomaly_scores(outputs: Floats, samples: Array) -> Floats:
    """How anomalous each sample looks (n,).

    The score is the mean squared reconstruction error where the model gives back its input's
    shape (an autoencoder, as in MLPerf Tiny), else the last output.
    """
    if outputs.shape == samples.shape:
        errors: Floats = np.square(outputs - samples).reshape(len(outputs), -1).mean(axis=1)
        return errors
    return outputs.reshape(len(outputs), -1)[:, -1]


def agreement(outputs: Floats, baseline: Floats) -> float:
    """The share of positions whose largest entry along the last axis is where the baseline has it."""
    return float(np.mean(outputs.argmax(axis=-1) == baseline.argmax(axis=-1)))


def sqnr_db(outputs: Floats, baseline: Floats) -> float:
    """10 log10(sum baseline^2 / sum (baseline - outputs)^2), at most float32's own 144.5 dB."""
    return decibels(np.square(baseline, dtype=np.float64).sum(),
                    np.square(baseline - outputs, dtype=np.float64).sum())


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two powers, as `sqnr_db`."""
    limit = 20 * FLOAT32_BITS * np.log10(2)
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


def _by_sample(right: Callable[[Floats, Array], Array], given: Judged) -> dict[str, Value]:
    """The scores of a metric by which each sample is right or wrong."""
    ours, theirs = (right(each, given.labels) for each in (given.outputs, given.baseline))
    n = len(ours)
    now, before = (Share(int(each.sum()), n) for each in (ours, theirs))
    loss = Loss(int((theirs & ~ours).sum()), int((ours & ~theirs).sum()), n)
    return _supported(
        against_labels(now.estimate, before.estimate, loss.estimate, n=n), now, before, loss)


def _by_rank(given: Judged) -> dict[str, Value]:
    """The areas under the ROC curves, and their difference."""
    n = len(given.outputs)
    ours, theirs = (placements(anomaly_scores(each, given.samples), given.labels)
                    for each in (given.outputs, given.baseline))
    lost = theirs - ours
    found = against_labels(ours.area, theirs.area, lost.area, n=n)
    evidence = [Normal(each.area, each.standard_error, n, span) for each, span in
                ((ours, (0.0, 1.0)), (theirs, (0.0, 1.0)), (lost, (-1.0, 1.0)))
                if each.standard_error is not None]
    return _supported(found, *evidence) if evidence else found


def _by_function(metric: str, function: Callable[..., object], given: Judged) -> dict[str, Value]:
    """The scores by the user's own function, of which nothing more is known than its number."""
    try:
        now, before = (_number(function(each, given.labels), metric)
                       for each in (given.outputs, given.baseline))
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"the metric {metric} failed on {len(given.outputs)} samples: {error}",
                          "mend the function, or the data") from error
    return against_labels(now, before, before - now, n=len(given.outputs))


def _supported(found: dict[str, Value], *evidence: Evidence) -> dict[str, Value]:
    return {metric: supported(metric, value, behind)
            for (metric, value), behind in zip(found.items(), evidence, strict=True)}


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


RIGHT: Mapping[str, Callable[[Floats, Array], Array]] = {
    "top1": right_at_first, "top5": right_among_five}
LABELS: Mapping[str, Labels] = {"top1": "class", "top5": "class", "auc": "anomaly"}
TASKS = tuple(LABELS)
