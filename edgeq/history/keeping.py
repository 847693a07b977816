"""The run of a build, kept, and how it went before: whatever fails here, the build has its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.errors import EdgeqError
from edgeq.history.address import NOWHERE
from edgeq.history.reading import trends
from edgeq.history.recording import record


@dataclass(frozen=True)
class Kept:
    """The trends of the project, this run among them, and what stood in the way of keeping it."""

    trends: tuple[Mapping[str, Any], ...] = ()
    fault: EdgeqError | None = None


def keep(url: str, content: Mapping[str, Any], run: Mapping[str, Any]) -> Kept:
    """Record the build at `url`, unless that says none, and look up how its figures went."""
    if url == NOWHERE:
        return Kept()
    try:
        record(url, content, run)
        return Kept(tuple(trends(url, run["project"])))
    except EdgeqError as error:
        return Kept(fault=error)
