"""Recording a build: all of it in one transaction, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.history import sqlite
from edgeq.history.address import address, is_unmade
from edgeq.history.connection import connected, insert
from edgeq.history.rows import project as project_name
from edgeq.history.rows import rows

ONCE = {"runs": "ON CONFLICT (id) DO NOTHING RETURNING number", "benches": "ON CONFLICT (digest) DO NOTHING"}
UNUSED = "DELETE FROM benches WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE bench = digest)"
BELOW = ("tools", "jobs", "artifacts", "rungs", "metrics", "reports")  # a row after those that it belongs to


def record(url: str, content: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Record the build whose report.json holds `content` and whose run.json holds `run`; at `url`, or a path.

    Whether it was new: a run that is there already stays as it is. Raises ToolError where the database is
    locked, full, damaged or not reached, ConfigError where it is no history of ours or `content` no report.
    """
    place, found = address(url), rows(content, run)
    with connected(place, writing=True) as connection:
        runs = found["runs"]
        numbers = connection.rows(f"{insert('runs', runs)} {ONCE['runs']}", runs[0])
        if numbers and found["benches"]:
            connection.fill(f"{insert('benches', found['benches'])} {ONCE['benches']}", found["benches"])
        for table in BELOW if numbers else ():
            if below := [{"run": numbers[0][0], **row} for row in found[table]]:
                connection.fill(insert(table, below), below)
    return bool(numbers)


def forget(url: str, project: str, before: str) -> int:
    """Remove the runs of `project` that started `before` (ISO 8601, UTC), with all that is theirs alone.

    How many. Errors as of `record`, with nothing removed; ConfigError for a named file that is not there.
    """
    place = address(url)
    if is_unmade(place):
        return 0
    with connected(place, writing=True) as connection:
        gone = connection.rows(
            "DELETE FROM runs WHERE project = :project AND started < :before RETURNING id",
            {"project": project_name(project), "before": before})
        connection.fill(UNUSED, [{}])
    return len(gone)


def shrink(url: str) -> None:
    """Give back the space of what was removed from a file; a server does so itself. Errors as of `record`."""
    place = address(url)
    if place.file and not is_unmade(place):
        sqlite.shrink(place)
