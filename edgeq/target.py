"""Targets: a device as data, targets/NAME/target.yaml, read into the roles that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgeq.backends import BACKENDS, Backend
from edgeq.decode import Document, Place, meant, raise_all
from edgeq.errors import ConfigError
from edgeq.lint import DelegateRules, Rules, read_rules
from edgeq.meters import METERS, Meter
from edgeq.power.instruments import INSTRUMENTS
from edgeq.quantization import Granularity, Weighted
from edgeq.runners import REFERENCES, RUNNERS, Runner

FILE, TFLITE = "target.yaml", "tflite"


@dataclass(frozen=True)
class TargetFile:
    """The keys of target.yaml; backend, runner, device and meters are a name, or a mapping with `name`.

    `device` is the runner for one that is attached, where `runner` is an emulator.

    `quantization` constrains recipes by operator; `samples` bounds the evaluation samples;
    `operators` names the file of rules by which its operators are checked.
    """

    description: str
    precisions: tuple[str, ...]
    backend: Any
    runner: Any
    format: str = TFLITE
    device: Any = None
    meters: tuple[Any, ...] = ()
    quantization: Mapping[Weighted, Granularity] = field(default_factory=dict)
    samples: int | None = None
    operators: str = ""


@dataclass(frozen=True)
class Target:
    """What a device accepts, what compiles for it, what runs it, and what measures it.

    `device` runs it where one is attached and asked for (`on_device`).
    """

    name: str
    description: str
    format: str
    precisions: tuple[str, ...]
    backend: Backend
    runner: Runner
    meters: tuple[Meter, ...]
    quantization: Mapping[str, Granularity]
    samples: int | None
    rules: Rules | DelegateRules | None
    device: Runner | None = None


def folders(project: Path) -> tuple[Path, ...]:
    """Where targets are looked for: the project's own, then those that come with edgeq."""
    package = Path(__file__).parent
    return tuple(dict.fromkeys((project / "targets", package / "targets", package.parent / "targets")))


def known(project: Path) -> dict[str, Path]:
    """Target names -> their target.yaml, the project's own before those of edgeq."""
    files = [file for folder in reversed(folders(project)) for file in folder.glob(f"*/{FILE}")]
    found = {file.parent.name: file for file in files}
    return dict(sorted(found.items()))


def find(project: Path, name: str) -> Target:
    """The target `name`; ConfigError where there is none of that name, or its file is wrong."""
    files = known(project)
    if name not in files:
        raise ConfigError(f"unknown target {name!r}{meant(name, files)}", "see `edgeq targets`")
    target, document = read_target(files[name])
    if target is None:
        raise_all([document])
        raise ConfigError(f"{files[name]} is no target", "see another target.yaml for the keys")
    return target


def all_of(project: Path) -> list[Target]:
    """Every target that `project` or edgeq has; ConfigError where a file of one is wrong."""
    return [find(project, name) for name in known(project)]


def read_target(file: Path) -> tuple[Target | None, Document]:
    """The target in `file`; None, and the problems in the document, where it is not one."""
    document = Document(file)
    read = document.read(TargetFile, document.value)
    if read is None:
        return None, document
    if read.samples is not None and read.samples < 1:
        document.complain(("samples",), f"samples: at least 1, not {read.samples}")
    backend = role(document, BACKENDS, read.backend, ("backend",))
    runner = role(document, RUNNERS, read.runner, ("runner",))
    _see_format(document, read.format, backend, runner)
    meters = [_meter(document, each, ("meters", i)) for i, each in enumerate(read.meters)]
    device = _device(document, read.device)
    rules = _rules(document, file.parent / read.operators) if read.operators else None
    if document.problems:
        return None, document
    if rules and "operators" in {each.name for each in fields(backend)}:
        backend = replace(backend, operators=rules)
    rules = getattr(backend, "rules", rules)  # as they hold with what the backend is told
    return Target(
        file.parent.name, read.description, read.format, read.precisions, backend, runner,
        tuple(meters), read.quantization, read.samples, rules, device), document


def on_device(target: Target, address: str) -> Target:
    """`target` with its programs run by the device that is attached at `address`.

    Raises ConfigError where nothing says how such a device is talked to.
    """
    runner: Any = target.device or target.runner
    if "address" not in {each.name for each in fields(runner)}:
        raise ConfigError(f"target {target.name} is not run on an attached device",
                          "say `device:` in its target.yaml: see docs/targets.md")
    return replace(target, runner=replace(runner, address=address))


def role(document: Document, table: Mapping[str, Any], value: object, at: Place) -> Any:
    """The extension that `value` names in `table`, its fields from the rest of the mapping."""
    given: dict[str, Any] = {**value} if isinstance(value, dict) else {"name": value}
    name = given.pop("name", None)
    if str(name) not in table:
        document.complain(at, f"{at[0]}: unknown name {name!r}{meant(str(name), table)}")
        return None
    return document.read(table[name], given, at)


def _meter(document: Document, value: object, at: Place) -> Any:
    """The meter that `value` names, with the instrument that it names, if it takes one."""
    read = role(document, METERS, value, at)
    if not isinstance(value, dict) or "instrument" not in value or read is None:
        return read
    if "runner" in value:
        document.complain((*at, "runner"), "meters: the runner is the target's own; leave it out")
    instrument = role(document, INSTRUMENTS, value["instrument"], (*at, "instrument"))
    return replace(read, instrument=instrument)


def _see_format(document: Document, wanted: str, backend: Any, runner: Any) -> None:
    """Complain of no format, and of a role that takes another one; most runners take what they are given."""
    if wanted not in REFERENCES:
        document.complain(("format",), f"format: unknown name {wanted!r}{meant(wanted, REFERENCES)}")
        return
    for name, each, usual in (("backend", backend, TFLITE), ("runner", runner, wanted)):
        taken = getattr(each, "format", usual)
        if each and taken != wanted:
            document.complain((name,), f"{name}: takes models of the format {taken}, `format` is {wanted}")


def _device(document: Document, value: object) -> Runner | None:
    runner: Runner | None = role(document, RUNNERS, value, ("device",)) if value else None
    return runner


def _rules(document: Document, file: Path) -> Rules | DelegateRules | None:
    rules, beside = read_rules(file)
    for problem in beside.problems:
        document.complain(("operators",), problem)
    return rules
