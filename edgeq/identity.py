"""What a figure was taken with: the data, the runner, the meters, the tools, the machine.

The one rule: two figures are compared only where these are the same, so all of it goes into the report.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from edgeq import tool
from edgeq.artifact import Artifact
from edgeq.errors import ToolError
from edgeq.meters import METERS
from edgeq.plan import Job, makers
from edgeq.power.instruments import INSTRUMENTS
from edgeq.runners import RUNNERS
from edgeq.store import version

PARTS = {**RUNNERS, **INSTRUMENTS}  # what extensions have within them


@dataclass(frozen=True)
class Identity:
    """What has to be the same for two figures to be comparable.

    `data` are digests by role (evaluation, calibration, …); `runner` and each of `meters` have their
    `name` and what target.yaml tells them; `tools` are versions of packages and digests of programs.
    """

    data: Mapping[str, str] = field(default_factory=dict)
    runner: Mapping[str, Any] = field(default_factory=dict)
    meters: tuple[Mapping[str, Any], ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)


def identity(job: Job, made: Mapping[str, Artifact]) -> Identity:
    """What the figures of `job` are taken with; `made` are its artifacts by name, as far as there are."""
    return Identity(
        {name: made[name].digest for name in ("source", "metric", *job.data) if name in made},
        _described(job.target.runner, RUNNERS), tuple(_described(meter, METERS) for meter in job.meters),
        versions(makers(job)), host())


def versions(makers: Iterable[object]) -> dict[str, str]:
    """The version of every package, and the sha256 of every outside program, that `makers` use.

    What is absent is left out.
    """
    used = list(makers)
    names = {name for maker in used for name in getattr(maker, "packages", ())}
    programs = {program for maker in used for program in _programs(maker)}
    images = {name: str(image) for maker in used for name, image in _images(maker)}
    return {name: found for name in sorted(names) if (found := installed(name))} | {
        program.name: f"sha256:{tool.digest(program)}" for program in sorted(programs)} | images


def installed(package: str) -> str | None:
    """The version of `package`, None where it is not installed."""
    try:
        return version(package)
    except ToolError:
        return None


@functools.cache
def host() -> Mapping[str, str]:
    """The machine that the host's figures were taken on."""
    return {"machine": platform.machine(), "system": platform.system(),
            "release": platform.release(), "python": platform.python_version(),
            "cpu": cpu_name()}


def cpu_name() -> str:
    """The processor as it calls itself; its architecture where it has no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line for line in lines if line.startswith("model name")), "")
    return named.partition(":")[2].strip() or platform.machine()


def _described(extension: Any, table: Mapping[str, type[Any]]) -> dict[str, Any]:
    """An extension as target.yaml would have it: its name, and its fields."""
    name = next((name for name, kind in table.items() if kind is type(extension)), type(extension).__name__)
    return {"name": name, **_plain(extension)}


def _plain(extension: Any) -> dict[str, Any]:
    return {key: _described(value, PARTS) if is_dataclass(value) else value
            for key, value in vars(extension).items()}


def _programs(maker: object) -> tuple[Path, ...]:
    """The outside programs that `maker` runs; none where one is missing, which its own steps tell."""
    try:
        return tuple(getattr(maker, "tools", tuple)())
    except ToolError:
        return ()


def _images(maker: object) -> tuple[tuple[str, object], ...]:
    """The images that have the programs of `maker`; none where one is missing, as with programs."""
    try:
        return tuple(getattr(maker, "images", dict)().items())
    except ToolError:
        return ()
