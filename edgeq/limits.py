"""Gates as pipeline.yaml has them: what is wrong with one is said with its line, before a build."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import Meta

from edgeq.decode import Document, Place, meant
from edgeq.errors import ConfigError
from edgeq.gates import MIN_SAMPLES, Gate
from edgeq.measurement import GROUPED, METRICS, WORST, Source, in_group, quantity, unit_of
from edgeq.regressions import kept
from edgeq.regressions.change import Allowance, allowance
from edgeq.regressions.taken import Side
from edgeq.regressions.traits import trait_of

WITH_INTERVAL = (*GROUPED, "agreement")


@dataclass(frozen=True)
class GateFile:
    """The keys of a gate; limits are numbers, or numbers with a unit (`128KiB`, `5M`, `10ms`)."""

    metric: Annotated[str, Meta(description="what is judged; of a group of samples, `accuracy[GROUP]`")]
    min: Annotated[float | str | None, Meta(description="the least that passes")] = None
    max: Annotated[float | str | None, Meta(description="the most that passes")] = None
    targets: Annotated[tuple[str, ...], Meta(description="where it holds; left out: on all targets")] = ()
    models: Annotated[tuple[str, ...], Meta(description="for which it holds; left out: for all models")] = ()
    allow: Annotated[tuple[Source, ...], Meta(
        description="the sources of figures that satisfy it")] = ("measured", "simulated")
    confidence: Annotated[float | str | None, Meta(
        description="with this (`0.95`, `95 %`) the figure must be within the limits, by its samples")] = None
    min_samples: Annotated[int | None, Meta(
        description="of worst_group_drop: what a group must have to be judged; left out: 30")] = None
    max_regression: Annotated[float | str | None, Meta(
        description="how much worse than the baseline: `2 %` of its figure, of a ratio 2 points, or in the "
                    "metric's own unit")] = None
    baseline: Annotated[str, Meta(
        description="the baseline that `max_regression` means, baselines/NAME.json; left out: main")] = ""


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
                _confidence(document, read, at), _min_samples(document, read, at), *_held(document, read, at))


def with_baselines(document: Document, gates: Iterable[Gate | None]) -> tuple[Gate, ...]:
    """Those of `gates`, all in the order of the file, that could be read, each with its baseline."""
    sides: dict[str, Side] = {}
    found = []
    for index, gate in enumerate(gates):
        if gate and gate.baseline and gate.baseline not in sides:
            sides[gate.baseline] = _side(document, gate.baseline, ("gates", index, "baseline"))
        if gate:
            found.append(replace(gate, kept=sides[gate.baseline].jobs) if gate.baseline else gate)
    return tuple(found)


def _side(document: Document, name: str, at: Place) -> Side:
    """The baseline of that name beside the pipeline; where it cannot be read, an empty one is."""
    try:
        return kept.read(kept.place_of(document.path.parent, name), name)
    except ConfigError as error:
        document.complain(at, f"baseline: {error.message}; {error.hint}")
        return Side(name, {})


def _held(document: Document, read: GateFile, at: Place) -> tuple[Allowance | None, str]:
    """How much worse than which baseline a figure may be."""
    if read.max_regression is None:
        if read.baseline:
            document.complain((*at, "baseline"), "baseline: how much worse than it may the figure become? "
                                                 "Give max_regression too")
        return None, ""
    if trait_of(read.metric) is None:
        document.complain((*at, "max_regression"), f"max_regression: {read.metric} is better neither way")
        return None, ""
    try:
        return allowance(read.metric, read.max_regression), read.baseline or kept.DEFAULT
    except ValueError as error:
        document.complain((*at, "max_regression"), f"max_regression: {error}")
        return None, ""


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
    if read.min is None and read.max is None and read.max_regression is None:
        document.complain(at, f"the gate on {read.metric} has neither min nor max, nor max_regression")
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
