"""What `build` does for CI: --check-reproducible, and --github."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeq import console, github
from edgeq.building import Order, Planned
from edgeq.cli.terminal import err, say
from edgeq.errors import EdgeqError
from edgeq.report import Report
from edgeq.reproducing import rebuilt


@contextmanager
def reproduced(order: Order, planned: Planned, asked: bool) -> Iterator[tuple[Order, int]]:
    """Where that is `asked`, build twice and say what differs: the order that goes on, and an exit code."""
    if not asked:
        yield order, 0
        return
    with rebuilt(order, planned, lambda: console.progress(err, 2 * len(planned.jobs))) as found:
        for line in found.told():
            say(line)
        yield found.order, 1 if found.differences else 0


@contextmanager
def heard_by_github(asked: bool) -> Iterator[None]:
    """Where that is `asked`, tell GitHub what keeps the block from building."""
    try:
        yield
    except EdgeqError as error:
        if asked:
            _summarize(github.summary_of(error))
            for line in github.mistakes(error):
                say(line)
        raise


def tell_github(report: Report, pipeline: Path) -> None:
    """Write the step summary of `report`, and print its annotations."""
    _summarize(github.summary(report))
    for line in github.commands(report, pipeline):
        say(line)


def _summarize(text: str) -> None:
    """Add `text` to GitHub's step summary; where that cannot be, say so, and the annotations still come."""
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if not place:
        err.print("GITHUB_STEP_SUMMARY is not set: no step summary is written", highlight=False)
        return
    try:
        with Path(place).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        err.print(f"the step summary cannot be written: {error.strerror}", highlight=False, markup=False)
