"""Measurements: metric -> value, with its unit, how many samples stand behind it, and its source.

The one rule: a value always says where it comes from. `measured` was read on the thing itself,
`simulated` came out of an emulator or a compiler's model, `estimated` out of a formula, and
`unavailable` carries the reason why there is none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

Source = Literal["measured", "simulated", "estimated", "unavailable"]
Unit = Literal["ratio", "bytes", "count", "ms", "uj", "db", "value", "hz"]


@dataclass(frozen=True)
class Metric:
    """What a metric's number means: its unit and, in a sentence, what it counts."""

    unit: Unit
    meaning: str


WORST = "worst_group_drop"
METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("ratio", "the task's own score on the target (top1, top5, auc): higher is better"),
    "baseline_accuracy": Metric("ratio", "the same score of the float baseline on the same samples"),
    "accuracy_drop": Metric("ratio", "baseline_accuracy minus accuracy"),
    WORST: Metric("ratio", "the largest accuracy_drop of any group of samples"),
    "agreement": Metric("ratio", "share of samples with the same top-1 as the baseline"),
    "sqnr_db": Metric("db", "signal to quantization noise of the outputs, against the baseline's"),
    "mse": Metric("value", "mean squared error of the outputs, against the baseline's"),
    "cosine": Metric("value", "mean cosine similarity of the outputs to the baseline's"),
    "model_bytes": Metric("bytes", "size of the model file that is shipped"),
    "flash_bytes": Metric("bytes", "read-only memory that the program takes"),
    "ram_bytes": Metric("bytes", "working memory that the program takes"),
    "arena_bytes": Metric("bytes", "the interpreter's tensor arena in use"),
    "instructions": Metric("count", "instructions an inference"),
    "cycles": Metric("count", "cycles an inference"),
    "latency_ms": Metric("ms", "time an inference"),
    "latency_p90_ms": Metric("ms", "time that nine of ten inferences on the device do not exceed"),
    "energy_uj": Metric("uj", "energy an inference"),
    "mapped_ops_ratio": Metric("ratio", "share of the operators that run on the accelerator"),
    "macs": Metric("count", "multiply-accumulates an inference"),
    "cached_bytes": Metric("bytes", "parameters kept in the accelerator's memory"),
    "streamed_bytes": Metric("bytes", "parameters sent to the accelerator on every inference"),
}

# These have a value for a group of samples, too: `accuracy[GROUP]`.
GROUPED = ("accuracy", "baseline_accuracy", "accuracy_drop")
OF_GROUP = re.compile(rf"({'|'.join(GROUPED)})\[(.+)\]", re.DOTALL)

SCALES: Mapping[Unit, Mapping[str, float]] = {
    "ratio": {"": 1, "%": 0.01},
    "bytes": {"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9,
              "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "count": {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "ms": {"": 1, "ms": 1, "us": 1e-3, "s": 1e3},
    "uj": {"": 1, "uJ": 1, "nJ": 1e-3, "mJ": 1e3, "J": 1e6},
    "db": {"": 1, "dB": 1},
    "hz": {"": 1, "Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "value": {"": 1},
}

QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z%]*)\s*")


@dataclass(frozen=True)
class Value:
    """One figure; `n` is the number of samples or runs behind it, None where it has none.

    `interval` holds the true figure with a confidence of 95 %; what another confidence needs is
    kept beside it: `discordant`, the samples that only the baseline has right and those that only
    the target has, or the `standard_error`; neither for a share of `n`. `p_value` is the paired
    test's that the two sides do equally well, `group` the group that the figure is of, `basis` the
    source of the figures that an estimate is made of, `rig` the very device and instruments that it was
    measured with. What is unavailable is `invalid` where it was taken, on a device that was in no state
    for it.
    """

    value: float | None
    unit: Unit
    source: Source
    n: int | None = None
    aggregation: str | None = None
    reason: str | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    discordant: tuple[int, int] | None = None
    standard_error: float | None = None
    group: str | None = None
    basis: str | None = None
    rig: str | None = None
    invalid: bool | None = None


Measurement = Mapping[str, Value]


def in_group(metric: str) -> tuple[str, str]:
    """`accuracy[GROUP]` as the name of the metric and that of the group; ("cycles", "") for others."""
    match = OF_GROUP.fullmatch(metric)
    return (match[1], match[2]) if match else (metric, "")


def unit_of(metric: str) -> Unit:
    """The unit of `metric`, that of `accuracy[GROUP]` among them; KeyError for a name of none."""
    return METRICS[in_group(metric)[0]].unit


def value_of(
    metric: str,
    value: float,
    source: Source,
    *,
    n: int | None = None,
    aggregation: str | None = None,
) -> Value:
    """A figure for `metric`, in its own unit, to 12 digits: more is noise.

    NaN and infinity are no figures.
    """
    if not math.isfinite(value):
        return unavailable(metric, f"it came out as {float(value)}")
    return Value(rounded(value), unit_of(metric), source, n, aggregation)


def unavailable(metric: str, reason: str) -> Value:
    """The absence of a figure for `metric`, with the reason."""
    return Value(None, unit_of(metric), "unavailable", reason=reason)


def invalid(metric: str, reason: str) -> Value:
    """A figure for `metric` that was taken and is none, as on a hot or throttled device; with the reason."""
    return replace(unavailable(metric, reason), invalid=True)


def metered(stated: Measurement, taken: Measurement) -> dict[str, Value]:
    """`stated`, with what a meter has `taken` in its place.

    An estimate that gives way is told beside what was taken; one that nothing was taken in the place of
    stays, with the reason. What was taken and is invalid is what there is.
    """
    made = dict(stated)
    for metric, value in taken.items():
        estimate = stated.get(metric)
        if estimate is None or estimate.source != "estimated":
            made[metric] = value
        elif value.value is None and not value.invalid:
            made[metric] = _noted(estimate, f"not measured: {value.reason}")
        else:
            made[metric] = _noted(value, f"the estimate was {estimate.value:.4g}")
    return made


def _noted(value: Value, text: str) -> Value:
    return replace(value, basis="; ".join(filter(None, (value.basis, text))))


def rounded(number: float) -> float:
    """`number` to 12 digits."""
    return float(f"{number:.12g}")


def to_json(measurement: Measurement) -> dict[str, dict[str, object]]:
    """The measurement as report.json has it: fields that say nothing are left out."""
    return {name: {key: [*field] if isinstance(field, tuple) else field
                   for key, field in vars(value).items() if field is not None or key == "value"}
            for name, value in measurement.items()}


def write(path: Path, measurement: Measurement) -> None:
    """Write the measurement to `path` as JSON."""
    path.write_text(json.dumps(to_json(measurement), indent=1), encoding="utf-8")


def read(path: Path) -> dict[str, Value]:
    """The measurement that `write` left at `path`."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Value])


def quantity(text: str | float, unit: Unit) -> float:
    """A number with a unit, as in `128KiB`, `5M`, `1 %` or `10ms`, in the metric's own unit.

    Raises ValueError, with the units that would do, for any other text.
    """
    if isinstance(text, (int, float)):
        return float(text)
    match = QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a number with a unit")
    number, suffix = match.groups()
    if suffix not in SCALES[unit]:
        known = ", ".join(s for s in SCALES[unit] if s) or "none, a plain number"
        raise ValueError(f"unknown unit {suffix!r} in {text!r}; a metric in {unit} takes: {known}")
    scaled = float(number) * SCALES[unit][suffix]
    if not math.isfinite(scaled):
        raise ValueError(f"{text!r} is too large")
    return scaled
