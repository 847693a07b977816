"""Where the sides of a comparison come from: files, folders, and the history of a project.

A side is a report, a folder with one, a baseline, a run of the history, or what that has of a commit. The one
rule: a side that is not there is told with how to get it, and none takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq import run, tool
from edgeq.errors import ConfigError, ToolError
from edgeq.history import reading
from edgeq.regressions import kept
from edgeq.regressions.taken import REPORT, Job, Side, document_at, of_report

REPORT_FILE = "report.json"
BUILD = "build again, or name a report.json, a build folder or a baseline"
PATIENCE_S = 10.0


def side_at(place: Path) -> Side:
    """The side that a report.json, a folder with one, or a baseline is; ConfigError where it is none."""
    path = place / REPORT_FILE if place.is_dir() else place
    content = document_at(path, BUILD)
    schema = content.get("schema")
    if schema == kept.SCHEMA:
        return kept.side_of(content, str(place))
    if schema != REPORT:
        raise ConfigError(f"{path}: schema is {schema!r}, and should be {REPORT!r} or {kept.SCHEMA!r}", BUILD)
    return of_report(content, str(place), commit_beside(path))


def side_of_run(url: str, identifier: str) -> Side:
    """What the history at `url` has of one run; ConfigError where there is none."""
    return of_report(reading.report(url, identifier), f"run {identifier}")


def sides_of_branch(url: str, folder: Path, base: str) -> tuple[Side, Side]:
    """What the history has of the merge base of HEAD and `base`, and of HEAD, in the checkout of `folder`.

    ConfigError where there is no such branch, and where no run was recorded at one of the two.
    """
    if base.startswith("-"):
        raise ConfigError(f"{base!r} is no branch", "name one with --branch")
    head = _git(folder, "rev-parse", "--verify", "HEAD^{commit}")
    branch = _git(folder, "rev-parse", "--verify", f"{base}^{{commit}}")
    fork = _git(folder, "merge-base", head, branch, why=f"HEAD and {base} have no commit in common")
    if fork == head:
        raise ConfigError(f"HEAD has no commit that {base} has not: there is nothing to compare",
                          "check out the branch, or name another with --branch")
    project = run.project_of(folder)
    return (_at_commit(url, project, fork, f"the merge base with {base}"),
            _at_commit(url, project, head, "HEAD"))


def commit_beside(report: Path) -> str | None:
    """The commit of the build that left `report`, with -dirty where something was changed since."""
    path = report.with_name(run.NAME)
    if not path.is_file():
        return None
    told = run.read(path)
    return f"{told.commit}-dirty" if told.commit and told.dirty else told.commit


def failures(report: Path, asked: Callable[[Job], bool]) -> list[str]:
    """What failed in the jobs that are `asked` for, a line each; that a baseline no longer fits is none."""
    content = document_at(report, BUILD)
    return [f"{result['model']}/{result['target']}: {why}" for result in content.get("results", ())
            if not result["passed"] and asked((result["model"], result["target"]))
            and (why := _failure(result))]


def _failure(result: Mapping[str, Any]) -> str:
    """Why a job did not pass; empty where only its baseline does not fit."""
    if error := result.get("error"):
        return str(error.get("message") if isinstance(error, dict) else error)
    failed = [*filter(_failed, result.get("verdicts") or ())]
    reasons = {verdict.get("reason") for verdict in failed}
    return "" if reasons == {"incomparable"} else "; ".join(map(_said, failed)) or "no rung could be tried"


def _failed(verdict: Any) -> bool:
    return isinstance(verdict, dict) and not verdict.get("passed")


def _said(verdict: Mapping[str, Any]) -> str:
    return f"{verdict.get('metric')} is {verdict.get('value')}: {verdict.get('explanation')}"


def _at_commit(url: str, project: str, commit: str, what: str) -> Side:
    runs = reading.runs_at(url, project, commit)
    if not runs:
        raise ConfigError(f"the history has no run of {project} at {commit[:12]}, {what}",
                          "build it there (git worktree add), or name CI's history with --history")
    return replace(side_of_run(url, runs[0]), name=f"{what}, {commit[:12]}")


def _git(folder: Path, *words: str, why: str = "") -> str:
    """What git answers in `folder`; ConfigError where it has none, which says `why` if that is known."""
    try:
        finished = tool.run(["git", *words], timeout_s=PATIENCE_S, cwd=folder)
    except ToolError as error:
        raise ConfigError(f"git cannot be asked: {error.message}", "compare files, or --run") from error
    if finished.status:
        said = " ".join(finished.output.split()) or "nothing"
        raise ConfigError(why or f"git {' '.join(words)} says: {said:.200}",
                          "name a branch that there is with --branch, in a checkout with its history")
    return finished.output.strip()
