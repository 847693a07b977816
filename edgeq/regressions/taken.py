"""The figures of one job, as a report or a baseline keeps them, with what they were taken with.

The one rule: a file that was cut short, or mended by hand, is told with the key that is wrong; nothing of
it is guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgeq.errors import ConfigError
from edgeq.measurement import METRICS, Value, in_group, unit_of

T = TypeVar("T")
REPORT = "edgeq-report/1"
Job = tuple[str, str]  # model, target


@dataclass(frozen=True)
class Taken:
    """What the best rung of one job came to: `identity` is empty where the report is older than that.

    `error` says why there are no figures, where a job was stopped; `repeats` how many runs of the build stand
    behind live figures, whose intervals then hold all of them.
    """

    recipe: str | None
    passed: bool
    metrics: Mapping[str, Value]
    identity: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    error: str = ""
    repeats: int = 1


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what it is called, and its jobs by model and target."""

    name: str
    jobs: Mapping[Job, Taken]


def document_at(path: Path, again: str) -> dict[str, Any]:
    """The JSON mapping in the file at `path`; ConfigError where there is none, `again` saying what to do."""
    try:
        content = json.loads(path.read_bytes(), parse_constant=_no_number, object_pairs_hook=_unique)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", again) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is cut short or damaged: {error}", again) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no report and no baseline", again)
    return content


def of_report(content: Mapping[str, Any], name: str, commit: str | None = None) -> Side:
    """The results of a report.json; ConfigError with the key that is wrong in it."""
    results = part(content, "results", list, name)
    jobs = {}
    for index, result in enumerate(results):
        where = f"results[{index}]"
        if not isinstance(result, dict):
            raise damaged(name, where, "is no mapping")
        model, target = (part(result, key, str, name, where) for key in ("model", "target"))
        jobs[model, target] = taken(result, name, where, commit)
    return Side(name, jobs)


def taken(job: Mapping[str, Any], name: str, where: str, commit: str | None = None) -> Taken:
    """What the mapping of a job says, which stands at `where` in `name`; ConfigError with the wrong key."""
    error = job.get("error")
    told = {key: part(job, key, str, name, where) for key in ("recipe", "commit")
            if job.get(key) is not None}
    return Taken(
        recipe=told.get("recipe"), passed=part(job, "passed", bool, name, where) if "passed" in job else True,
        metrics=_measurement(part(job, "metrics", dict, name, where), name, f"{where}.metrics"),
        identity=_identity(job, name, where),
        commit=told.get("commit", commit),
        error=str(error.get("message", error)) if isinstance(error, dict) else "",
        repeats=part(job, "repeats", int, name, where) if "repeats" in job else 1)


def part(given: Mapping[str, Any], key: str, kind: type[T], name: str, where: str = "") -> T:
    """What stands under `key` at `where`; ConfigError where it is missing or of another kind."""
    found = given.get(key)
    if not isinstance(found, kind):
        at = f"{where}.{key}" if where else key
        raise damaged(name, at, "is missing" if found is None else f"is no {WORDS[kind]}: {found!r:.60}")
    return found


def damaged(name: str, where: str, problem: str) -> ConfigError:
    """That something in the file `name` is not as edgeq writes it."""
    return ConfigError(f"{name}: {where} {problem}", "it was changed by hand or cut short: make it again")


WORDS: Mapping[type[Any], str] = {dict: "mapping", list: "list", str: "text", bool: "true or false",
                                    int: "whole number"}


def _identity(job: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """What the figures were taken with; empty where the file is older than that."""
    if job.get("identity") is None:
        return {}
    found, at = part(job, "identity", dict, name, where), f"{where}.identity"
    for key in ("data", "runner", "tools", "host"):
        part(found, key, dict, name, at)
    if not all(isinstance(meter, dict) for meter in part(found, "meters", list, name, at)):
        raise damaged(name, f"{at}.meters", "is no list of mappings")
    return found


def _measurement(given: Mapping[str, Any], name: str, where: str) -> dict[str, Value]:
    return {metric: _value(metric, value, name, f"{where}.{metric}") for metric, value in given.items()
            if in_group(metric)[0] in METRICS}  # a later edgeq may know more


def _value(metric: str, given: Any, name: str, where: str) -> Value:
    try:
        value = msgspec.convert(given, Value)
    except msgspec.ValidationError as error:
        wanted, _, at = str(error).partition(" - at ")
        raise damaged(name, where + at.strip("`").removeprefix("$"), f"is damaged: {wanted}") from error
    if value.unit != unit_of(metric):
        raise damaged(name, f"{where}.unit", f"is {value.unit}, and should be {unit_of(metric)}")
    numbers = (value.value, *(value.interval or ()))
    if any(number is not None and not math.isfinite(number) for number in numbers):
        raise damaged(name, where, "is no finite number")
    if value.interval and value.interval[0] > value.interval[1]:
        raise damaged(name, f"{where}.interval", "ends before it begins")
    return value


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of `pairs`, which a merge may have left with one key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return found
