"""What this machine has, and so which targets can be built here, and what is missing for others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeq.devices.adb_server import phones
from edgeq.errors import ConfigError, ToolError
from edgeq.frontends import FRONTENDS
from edgeq.identity import installed
from edgeq.judging.scoring import Scoring
from edgeq.power.attached import attached
from edgeq.recipes import RECIPES
from edgeq.samples import Samples
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


def devices() -> list[tuple[str, str]]:
    """Phones, serial ports and power meters that are attached here, each with its state."""
    ports = [(str(port), "a serial port") for port in Path("/dev").glob("tty[AU][CS][MB]*")]
    try:
        seen = [(serial, f"a phone, {state}") for serial, state in phones().items()]
    except ToolError as error:
        seen = [("phones", f"{error.message}: {error.hint}")]
    return [*seen, *sorted(ports), *attached()]


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
            found += map(str, getattr(maker, "images", dict)().values())
        except ToolError as error:
            return tuple(found), (f"{error.message}: {error.hint}",), False
    without = hasattr(target.backend, "tools") and not found
    notes = ("no compiler found: it is checked and predicted, not compiled",) if without else ()
    return tuple(found), notes, True


def _missing(makers: Iterable[object]) -> tuple[str, ...]:
    names = {name for maker in makers for name in getattr(maker, "packages", ())}
    return tuple(sorted(name for name in names if not installed(name)))
