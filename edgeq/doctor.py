"""What this machine has, and so which targets can be built here, and what is missing for others."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.devices.adb_server import phones
from edgeq.errors import ConfigError, ToolError
from edgeq.frontends import FRONTENDS
from edgeq.judging.scoring import Scoring
from edgeq.recipes import RECIPES
from edgeq.samples import Samples
from edgeq.store import version
from edgeq.target import Target, known, read_target


@dataclass(frozen=True)
class Finding:
    """Whether one target can be built and run here; `missing` are packages to install.

    A target whose file is not `sound` cannot be, and `notes` say why.
    """

    target: str
    description: str
    missing: tuple[str, ...]
    tools: tuple[str, ...]
    notes: tuple[str, ...]
    sound: bool = True


def findings(project: Path) -> list[Finding]:
    """One finding a target that `project` or edgeq itself has."""
    return [_finding(name, file) for name, file in known(project).items()]


def versions(makers: Iterable[object]) -> dict[str, str]:
    """The version of every package, and the sha256 of every outside program, that `makers` use.

    What is absent is left out.
    """
    used = list(makers)
    names = {name for maker in used for name in getattr(maker, "packages", ())}
    programs = {program for maker in used for program in _programs(maker)}
    return {name: found for name in sorted(names) if (found := installed(name))} | {
        program.name: f"sha256:{tool.digest(program)}" for program in sorted(programs)}


def installed(package: str) -> str | None:
    """The version of `package`, None where it is not installed."""
    try:
        return version(package)
    except ToolError:
        return None


def devices() -> list[tuple[str, str]]:
    """Phones and serial ports that are attached here, each with its state; what `--device` may name."""
    ports = [(str(port), "a serial port") for port in Path("/dev").glob("tty[AU][CS][MB]*")]
    try:
        seen = [(serial, f"a phone, {state}") for serial, state in phones().items()]
    except ToolError as error:
        seen = [("phones", f"{error.message}: {error.hint}")]
    return [*seen, *sorted(ports)]


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


def frontends_and_recipes() -> list[tuple[str, str, tuple[str, ...]]]:
    """Every frontend and recipe: its role, its name, and the packages of it that are missing."""
    rows = [("frontend", f"{name} to {form}", _missing([kind])) for (form, name), kind in FRONTENDS.items()]
    return rows + [("recipe", f"{name} for {form}", _missing([kind()]))
                   for (form, name), kind in RECIPES.items()]


def _finding(name: str, file: Path) -> Finding:
    try:
        target, document = read_target(file)
    except ConfigError as error:
        return Finding(name, "", (), (), (error.message,), sound=False)
    if target is None:
        return Finding(name, "", (), (), tuple(document.problems), sound=False)
    makers = [target.backend, target.runner, *target.meters, Samples("evaluation"), Scoring()]
    tools, notes, sound = _tools(target)
    return Finding(name, target.description, _missing(makers), tools, notes, sound)


def _tools(target: Target) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """The outside programs that were found, what is to be said of others, and whether it can do without."""
    found: list[str] = []
    for maker in (target.backend, target.runner):
        try:
            found += map(str, getattr(maker, "tools", tuple)())
        except ToolError as error:
            return tuple(found), (f"{error.message}: {error.hint}",), False
    without = hasattr(target.backend, "tools") and not found
    notes = ("no compiler found: it is checked and predicted, not compiled",) if without else ()
    return tuple(found), notes, True


def _programs(maker: object) -> tuple[Path, ...]:
    """The outside programs that `maker` runs; none where one is missing, which its own steps tell."""
    try:
        return tuple(getattr(maker, "tools", tuple)())
    except ToolError:
        return ()


def _missing(makers: Iterable[object]) -> tuple[str, ...]:
    names = {name for maker in makers for name in getattr(maker, "packages", ())}
    return tuple(sorted(name for name in names if not installed(name)))
