"""What the page's plots are drawn from, as plain JSON: the page itself draws them, when they are looked at.

The one rule: every point carries its source, and nothing that is not finite gets here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeq.html.figures import ABOUT, named, shown, unit_of
from edgeq.html.front import front
from edgeq.html.reading import Content, Result, Rung
from edgeq.measurement import Value

SCORES = ("accuracy", "agreement", "cosine", "sqnr_db")
COSTS = ("model_bytes", "flash_bytes", "ram_bytes", "arena_bytes", "latency_ms", "energy_uj", "cycles",
         "instructions")
FOLLOWED = ("accuracy", "accuracy_drop", "agreement", *COSTS)


def tradeoff(content: Content) -> dict[str, Any]:
    """Accuracy against each cost, a point a rung, by model; with the front of each pair."""
    models: dict[str, list[Result]] = defaultdict(list)
    for result in content.results:
        models[result.model].append(result)
    found = {model: _of_model(results) for model, results in models.items()}
    return {"costs": {metric: named(metric) for metric in COSTS},
            "units": {metric: _axis(metric) for metric in (*COSTS, *SCORES)},
            "models": {model: each for model, each in found.items() if each["points"]}}


def runs(trends: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Every run that the trends have points of, by its id: when it began, its commit and its branch."""
    told = {str(point.get("run")): [str(point.get(key) or "")[:60] for key in ("started", "commit", "branch")]
            for each in trends for point in each.get("points", ())}
    return dict(sorted(told.items(), key=lambda item: (item[1][0], item[0])))


def trends(
    found: Iterable[Mapping[str, Any]], result: Result, places: Mapping[str, int]
) -> dict[str, Any] | None:
    """How the figures of a job went from run to run: those that moved as series, the others in words.

    A point of a series is the place of its run among all, its value, source, interval and verdict.
    """
    series, still, count = [], [], 0
    for metric, points in _of_job(found, result):
        count = max(count, len(points))
        if len({point["value"] for point in points}) > 1:
            series.append({"name": named(metric), "unit": _axis(metric), "points": [
                _in_time(metric, point, places) for point in points]})
        elif len(points) > 1:
            still.append(_still(metric, points[-1]))
    return {"series": series, "still": still, "runs": count} if series or still else None


def _of_job(
    found: Iterable[Mapping[str, Any]], result: Result
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The followed metrics of a job, each with its points that have a figure."""
    for each in found:
        own = (each.get("model"), each.get("target")) == (result.model, result.target)
        if own and each.get("metric") in FOLLOWED:
            yield each["metric"], [point for point in each.get("points", ())
                                   if _finite(point.get("value")) is not None]


def _of_model(results: Sequence[Result]) -> dict[str, Any]:
    rungs = [(result, rung) for result in results for rung in result.rungs if rung.metrics]
    score = _score([rung for _, rung in rungs])
    points = [_point(result, rung, score) for result, rung in rungs if _value(rung, score)]
    fronts = {metric: line for metric in COSTS if (line := _front(points, metric))}
    return {"score": score, "name": named(score), "points": points, "fronts": fronts,
            "baseline": _baseline(rungs) if score == "accuracy" else None}


def _score(rungs: Sequence[Rung]) -> str:
    """The first of SCORES that any rung has; empty where none has any."""
    return next((metric for metric in SCORES if any(_value(rung, metric) for rung in rungs)), "")


def _baseline(rungs: Iterable[tuple[Result, Rung]]) -> float | None:
    """What the float model scores, by the first rung that says so."""
    found = (_value(rung, "baseline_accuracy") for _, rung in rungs)
    return next((_scaled("baseline_accuracy", value.value) for value in found if value), None)


def _point(result: Result, rung: Rung, score: str) -> dict[str, Any]:
    y = rung.metrics[score]
    costs = {metric: [_scaled(metric, found.value), found.source]
             for metric in COSTS if (found := _value(rung, metric))}
    ends = [_scaled(score, end) for end in y.interval] if y.interval else None
    return {"target": result.target, "recipe": rung.recipe, "state": rung.state, "x": costs,
            "y": _scaled(score, y.value), "ends": ends, "source": y.source, "n": y.n}


def _front(points: Sequence[Mapping[str, Any]], metric: str) -> list[int]:
    """The positions of those `points` that are on the front of accuracy against `metric`."""
    having = [place for place, point in enumerate(points) if metric in point["x"]]
    return [having[index] for index in front([(points[p]["x"][metric][0], points[p]["y"]) for p in having])]


def _still(metric: str, point: Mapping[str, Any]) -> str:
    """A figure that never moved, an estimate marked as one."""
    found = shown(metric, point["value"], unit_of(metric))
    about = f"{ABOUT} " if point.get("source") == "estimated" else ""
    return f"{named(metric)} {about}{found.number} {found.unit}".strip()


def _in_time(metric: str, point: Mapping[str, Any], places: Mapping[str, int]) -> list[Any]:
    ends = point.get("interval")
    return [places[str(point.get("run"))], _scaled(metric, point["value"]), str(point.get("source")),
            [_scaled(metric, end) for end in ends] if ends else None, point.get("passed")]


def _value(rung: Rung, metric: str) -> Value | None:
    found = rung.metrics.get(metric)
    return found if found and _finite(found.value) is not None else None


def _finite(number: Any) -> float | None:
    return number if isinstance(number, (int, float)) and math.isfinite(number) else None


def _scaled(metric: str, number: float | None) -> float | None:
    """In the unit of the axis: ratios in percent, bytes in KiB."""
    factor = {"ratio": 100, "bytes": 1 / 1024}.get(unit_of(metric), 1)
    return None if number is None else float(f"{number * factor:.7g}")


def _axis(metric: str) -> str:
    """The unit that an axis of `metric` has."""
    units = {"ratio": "%", "bytes": "KiB", "ms": "ms", "uj": "µJ", "db": "dB"}
    return "pp" if metric == "accuracy_drop" else units.get(unit_of(metric), "")
