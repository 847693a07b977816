"""Two builds beside each other: which figures became worse, and which cannot be compared at all.

The one rule: what cannot be compared is said, with what differs, and never passes for equal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeq.decode import meant
from edgeq.errors import ConfigError
from edgeq.measurement import to_json, unit_of
from edgeq.regressions import kept
from edgeq.regressions.change import Allowance, Change, allowance, change
from edgeq.regressions.taken import Job, Side, Taken
from edgeq.regressions.traits import Part, trait_of

SCHEMA = "edgeq-comparison/1"
NO_JOB = "there is no such job here"


@dataclass(frozen=True)
class Question:
    """What of two sides is compared: all where nothing is named.

    `let` are the parts of a bench that may differ; `allowances` has what is allowed of a metric, under "" of
    any other, as it is written.
    """

    models: Collection[str] = ()
    targets: Collection[str] = ()
    metrics: Collection[str] = ()
    let: Collection[Part] = ()
    allowances: Mapping[str, str] = field(default_factory=dict)

    def asks(self, job: Job) -> bool:
        """Whether that model on that target is asked for."""
        return (not self.models or job[0] in self.models) and (not self.targets or job[1] in self.targets)

    def allowed(self, metric: str) -> Allowance:
        """How much worse `metric` may become; ConfigError where what is said of it means nothing.

        A share that is said of all metrics is not said of decibels.
        """
        said = self.allowances.get(metric, self.allowances.get("", ""))
        if not said or (metric not in self.allowances and unit_of(metric) == "db"):
            return Allowance()
        try:
            return allowance(metric, said)
        except ValueError as error:
            raise ConfigError(f"--max-regression {said} for {metric}: {error}",
                              f"a share is written 2%; of one metric: --max-regression {metric}=…") from error


@dataclass(frozen=True)
class Row:
    """One figure of one job on both sides; `regression` where it became worse by more than is allowed."""

    job: Job
    change: Change
    regression: bool = False


@dataclass(frozen=True)
class Comparison:
    """All figures of two sides, and `remarks` on what is on one of them only."""

    old: Side
    new: Side
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """2 where something cannot be compared, else 1 where something became worse, else 0."""
        if any(row.change.outcome == "not comparable" for row in self.rows):
            return 2
        return 1 if any(row.regression for row in self.rows) else 0


def compared(old: Side, new: Side, question: Question) -> Comparison:
    """All that `question` asks for of two sides; ConfigError where the older has none of it."""
    jobs = [job for job in dict.fromkeys([*old.jobs, *new.jobs]) if question.asks(job)]
    if not jobs:
        raise ConfigError(f"neither {old.name} nor {new.name} has what is asked for",
                          f"they have: {_named({*old.jobs, *new.jobs})}")
    rows = tuple(row for job in jobs if job in old.jobs for row in _rows(job, old, new, question))
    if not rows:
        raise ConfigError(f"{old.name} has no figure of what is asked for: nothing would be compared",
                          f"it has: {_named(old.jobs)}")
    return Comparison(old, new, rows, tuple(line for job in jobs for line in _alone(job, old, new, question)))


def repeats(sides: Sequence[Side], question: Question) -> dict[Job, Taken]:
    """What a baseline keeps of several runs of one build: jobs that are asked for, and have figures.

    ConfigError where the runs are not of the same build, or not of the same bench.
    """
    jobs = [job for job in sides[0].jobs if question.asks(job) and sides[0].jobs[job].metrics]
    if not jobs:
        raise ConfigError(f"{sides[0].name} has no figures of what is asked for",
                          f"it has: {_named(sides[0].jobs)}")
    for job in jobs:
        for other in sides[1:]:
            _see_same(job, sides[0], other)
    return {job: kept.repeated([side.jobs[job] for side in sides]) for job in jobs}


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison for a machine."""
    return {"schema": SCHEMA, "old": found.old.name, "new": found.new.name, "exit": found.exit_code,
            "changes": [_row(row) for row in found.rows], "remarks": [*found.remarks]}


def _rows(job: Job, old: Side, new: Side, question: Question) -> Iterator[Row]:
    there, here = old.jobs[job], new.jobs.get(job)
    if here is None:
        yield Row(job, Change("", None, None, "not comparable", (NO_JOB,)))
        return
    if there.error or here.error:
        where, error = ("there", there.error) if there.error else ("here", here.error)
        why = f"the job was stopped {where}: {error.partition(chr(10))[0]}"
        yield Row(job, Change("", None, None, "not comparable", (why,)))
        return
    for metric in _metrics(there, here, question):
        found = change(metric, there, here, question.let)
        yield Row(job, found, found.excess(question.allowed(metric)) > 0)


def _metrics(there: Taken, here: Taken, question: Question) -> list[str]:
    """What is compared: all that the older side has a figure of, or what is asked for."""
    if question.metrics:
        both = {**there.metrics, **here.metrics}
        for metric in question.metrics:
            if trait_of(metric) is None:
                raise ConfigError(f"{metric!r} is no metric that could become worse"
                                  f"{meant(metric, filter(trait_of, both))}", "name another with --metric")
        return [metric for metric in question.metrics if metric in _either(there, here)]
    return _figures(there)


def _figures(side: Taken) -> list[str]:
    """The metrics that `side` has a figure of, and that could become worse."""
    return [metric for metric, value in side.metrics.items()
            if trait_of(metric) is not None and value.value is not None]


def _alone(job: Job, old: Side, new: Side, question: Question) -> Iterator[str]:
    """What of a job is not compared because the older side has nothing of it, a line each."""
    name, there, here = "/".join(job), old.jobs.get(job), new.jobs.get(job)
    if there is None:
        yield f"{name}: only in {new.name}, so nothing is held against it"
    elif here and not (there.error or here.error):
        yield from (f"{name}: {line}" for line in _lacking(there, here, new.name, question))


def _lacking(there: Taken, here: Taken, new: str, question: Question) -> Iterator[str]:
    """The metrics that one of both sides, or neither, has a figure of, where that is no row."""
    absent = [metric for metric in question.metrics if metric not in _either(there, here)]
    if absent or not _either(there, here):
        yield f"neither side has a figure{' of ' if absent else ''}{', '.join(absent)}"
    if not question.metrics:
        for reason, metrics in _added(there, here).items():
            yield f"{', '.join(metrics)}: only in {new}, so nothing is held against it{reason}"


def _either(there: Taken, here: Taken) -> list[str]:
    """The metrics that one of both sides has a figure of, at least."""
    return [*dict.fromkeys([*_figures(there), *_figures(here)])]


def _added(there: Taken, here: Taken) -> Mapping[str, list[str]]:
    """The metrics that only `here` has a figure of, by why there is none there."""
    added: dict[str, list[str]] = {}
    for metric in sorted({*_figures(here)} - {*_figures(there)}):
        found = there.metrics.get(metric)
        added.setdefault(f": there, {found.reason}" if found and found.reason else "", []).append(metric)
    return added


def _see_same(job: Job, first: Side, other: Side) -> None:
    """See that two runs are of one build and one bench; ConfigError with what differs."""
    name = "/".join(job)
    if job not in other.jobs:
        raise ConfigError(f"{other.name} has no {name}, and {first.name} has", "name runs of the same build")
    for metric in _either(first.jobs[job], other.jobs[job]):
        if why := _otherwise(change(metric, first.jobs[job], other.jobs[job])):
            raise ConfigError(f"{first.name} and {other.name} are no repeats: {name}: {metric}: {why}",
                              "name runs of the same build on the same bench")


def _otherwise(found: Change) -> str:
    """Why two figures are no repeats of each other; empty where they are."""
    if found.why or found.old is None or found.new is None:
        return "; ".join(found.why)
    if found.absolute and not kept.is_live(found.metric, found.old):
        return f"it is {found.old.value:g} in the one, and {found.new.value:g} in the other"
    return ""


def _named(jobs: Collection[Job]) -> str:
    return ", ".join(sorted("/".join(job) for job in jobs)) or "nothing"


def _row(row: Row) -> dict[str, Any]:
    found = row.change
    values = {"old": found.old, "new": found.new}
    told = {name: to_json({name: value})[name] if value else None for name, value in values.items()}
    return {"model": row.job[0], "target": row.job[1], "metric": found.metric or None, **told,
            "absolute": found.absolute, "relative": found.relative,
            "interval": found.interval and [*found.interval], "verdict": found.outcome,
            "regression": row.regression, "reasons": [*found.why], "despite": [*found.despite],
            "noise": found.noise or None}
