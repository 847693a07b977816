"""Baselines: figures of a build that are kept in the repository, to hold later ones against.

baselines/NAME.json beside pipeline.yaml (edgeq-baseline/1) holds what the best rung of each job came to, and
what that was taken with. The one rule: it changes only where a figure does. Keys are sorted, and there is no
time in it and no place of a machine, so that a review shows what became better or worse.

A float model is called a baseline, too; that one stands in edgeq/baseline.py.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError
from edgeq.measurement import Value, rounded, to_json
from edgeq.regressions.taken import Job, Side, Taken, damaged, document_at, part, taken
from edgeq.regressions.traits import trait_of

SCHEMA = "edgeq-baseline/1"
FOLDER = "baselines"
DEFAULT = "main"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
AGAIN = "take the file back from git, or delete it and make it anew with `edgeq baseline set`"
LIVE = ("time", "energy")


def place_of(folder: Path, name: str) -> Path:
    """Where the baseline `name` of the pipeline in `folder` stands; ConfigError where it is no name."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a baseline", "use a-z, 0-9, '.', '_' and '-'")
    return folder / FOLDER / f"{name}.json"


def read(path: Path, name: str = "") -> Side:
    """The baseline at `path`; ConfigError where there is none, or with the key that is wrong in it."""
    if not path.is_file():
        raise ConfigError(f"there is no baseline {path}",
                          f"`edgeq baseline set {name or path.stem}` makes it of build/report.json")
    return side_of(document_at(path, AGAIN), str(path), name)


def side_of(content: Mapping[str, Any], path: str, name: str = "") -> Side:
    """The baseline that a file at `path` holds; ConfigError with the key that is wrong in it."""
    if content.get("schema") != SCHEMA:
        raise ConfigError(f"{path}: schema is {content.get('schema')!r}, and should be {SCHEMA!r}",
                          "it is of another edgeq, or no baseline: " + AGAIN)
    jobs: dict[Job, Taken] = {}
    for model, targets in part(content, "jobs", dict, path).items():
        if not isinstance(targets, dict):
            raise damaged(path, f"jobs.{model}", "is no mapping")
        for target in targets:
            given = part(targets, target, dict, path, f"jobs.{model}")
            jobs[model, target] = taken(given, path, f"jobs.{model}.{target}")
    return Side(name or path, jobs)


def text(jobs: Mapping[Job, Taken], version: str) -> str:
    """The baseline with `jobs`, made by that version of edgeq, as its file holds it."""
    told: dict[str, dict[str, Any]] = {}
    for (model, target), job in jobs.items():
        told.setdefault(model, {})[target] = _told(job)
    content = {"schema": SCHEMA, "edgeq": version, "jobs": told}
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def repeated(jobs: Sequence[Taken]) -> Taken:
    """One job of several runs of the same build: the median of what is live, and all that it was.

    The interval of a live figure holds the runs, and the interval of each: from then on it tells the bench's
    repeatability. What is not live is of the first.
    """
    first = jobs[0]
    if len(jobs) == 1:
        return first
    metrics = {name: _merged([job.metrics[name] for job in jobs if name in job.metrics])
               if is_live(name, value) else value for name, value in first.metrics.items()}
    return replace(first, metrics=metrics, repeats=len(jobs))


def _merged(values: Sequence[Value]) -> Value:
    numbers = [value.value for value in values if value.value is not None]
    if len(numbers) < len(values):
        return next(value for value in values if value.value is None)
    ends = [end for value in values for end in value.interval or ()]
    middle = rounded(statistics.median(numbers))
    return replace(values[0], value=middle, interval=(min([*ends, *numbers]), max([*ends, *numbers])))


def is_live(metric: str, value: Value) -> bool:
    """Whether a figure of `metric` was taken on a running device: it comes out otherwise each time."""
    trait = trait_of(metric)
    return trait is not None and trait.kind in LIVE and value.source == "measured"


def _told(job: Taken) -> dict[str, Any]:
    metrics = {name: value for name, value in job.metrics.items() if value.value is not None}
    several = {"repeats": job.repeats} if job.repeats > 1 else {}
    return {"recipe": job.recipe, "commit": job.commit, **several,
            "metrics": to_json(metrics), "identity": dict(job.identity)}
