"""The command that renders the page of a build again: report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgeq import run
from edgeq.cli.terminal import FILE, HISTORY, complain, say
from edgeq.deliver import write
from edgeq.errors import EdgeqError
from edgeq.history import reading
from edgeq.history.address import NOWHERE
from edgeq.html.page import PAGE, rendered
from edgeq.regressions.taken import document_at

AGAIN = "name the folder that `edgeq build` wrote, or build again"


@click.command()
@click.argument("folder", type=FILE, default=Path("build"))
@click.option("--output", type=FILE, show_default="FOLDER/report.html", help="Where the page goes.")
@HISTORY
def report(folder: Path, output: Path | None, history: str) -> None:
    """Render report.html again, from the report.json, the run.json and the details in FOLDER."""
    content = document_at(folder / "report.json", AGAIN)
    occasion = _occasion(folder)
    page = rendered(content, occasion, folder, _trends(history, occasion))
    write(output or folder / PAGE, page)
    say(str(output or folder / PAGE))


def _occasion(folder: Path) -> Mapping[str, Any]:
    """The run that left `folder`; nothing where it says nothing of one."""
    place = folder / run.NAME
    return run.as_json(run.read(place)) if place.exists() else {}


def _trends(url: str, occasion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How the figures of the run's project went; none, and a warning, where that cannot be read."""
    if url == NOWHERE or not occasion:
        return []
    try:
        return reading.trends(url, occasion["project"])
    except EdgeqError as error:
        complain(error, "warning")
        return []
