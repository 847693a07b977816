"""Gates as pipeline.yaml has them: what is wrong with one is said with its line, before a build."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edgeq.decode import Document, Place, meant
from edgeq.gates import MIN_SAMPLES, Gate
from edgeq.measurement import GROUPED, METRICS, WORST, Source, in_group, quantity, unit_of

WITH_INTERVAL = (*GROUPED, "agreement")


@dataclass(frozen=True)
class GateFile:
    """The keys of a gate; limits are numbers, or numbers with a unit (`128KiB`, `5M`, `10ms`).

    `metric` may be of a group (`accuracy[GROUP]`); `confidence` is a share, as `0.95` or `95 %`.
    """

    metric: str
    min: float | str | None = None
    max: float | str | None = None
    targets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    allow: tuple[Source, ...] = ("measured", "simulated")
    confidence: float | str | None = None
    min_samples: int | None = None


def gate(
    document: Document, value: object, at: Place, named: Mapping[str, Collection[str]]
) -> Gate | None:
    """The gate that `value`, which stands at `at`, means; what is wrong goes to the `document`.

    `named` has the names that may stand under `targets` and `models`.
    """
    read = document.read(GateFile, value, at)
    if read is None:
        return None
    if problem := _unknown(read.metric):
        document.complain((*at, "metric"), problem)
        return None
    for key, names in named.items():
        for name in getattr(read, key):
            if name not in names:
                document.complain((*at, key), f"unknown name {name!r} in {key}{meant(name, names)}")
    low, high = _limits(document, read, at)
    return Gate(read.metric, low, high, read.targets, read.models, read.allow,
                _confidence(document, read, at), _min_samples(document, read, at))


def _unknown(metric: str) -> str:
    """What is wrong with the name of a metric; empty where nothing is."""
    plain, _ = in_group(metric)
    if plain in METRICS:
        return ""
    name, bracket, _ = metric.partition("[")
    if not bracket:
        return f"nothing measures {metric!r}{meant(metric, METRICS)}"
    if name not in GROUPED:
        return f"nothing measures {metric!r} by groups{meant(name, GROUPED)}"
    return f"{metric!r} names no group: write {name}[GROUP]"


def _limits(document: Document, read: GateFile, at: Place) -> tuple[float | None, float | None]:
    """The limits of a gate in the unit of its metric, seen to leave room for a figure."""
    low, high = (_limit(document, read, key, at) for key in ("min", "max"))
    if read.min is None and read.max is None:
        document.complain(at, f"the gate on {read.metric} has neither min nor max")
    if low is not None and high is not None and low > high:
        document.complain(at, f"nothing passes the gate on {read.metric}: its min is above its max")
    return low, high


def _limit(document: Document, read: GateFile, key: str, at: Place) -> float | None:
    given = getattr(read, key)
    if given is None:
        return None
    try:
        return quantity(given, unit_of(read.metric))
    except ValueError as error:
        document.complain((*at, key), f"{key}: {error}")
        return None


def _confidence(document: Document, read: GateFile, at: Place) -> float | None:
    if read.confidence is None:
        return None
    if in_group(read.metric)[0] not in WITH_INTERVAL:
        instead = ": gate accuracy_drop[GROUP]" if read.metric == WORST else ""
        document.complain((*at, "confidence"), f"confidence: {read.metric} has no interval{instead}; "
                                               f"these have: {', '.join(WITH_INTERVAL)}")
        return None
    try:
        share = quantity(read.confidence, "ratio")
    except ValueError as error:
        document.complain((*at, "confidence"), f"confidence: {error}")
        return None
    if not 0.5 < share < 1:
        document.complain((*at, "confidence"), f"confidence: between 0.5 and 1, not {share:g}")
    return share


def _min_samples(document: Document, read: GateFile, at: Place) -> int:
    if read.min_samples is None:
        return MIN_SAMPLES
    if read.metric != WORST:
        document.complain((*at, "min_samples"), f"min_samples: it belongs to a gate on {WORST}")
    elif read.min_samples < 1:
        document.complain((*at, "min_samples"), f"min_samples: at least 1, not {read.min_samples}")
    return read.min_samples
