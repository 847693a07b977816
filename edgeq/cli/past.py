"""The command that looks back: history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len, set_cell_size

from edgeq import run
from edgeq.cli.terminal import FILE, HISTORY, err, say
from edgeq.history import changes, reading, recording
from edgeq.history.address import address
from edgeq.regressions.taken import document_at

COLUMNS = ("run (UTC)", "commit", "branch", "recipe", "figure", "verdict", "change since the run before")


@click.command()
@click.option("--model", "models", multiple=True, help="Only this model (repeatable).")
@click.option("--target", "targets", multiple=True, help="Only this target (repeatable).")
@click.option("--metric", "metrics", multiple=True,
              help="Only this metric (repeatable).  [default: those with a gate]")
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True,
              help="So many runs that have any of it.")
@click.option("--branch", default="", help="Only the runs of this branch.")
@click.option("--project", default="", help="The project.  [default: this folder's, by git's origin or name]")
@click.option("--json", "as_json", is_flag=True, help="For a machine.")
@HISTORY
@click.option("--add", type=FILE, help="Record the build in this folder, and show nothing.")
@click.option("--keep", type=click.IntRange(min=0), metavar="DAYS",
              help="Forget the project's runs that are older, and show nothing.")
def history(history: str, add: Path | None, keep: int | None, as_json: bool, **asked: Any) -> None:
    """Show how figures went from build to build, the newest first."""
    question = reading.Question(**{**asked, "project": asked["project"] or run.project_of(Path())})
    if add:
        new = recording.record(history, *_build(add))
        say(f"{add}: {'recorded' if new else 'this run was recorded before'}")
    elif keep is not None:
        before = (datetime.now(UTC) - timedelta(days=keep)).strftime("%Y-%m-%dT%H:%M:%SZ")
        say(f"{recording.forget(history, question.project, before)} runs of {question.project} forgotten")
        recording.shrink(history)
    else:
        _show(history, question, as_json)


def _show(url: str, question: reading.Question, as_json: bool) -> None:
    found, benches = reading.figures(url, question)
    series = {names: changes.steps(each, benches)[-question.last:]
              for names, each in reading.by_series(found).items()}
    if as_json:
        say(json.dumps([
            {"model": model, "target": target, "metric": metric, "points": [*map(changes.as_json, steps)]}
            for (model, target, metric), steps in series.items()], indent=1))
        return
    for (model, target, metric), steps in series.items():
        say(changes.printable(f"{model} on {target}: {metric}"))
        say(_aligned([COLUMNS, *map(changes.cells, reversed(steps))]))
    if not series:
        err.print(_nothing(url, question), highlight=False, markup=False, soft_wrap=True)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines, their columns below each other: a table of rich's takes as long as all else."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    filled = ([set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(["", *row]).rstrip() for row in filled)


def _nothing(url: str, question: reading.Question) -> str:
    """Why there is nothing to show, and where something is."""
    projects = ", ".join(map(changes.printable, reading.projects(url))) or "none"
    return (f"nothing of this is recorded of project {question.project} in {address(url)}\n"
            f"  a build records it, and so does `edgeq history --add FOLDER`; projects there: {projects}")


def _build(folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What report.json and run.json hold in `folder`, which may be named by the former."""
    place = folder if folder.is_dir() else folder.parent
    content = document_at(place / "report.json", "name a folder that `edgeq build` wrote")
    return content, run.as_json(run.read(place / run.NAME))
