"""Reading the history: figures over time, and the report of one run.

The one rule: a question is one statement that walks back from the newest run by an index and stops, so
that it takes as long among a hundred thousand results as among a hundred.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeq.errors import ConfigError, ToolError
from edgeq.history import rows
from edgeq.history.address import address, is_unmade
from edgeq.history.connection import connected

COSTS = ("accuracy", "instructions", "cycles", "latency_ms", "energy_uj", "flash_bytes", "ram_bytes",
         "model_bytes")  # what a trend shows beside the metrics that have a gate
POINT = {"run": "r.id", "started": "r.started", "commit": "r.commit_id", "branch": "r.branch",
         "dirty": "r.dirty", "model": "j.model", "target": "j.target", "metric": "m.name",
         "recipe": "j.recipe", "options": "j.options", "bench": "j.bench",
         **{name: f"m.{name}" for name in (
             "value", "unit", "source", "n", "low", "high", "aggregation", "rig", "basis", "passed",
             "verdict", "reason", "minimum", "maximum")}}
FIGURES = "jobs j CROSS JOIN metrics m"  # read in this order: SQLite takes another where it may choose
BEST = "m.run = j.run AND m.job = j.job AND m.rung = j.best"
TREND = ("run", "started", "commit", "branch", "value", "unit", "source")
Point = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What is asked of a project's history: the `last` runs that have any of it; all where none is named.

    Where no metric is named, those are meant that a gate judged, and `beside` them these.
    """

    project: str
    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    branch: str = ""
    last: int = 20
    beside: tuple[str, ...] = ()


def points(url: str, question: Question) -> list[Point]:
    """The figures that `question` asks for, of the best rungs, from the oldest to the newest run.

    Keys are those of POINT, with `interval` in place of `low` and `high`. Nothing where there is no history
    yet, unless a file was named that is not there: that is a ConfigError. Others as those of `record`.
    """
    statement, values = _statement(question, POINT.values())
    return [_point(row) for row in _rows(url, statement, values)]


def figures(url: str, question: Question) -> tuple[list[Point], dict[str, str]]:
    """The same, and of the run before them too, for what changed; and the benches' identities by digest."""
    found = points(url, replace(question, last=question.last + 1))
    values: dict[str, Any] = {}
    which = _within("b.digest", sorted({point["bench"] for point in found}), values)
    statement = " ".join(("SELECT digest, identity FROM benches b WHERE", which))
    return found, dict(_rows(url, statement, values)) if found else {}


def projects(url: str) -> list[str]:
    """The names of all projects in the history."""
    return [name for (name,) in _rows(url, "SELECT DISTINCT project FROM runs ORDER BY project", {})]


def trends(url: str, project: str, last: int = 50) -> list[dict[str, Any]]:
    """How the figures of each model on each target went in the last runs of `project`, for plots.

    A list of {"model", "target", "metric", "points": [{"run", "started", "commit", "branch", "value", "unit",
    "source", "interval", "passed"}]}, of the metrics with a gate and of what each inference costs.
    """
    columns = [POINT[name] for name in ("model", "target", "metric", "low", "high", "passed", *TREND)]
    statement, values = _statement(Question(project, last=last, beside=COSTS), columns)
    found: dict[tuple[str, str, str], list[Point]] = {}
    for model, target, metric, low, high, passed, *told in _rows(url, statement, values):
        found.setdefault((model, target, metric), []).append({
            **dict(zip(TREND, told, strict=True)), "interval": None if low is None else [low, high],
            "passed": None if passed is None else bool(passed)})
    return [{"model": model, "target": target, "metric": metric, "points": series}
            for (model, target, metric), series in sorted(found.items())]


def by_series(found: Sequence[Point]) -> dict[tuple[str, str, str], list[Point]]:
    """The points of each model, target and metric, in their order; the series by these names."""
    def key(point: Point) -> tuple[str, str, str]:
        return point["model"], point["target"], point["metric"]

    return {name: list(series) for name, series in itertools.groupby(sorted(found, key=key), key)}


def report(url: str, run: str) -> dict[str, Any]:
    """What report.json held in the run of that id; ConfigError where none was recorded."""
    found = _rows(url, "SELECT p.content FROM reports p JOIN runs r ON r.number = p.run WHERE r.id = :id",
                  {"id": rows.kept(run)})
    if not found:
        raise ConfigError(f"the history has no report of a run {run!r}",
                          "`edgeq history --json` lists the runs that there are")
    try:
        content: dict[str, Any] = json.loads(zlib.decompress(found[0][0]))
    except (zlib.error, ValueError) as error:
        raise ToolError(f"the report of run {run!r} is damaged in the history: {error}",
                        "build that commit again, or add its folder with `edgeq history --add`") from error
    return content


def runs_at(url: str, project: str, commit: str) -> list[str]:
    """The ids of the runs of `project` at `commit` (all its digits), the newest first, dirty ones last."""
    statement = ("SELECT id FROM runs WHERE project = :project AND commit_id = :commit "
                 "ORDER BY COALESCE(dirty, FALSE), started DESC, id DESC")
    return [run for (run,) in _rows(url, statement, {"project": rows.project(project), "commit": commit})]


def _statement(question: Question, columns: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The one statement that answers `question` by these columns, and its parameters."""
    values: dict[str, Any] = {"project": rows.project(question.project), "last": question.last}
    whose = ["project = :project"]
    if question.branch:
        whose.append("branch = :branch")
        values["branch"] = rows.kept(question.branch)
    asked = {"j.model": question.models, "j.target": question.targets}
    which = [BEST, *(_within(column, names, values) for column, names in asked.items() if names),
             _metric(question, values)]
    words = ("WITH r AS (SELECT * FROM runs WHERE", " AND ".join(whose), "AND EXISTS (SELECT 1 FROM", FIGURES,
             "WHERE j.run = runs.number AND", " AND ".join(which),
             ") ORDER BY started DESC, id DESC LIMIT :last)",
             "SELECT", ", ".join(columns), "FROM r CROSS JOIN", FIGURES, "WHERE j.run = r.number AND",
             " AND ".join(which), "ORDER BY r.started, r.id, j.job, m.position")
    return " ".join(words), values


def _metric(question: Question, values: dict[str, Any]) -> str:
    """The condition that a metric is asked for."""
    named = question.metrics or question.beside
    either = [_within("m.name", named, values)] if named else []
    return " OR ".join(either) if question.metrics else f"({' OR '.join([*either, 'm.passed IS NOT NULL'])})"


def _within(column: str, names: Sequence[str], values: dict[str, Any]) -> str:
    """The condition that `column` is one of `names`, which become parameters."""
    given = {f"{column[2:]}{place}": rows.kept(name) for place, name in enumerate(names)}
    values.update(given)
    return f"{column} IN ({', '.join(f':{name}' for name in given)})"


def _rows(url: str, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What the statement gives; nothing where no history has been made yet."""
    place = address(url)
    if is_unmade(place):
        return []
    with connected(place, writing=False) as connection:
        return connection.rows(statement, values)


def _point(row: Sequence[Any]) -> Point:
    found = dict(zip(POINT, row, strict=True))
    low, high = found.pop("low"), found.pop("high")
    truths = {name: None if found[name] is None else bool(found[name]) for name in ("dirty", "passed")}
    return {**found, **truths, "options": json.loads(found["options"] or "{}"),
            "interval": None if low is None or high is None else [low, high]}
