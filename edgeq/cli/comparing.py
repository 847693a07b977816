"""The command that holds one build against another: compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeq import comparing, sides
from edgeq.cli.terminal import FILE, HISTORY, MODELS, TARGETS, out, say
from edgeq.comparing import Comparison, Question, Row
from edgeq.errors import ConfigError
from edgeq.history.changes import printable
from edgeq.measurement import METRICS, Unit, Value, in_group, unit_of
from edgeq.regressions.change import Change
from edgeq.regressions.taken import Side
from edgeq.regressions.traits import PARTS

STYLES = {"better": "green", "worse": "bold red", "worse, as allowed": "yellow", "same": "dim",
          "not comparable": "yellow"}
BUILD_FOLDER = Path("build")


@click.command()
@click.argument("given", metavar="[OLD] [NEW]", type=FILE, nargs=-1)
@click.option("--run", "runs", multiple=True, metavar="ID", help="A run of the history, as OLD or NEW.")
@click.option("--branch", is_flag=False, flag_value="main", metavar="[NAME]",
              help="HEAD against its merge base with this branch, by the history.  [main]")
@MODELS
@TARGETS
@click.option("--metric", "metrics", multiple=True, help="Only this metric (repeatable).")
@click.option("--max-regression", "allowed", multiple=True, metavar="[METRIC=]AMOUNT",
              help="How much worse may be: 2%, accuracy=0.5%, model_bytes=1KiB.  [0, beyond noise]")
@click.option("--allow", "let", default="", metavar=",".join(PARTS),
              help="Compare although these differ, and say so.")
@HISTORY
@click.option("--all", "whole", is_flag=True, help="Also the figures that are what they were.")
@click.option("--json", "as_json", is_flag=True, help="For a machine.")
def compare(given: tuple[Path, ...], runs: tuple[str, ...], branch: str | None, as_json: bool, whole: bool,
            history: str, allowed: tuple[str, ...], let: str, **asked: Any) -> None:
    """Hold NEW (build/, where it is left out) against OLD; 1 if a figure is worse, 2 if not comparable.

    Each is a report.json, a folder with one, or a baseline.
    """
    question = Question(**asked, let=_parts(let), allowances=_allowances(allowed))
    if branch is not None:
        if given or runs:
            raise ConfigError("--branch names both sides", "leave out the others")
        old, new = sides.sides_of_branch(history, Path(), branch)
    else:
        old, new = _two(given, runs, history)
    found = comparing.compared(old, new, question)
    if as_json:
        say(json.dumps(comparing.as_json(found), indent=1))
    else:
        if shown := [row for row in found.rows if whole or row.change.absolute != 0]:
            out.print(_table(found, shown))
        for line in _remarks(found):
            say(line)
    sys.exit(found.exit_code)


def figure(value: Value | None, unit: Unit) -> str:
    """A figure to the last byte or instruction; what is estimated is said to be."""
    if value is None or value.value is None:
        return "—"
    return ("about " if value.source == "estimated" else "") + exact(value.value, unit)


def exact(number: float, unit: Unit, sign: str = "") -> str:
    """`number` in its unit; counts and bytes to the last one."""
    suffix = {"bytes": " B", "ms": " ms", "uj": " uJ", "db": " dB", "hz": " Hz"}.get(unit, "")
    if unit in ("bytes", "count"):
        return f"{number:{sign},.0f}{suffix}"
    return f"{number:{sign}.4g}{suffix}"


def _two(given: tuple[Path, ...], runs: tuple[str, ...], history: str) -> tuple[Side, Side]:
    """The two sides that are named; the newer is build/ where only the older is."""
    found = [*(sides.side_of_run(history, each) for each in runs), *map(sides.side_at, given)]
    if len(found) == 1:
        found.append(sides.side_at(BUILD_FOLDER))
    if len(found) != 2:
        raise ConfigError(f"two sides are compared, and {len(found)} are named",
                          "edgeq compare OLD NEW, or --run ID for one of them, or --branch")
    return found[0], found[1]


def _parts(said: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in said.split(",") if part.strip()]
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"--allow: {part!r} is no part of a bench", f"known: {', '.join(PARTS)}")
    return tuple(parts)


def _allowances(given: tuple[str, ...]) -> Mapping[str, str]:
    """What is said of each metric; under "" of the others."""
    found = {}
    for each in given:
        metric, equals, amount = each.rpartition("=")
        if equals and in_group(metric)[0] not in METRICS:
            raise ConfigError(f"--max-regression: nothing measures {metric!r}", "`edgeq schema` has them all")
        if not amount.strip():
            raise ConfigError(f"--max-regression: {each!r} says no amount", "say one, such as 2%")
        found[metric] = amount.strip()
    return found


def _table(found: Comparison, shown: Sequence[Row]) -> Table:
    """A row of `shown` each: then, now, the change, what it may be by samples and bench, the verdict."""
    names = (escape(printable(name)) for name in (f"old: {found.old.name}", f"new: {found.new.name}"))
    table = Table("model, target", "metric", *names, "change", "95 % interval", "verdict",
                  header_style="bold")
    before = None
    for row in shown:
        name = "" if row.job == before else "/".join(row.job)
        before = row.job
        verdict, moved = _verdict(row), row.change
        cells = (name, moved.metric or "—", *_sides(moved), _change(moved), _interval(moved))
        table.add_row(*(Text(printable(cell)) for cell in cells), Text(verdict, STYLES[verdict]))
    return table


def _remarks(found: Comparison) -> Iterator[str]:
    """What differs, each once with the figures that it is of; what the bench cannot see; the sums."""
    told: dict[str, list[str]] = {}
    for row in found.rows:
        for each in _said(row):
            told.setdefault(each, []).append(row.change.metric)
    for each, metrics in told.items():
        names = ", ".join(dict.fromkeys(filter(None, metrics)))
        yield printable(f"{each} ({names})" if names else each)
    yield from map(printable, found.remarks)
    verdicts = [_verdict(row) for row in found.rows]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in STYLES if each in verdicts)
    yield f"{len(verdicts)} figures: {counts or 'none'}"


def _said(row: Row) -> Iterator[str]:
    """Why a figure is not compared, or although what; and what of its interval is the bench's."""
    name = "/".join(row.job)
    yield from (f"{name}: not comparable: {why}" for why in row.change.why)
    yield from (f"{name}: compared although {why}" for why in row.change.despite)
    if row.change.noise:
        yield f"noise: {row.change.noise}"


def _verdict(row: Row) -> str:
    return "worse, as allowed" if row.change.outcome == "worse" and not row.regression else row.change.outcome


def _sides(change: Change) -> tuple[str, str]:
    unit = unit_of(change.metric) if change.metric else "value"
    return figure(change.old, unit), figure(change.new, unit)


def _change(change: Change) -> str:
    if change.absolute is None:
        return "—"
    if not change.absolute:
        return "0"
    said = exact(change.absolute, unit_of(change.metric), "+")
    if change.relative is None or unit_of(change.metric) in ("ratio", "db"):
        return said
    return f"{said} ({100 * change.relative:+.2f} %)"


def _interval(change: Change) -> str:
    if change.interval is None or change.interval[0] == change.interval[1]:
        return "" if change.interval is None else "exact"
    return " … ".join(exact(end, unit_of(change.metric), "+") for end in change.interval)
