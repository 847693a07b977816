"""report.html: the report, its run, the details and the trends in one file that fetches nothing.

The one rule: what is not whole is refused or named, never shown as if it were all.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq import tool
from edgeq.html import figures, plots
from edgeq.html.library import plotting
from edgeq.html.reading import Content, Details, Layer, Result, checked, details, occasion

PAGE = "report.html"
HERE = Path(__file__).parent
COLUMNS = ("accuracy", "accuracy_drop", "agreement", "model_bytes", "ram_bytes", "arena_bytes",
           "instructions", "cycles", "latency_ms", "energy_uj", "mapped_ops_ratio")
OPENED = 3  # jobs that failed and stand open; more are for the reader to choose


@dataclass(frozen=True)
class Job:
    """One job as the page shows it, with what its trends are drawn from."""

    place: int
    result: Result
    details: Details
    trends: Mapping[str, Any] | None
    open: bool

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that are known, none where they are not."""
        return self.details.layers.layers if self.details.layers else ()


def rendered(
    content: Mapping[str, Any], run: Mapping[str, Any], folder: Path, trends: Iterable[Mapping[str, Any]]
) -> str:
    """The page of the report `content` and its `run`, as report.json and run.json hold them.

    `folder` is where the build lies, `trends` what its history gives. ConfigError where the report is not
    whole or of another schema; details that cannot be read are left out, and named.
    """
    report = checked(content)
    known = tuple(trends)
    page: str = _template().render(
        _own(), report=report, run=occasion(run), jobs=tuple(_jobs(report, folder, known)),
        columns=_columns(report), grid=_grid(report), tradeoff=plots.tradeoff(report),
        runs=tuple(plots.runs(known).values()))
    return page.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text


def _own() -> dict[str, Any]:
    """What is the same on every page: style and scripts, and what the page's policy calls the latter."""
    script, library = _text("page.js"), plotting()
    return {"style": _text("page.css"), "script": script, "library": library,
            "licences": _text("licences.txt"),
            "allowed": [_allowed(each) for each in (script, library) if each]}


def _jobs(report: Content, folder: Path, trends: Sequence[Mapping[str, Any]]) -> Iterator[Job]:
    failed = sum(not result.passed for result in report.results)
    alone = len(report.results) == 1
    places = {run: place for place, run in enumerate(plots.runs(trends))}
    for place, result in enumerate(report.results):
        beside = details(folder, result.artifacts)
        followed = plots.trends(trends, result, places)
        yield Job(place, result, beside, followed, alone or (not result.passed and failed <= OPENED))


def _columns(report: Content) -> list[str]:
    """The metrics that any job has a figure of; agreement where there is no accuracy to show."""
    found = {metric for result in report.results for metric, value in result.metrics.items()
             if value.value is not None}
    hidden = set() if _unlabelled(report) else {"agreement"}
    return [metric for metric in COLUMNS if metric in found - hidden]


def _unlabelled(report: Content) -> bool:
    """Whether a job has figures, and no accuracy among them."""
    return any("accuracy" not in result.metrics for result in report.results if result.metrics)


def _grid(report: Content) -> dict[str, Any] | None:
    """Which job is model x target; None where one of both is alone, and a table says it."""
    models = list(dict.fromkeys(result.model for result in report.results))
    targets = list(dict.fromkeys(result.target for result in report.results))
    if min(len(models), len(targets)) < 2:
        return None
    return {"models": models, "targets": targets, "places": {
        (result.model, result.target): place for place, result in enumerate(report.results)}}


def _template() -> Any:
    """The template; what Jinja compiles of it is kept in edgeq's cache."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    kept = _kept()
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, bytecode_cache=kept)
    environment.filters |= {"named": figures.named, "meaning": figures.meaning}
    environment.globals |= {"figures": figures, "isfinite": math.isfinite}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("page.html")


def _kept() -> Any:
    from jinja2 import FileSystemBytecodeCache

    folder = tool.cache() / "pages"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a cache that cannot be written is none
    return FileSystemBytecodeCache(str(folder)) if os.access(folder, os.W_OK) else None


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _allowed(script: str) -> str:
    """What the page's security policy calls a script by: its digest, so that no other runs."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"
