"""One run of a build: when it was, of which project, at which commit; run.json beside the report.

The one rule: what changes from run to run although nothing else did stands here alone, so that
report.json and all that is delivered are the same again for the same inputs.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edgeq import tool
from edgeq.errors import ConfigError, ToolError

SCHEMA = "edgeq-run/1"
NAME = "run.json"
PATIENCE_S = 10.0
SECRET = re.compile(r"(?<=://)[^/@]*@")  # what git may keep in front of a host: a user, a token


@dataclass(frozen=True)
class Run:
    """`id` is unique and sorts by time; `started` is UTC (ISO 8601), `seconds` what the build took.

    `project` is the address of git's origin, without what is secret in it, else the folder's name. Of git
    the `commit`, `branch` and whether the checkout is `dirty`: None where there is no git.
    """

    id: str
    started: str
    seconds: float
    project: str
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class Clock:
    """When a run began: by the wall for people, and by a clock that nobody sets for its length."""

    began: datetime
    counted: float


def begun() -> Clock:
    """The time now."""
    return Clock(datetime.now(UTC), time.monotonic())


def ended(clock: Clock, folder: Path) -> Run:
    """The run that began by `clock`, of the project in `folder`, and ends now."""
    started = clock.began.strftime("%Y-%m-%dT%H:%M:%SZ")
    unique = f"{clock.began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    seconds = round(time.monotonic() - clock.counted, 3)
    return Run(unique, started, seconds, project_of(folder), **_git(folder))


def as_json(run: Run) -> dict[str, Any]:
    """The run as run.json has it."""
    return {"schema": SCHEMA, **asdict(run)}


def read(path: Path) -> Run:
    """The run in the run.json at `path`; ConfigError where it is none, or of another schema."""
    try:
        content = json.loads(path.read_bytes())
        if content.pop("schema") != SCHEMA:
            raise ConfigError(f"{path} is of another schema than {SCHEMA}", "build again with this edgeq")
        return msgspec.convert(content, Run)
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no record of a run: {error}", "build again") from error


def project_of(folder: Path) -> str:
    """What the project in `folder` is called: its origin's address, else the name of its folder."""
    origin = _said_by_git(folder, "remote", "get-url", "origin").strip()
    return SECRET.sub("", origin) or folder.resolve().name


def _git(folder: Path) -> dict[str, Any]:
    """The commit, the branch and whether anything was changed since; nothing where there is no git."""
    said = _said_by_git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    lines = said.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    commit = heads.get("branch.oid", "")
    if not re.fullmatch("[0-9a-f]{40,64}", commit):
        return {}
    branch = heads.get("branch.head", "")
    return {"commit": commit, "branch": None if branch == "(detached)" else branch,
            "dirty": any(not line.startswith("#") for line in lines)}


def _said_by_git(folder: Path, *words: str) -> str:
    """What git prints in `folder`; nothing where it is missing or fails."""
    try:
        finished = tool.run(["git", *words], timeout_s=PATIENCE_S, cwd=folder)
    except ToolError:
        return ""
    return "" if finished.status else finished.output
