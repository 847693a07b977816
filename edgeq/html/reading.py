"""What the page is made of, read again: the report, and the details beside it.

The one rule: a report that is not whole is refused, a detail that is not whole is left out with a
remark: the verdicts stand without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgeq.errors import ConfigError
from edgeq.measurement import Value
from edgeq.report import SCHEMA

LAYERS, ARENA, LINT = "details/layers.json", "details/arena.json", "lint.json"
LARGEST = 16 << 20  # bytes of a detail: more is none of ours

Read = TypeVar("Read")


class Verdict(msgspec.Struct, frozen=True):
    """How a gate judged: its limits, what was found, and why it did not pass."""

    metric: str
    passed: bool
    value: float | None = None
    source: str | None = None
    min: float | None = None
    max: float | None = None
    reason: str | None = None
    explanation: str | None = None
    confidence: float | None = None
    interval: tuple[float, float] | None = None
    needed: int | None = None
    max_regression: float | None = None
    relative: bool | None = None
    baseline: dict[str, Any] | None = None
    change: dict[str, Any] | None = None


class File(msgspec.Struct, frozen=True):
    """A delivered file: its place below the build's folder, its size, its sha256."""

    path: str
    bytes: int
    sha256: str


class Failure(msgspec.Struct, frozen=True):
    """What stopped a job."""

    message: str
    kind: str = "tool"
    hint: str = ""


class Rung(msgspec.Struct, frozen=True):
    """How one rung ended."""

    recipe: str
    state: str
    options: dict[str, Any] = {}
    reason: str | None = None
    notes: list[str] = []
    metrics: dict[str, Value] = {}
    verdicts: list[Verdict] = []
    digests: dict[str, str] = {}


class Saturated(msgspec.Struct, frozen=True):
    """An activation, and the shares of its values and of the samples that leave its calibrated range."""

    tensor: str
    outside: float = 0.0
    samples: float = 0.0


class Missing(msgspec.Struct, frozen=True):
    """A class that no calibration sample is of."""

    name: int | str = msgspec.field(name="class")


class Audit(msgspec.Struct, frozen=True):
    """What was found of the calibration samples (ptq/audit.py)."""

    calibration: int | None = None
    distinct: int | None = None
    constant: int | None = None
    evaluation: int | None = None
    overlap: int | None = None
    looked_at: int | None = None
    activations: int | None = None
    not_run: str | None = None
    missing_classes: list[Missing] = []
    saturated: list[Saturated] = []


class Identity(msgspec.Struct, frozen=True):
    """What the figures were taken with."""

    runner: dict[str, Any] = {}
    data: dict[str, Any] = {}
    meters: list[dict[str, Any]] = []
    tools: dict[str, Any] = {}
    host: dict[str, Any] = {}


class Result(msgspec.Struct, frozen=True):
    """How one job ended."""

    model: str
    target: str
    passed: bool
    recipe: str | None = None
    options: dict[str, Any] = {}
    evaluation: str = ""
    error: Failure | None = None
    notice: str | None = None
    warnings: list[str] = []
    audit: Audit = Audit()
    identity: Identity = Identity()
    metrics: dict[str, Value] = {}
    verdicts: list[Verdict] = []
    artifacts: list[File] = []
    rungs: list[Rung] = []


class Content(msgspec.Struct, frozen=True):
    """report.json."""

    passed: bool
    results: list[Result]
    edgeq: str = ""
    host: dict[str, Any] = {}
    tools: dict[str, Any] = {}


class Occasion(msgspec.Struct, frozen=True):
    """run.json, as far as it is there: when the build was, of which project, at which commit."""

    id: str = ""
    started: str = ""
    seconds: float | None = None
    project: str = ""
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None


class Layer(msgspec.Struct, frozen=True):
    """One layer: `sqnr_db` is its output's, `alone_quantized_db` the model's where it alone is quantized."""

    index: int
    operator: str
    name: str = ""
    shape: list[int] = []
    sqnr_db: float | None = None
    alone_quantized_db: float | None = None
    macs: float | None = None
    weight_bytes: float | None = None
    cost: float | None = None
    kernel: str | None = None
    placed: str | None = None
    reason: str | None = None


class Cost(msgspec.Struct, frozen=True):
    """What the cost of a layer counts, and where it comes from."""

    metric: str = "macs"
    source: str = "estimated"


class Layers(msgspec.Struct, frozen=True):
    """details/layers.json; the errors are over `samples`."""

    layers: list[Layer]
    samples: int | None = None
    cost: Cost | None = None
    placement: dict[str, Any] = {}


class Buffer(msgspec.Struct, frozen=True):
    """A place in the arena, and the first and the last step that need it."""

    name: str
    offset: int
    bytes: int
    first: int
    last: int


class Arena(msgspec.Struct, frozen=True):
    """details/arena.json."""

    arena_bytes: int
    buffers: list[Buffer]
    steps: int = 0


class Operator(msgspec.Struct, frozen=True):
    """Where the rules of a target place one operator, and why."""

    index: int
    name: str
    mapped: bool
    reason: str = ""
    hint: str = ""


class Placement(msgspec.Struct, frozen=True):
    """lint.json: what was found of each operator."""

    operators: list[Operator]
    source: str = "estimated"


class Details(msgspec.Struct, frozen=True):
    """What lies beside the report for one job; `remarks` say what of it could not be read."""

    layers: Layers | None = None
    arena: Arena | None = None
    placement: Placement | None = None
    remarks: tuple[str, ...] = ()


def checked(content: Mapping[str, Any]) -> Content:
    """The report that `content` is; ConfigError where it is of another schema or lacks something."""
    found = content.get("schema")
    if found != SCHEMA:
        raise ConfigError(f"the report is of schema {found!r}, and the page is made of {SCHEMA}",
                          "build again with this edgeq")
    return _whole(content, Content, "the report")


def occasion(run: Mapping[str, Any]) -> Occasion:
    """The run that `run` tells of, which may be empty; ConfigError where it is something else."""
    return _whole(run, Occasion, "the record of the run")


def details(folder: Path, files: Iterable[File]) -> Details:
    """What the `files` of a job in `folder` say of its layers, its arena and its placement."""
    remarks: list[str] = []

    def one(ending: str, kind: type[Read]) -> Read | None:
        named = next((file for file in files if file.path.endswith(f"/{ending}")), None)
        try:
            return _detail(folder, named, kind) if named else None
        except (OSError, ValueError, RecursionError) as error:
            remarks.append(f"{named.path if named else ending} is left out: {error}")
            return None

    files = tuple(files)
    found = one(LAYERS, Layers), one(ARENA, Arena), one(LINT, Placement)
    return Details(*found, tuple(remarks))


def _whole(content: Mapping[str, Any], kind: type[Read], name: str) -> Read:
    try:
        return msgspec.convert(dict(content), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ConfigError(f"{name} is not whole: {error}", "build again") from error


def _detail(folder: Path, file: File, kind: type[Read]) -> Read:
    """What `file` holds; ValueError where it is not the file of the report, OSError where it is gone."""
    path = (folder / file.path).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError("it lies outside the build's folder")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError("it is not the file that the report was written with")
    return msgspec.json.decode(content, type=kind)
