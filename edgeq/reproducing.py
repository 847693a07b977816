"""A build made twice from empty stores, and compared byte by byte.

The one rule: what differs is named, file and offset. Live figures are no part of it, time and power are
never twice the same; nor are logs, what tells of a run (run.json, report.html), and the outputs of attached
devices, in whose place this machine runs the model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from edgeq import building, run
from edgeq.errors import ConfigError
from edgeq.flow import Said
from edgeq.plan import Job
from edgeq.runners import REFERENCES

APART = (run.NAME, "report.html")
LOGS = "logs"
SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """A delivered file that is not the same in both builds, and how it differs."""

    path: str
    message: str


@dataclass(frozen=True)
class Rebuilt:
    """What differs between the builds, and the order with the store that the first of them filled."""

    order: building.Order
    differences: tuple[Difference, ...]

    def told(self) -> Iterator[str]:
        """What a person reads of it."""
        for difference in self.differences[:SHOWN]:
            yield f"not reproducible: {difference.path}: {difference.message}"
        if more := len(self.differences) - SHOWN:
            yield from [f"… and {more} more files"] if more > 0 else ()
        if not self.differences:
            yield "reproducible: two builds from empty stores gave the same bytes"


@contextmanager
def rebuilt(
    order: building.Order, planned: building.Planned, telling: Callable[[], AbstractContextManager[Said]]
) -> Iterator[Rebuilt]:
    """Build `planned` twice, each time from an empty store, which lives as long as the block.

    `telling` is entered while that is done. The order's own store and output folder are not touched.
    Raises ConfigError for a frozen order.
    """
    if order.frozen:
        raise ConfigError("--check-reproducible makes all twice, and --frozen forbids to make anything",
                          "leave one of them out")
    jobs = replace(planned, jobs=tuple(map(_repeatable, planned.jobs)))
    with tempfile.TemporaryDirectory(prefix="edgeq-twice-") as place:
        orders = [replace(order, store=Path(place, name, "store"), output_dir=Path(place, name, "build"))
                  for name in ("first", "the second")]
        with telling() as tell:
            for each in orders:
                building.made(each, jobs, tell)
        found = differences(*(each.output_dir for each in orders))
        yield Rebuilt(replace(order, store=orders[0].store), found)


def differences(first: Path, second: Path) -> tuple[Difference, ...]:
    """The delivered files that are not the same in both folders."""
    return tuple(_differences(first, second))


def _repeatable(job: Job) -> Job:
    """`job` without live figures, and run by this machine where a device would, which never answers alike."""
    job = building.unmeasured(job)
    if not getattr(job.target.runner, "live", False):
        return job
    return replace(job, target=replace(job.target, runner=REFERENCES[job.target.format]))


def _differences(first: Path, second: Path) -> Iterator[Difference]:
    ours, theirs = _files(first), _files(second)
    for path in sorted(ours | theirs):
        if path not in theirs or path not in ours:
            yield Difference(path, f"only the {'first' if path in ours else 'second'} build has it")
        elif (one := (first / path).read_bytes()) != (two := (second / path).read_bytes()):
            yield Difference(path, _how(path, one, two))


def _files(folder: Path) -> set[str]:
    """The files below `folder` that are to be the same again."""
    found = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return {file.as_posix() for file in found if file.as_posix() not in APART and file.parent.name != LOGS}


def _how(path: str, one: bytes, two: bytes) -> str:
    """Where the two differ first: in JSON the key, else the offset."""
    offset = next(i for i, (a, b) in enumerate(zip_longest(one, two)) if a != b)
    said = f"from byte {offset} on, of {len(one)} and {len(two)}"
    if path.endswith(".json"):
        said += f": {_key(json.loads(one), json.loads(two))}"
    return said


def _key(one: Any, two: Any, at: str = "") -> str:
    """The first place where two JSON values differ, with what stands there."""
    left, right = _parts(one), _parts(two)
    if not left or left.keys() != right.keys():
        return f"{at}: {json.dumps(one)[:80]} and {json.dumps(two)[:80]}"
    other = next((key for key in left if left[key] != right[key]), None)
    if other is None:
        return f"{at}: the keys stand in another order"
    return _key(left[other], right[other], f"{at}{other}".removeprefix("."))


def _parts(value: Any) -> dict[str, Any]:
    """What a JSON value holds, each by how its place is written; nothing where it holds nothing."""
    if isinstance(value, dict):
        return {f".{key}": each for key, each in value.items()}
    return {f"[{i}]": each for i, each in enumerate(value)} if isinstance(value, list) else {}
