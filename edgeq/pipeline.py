"""What pipeline.yaml says, as frozen data: models, targets, ladders and gates.

The one rule: everything that is wrong is said at once, each with its file and line, before
anything is made. What the data means for a build is plan.py's matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from edgeq.artifact import Origin
from edgeq.decode import Document, Place, meant, raise_all
from edgeq.frontends import SUFFIXES, kind_of
from edgeq.gates import Gate
from edgeq.measurement import METRICS, Source, quantity
from edgeq.modules import reached
from edgeq.recipes import RECIPES, Recipe
from edgeq.samples import Samples
from edgeq.scoring import LABELS, TASKS, Scoring
from edgeq.target import Target, known, read_target

T = TypeVar("T")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
Role = Literal["calibration", "evaluation", "training"]
ROLES: tuple[Role, ...] = ("calibration", "evaluation", "training")


@dataclass(frozen=True)
class PipelineFile:
    """The keys of pipeline.yaml; what stands in the lists and mappings is read by itself."""

    version: Literal[1]
    models: dict[str, Any]
    targets: tuple[Any, ...]
    ladder: tuple[Any, ...]
    gates: tuple[Any, ...]
    timeout_s: float = 3600.0


@dataclass(frozen=True)
class ModelFile:
    """The keys of a model. `trust` admits code inside the source; `signature` is a SavedModel's."""

    source: str
    evaluation: Any
    calibration: Any = None
    training: Any = None
    trust: bool = False
    signature: str = ""


@dataclass(frozen=True)
class DataFile:
    """The keys of a data set: a path or `module:function`, and how its samples are taken.

    The model is fed (x - mean) / std; `metric` is for the evaluation set alone.
    """

    data: str
    samples: int | None = None
    seed: int = 0
    mean: float = 0.0
    std: float = 1.0
    metric: str = ""


@dataclass(frozen=True)
class TargetEntry:
    """A target in pipeline.yaml, where it is more than a name: it may carry its own ladder."""

    target: str
    ladder: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class GateFile:
    """The keys of a gate; limits are numbers, or numbers with a unit (`128KiB`, `5M`, `10ms`)."""

    metric: str
    min: float | str | None = None
    max: float | str | None = None
    targets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    allow: tuple[Source, ...] = ("measured", "simulated")


@dataclass(frozen=True)
class DataSet:
    """Where a data set lies, and how it is read."""

    origin: Origin
    samples: Samples


@dataclass(frozen=True)
class Model:
    """A trained network with its data and the way it is scored."""

    name: str
    source: Path
    kind: str
    trust: bool
    signature: str
    data: Mapping[Role, DataSet]
    scoring: Scoring
    metric: Origin | None


@dataclass(frozen=True)
class Entry:
    """A rung as the ladder has it; `recipe` is None where the target's format lacks it."""

    name: str
    options: Mapping[str, Any]
    recipe: Recipe | None


@dataclass(frozen=True)
class Pipeline:
    """All that a build is asked to do; each target has its own ladder."""

    models: tuple[Model, ...]
    targets: tuple[Target, ...]
    ladders: Mapping[str, tuple[Entry, ...]]
    gates: tuple[Gate, ...]
    timeout_s: float


def load(path: Path) -> Pipeline:
    """Read pipeline.yaml at `path` and the targets that it names.

    Raises ConfigError with every mistake in any of these files, each as file:line.
    """
    document = Document(path)
    read = document.read(PipelineFile, document.value)
    folder = path.parent
    named: dict[str, Any] = _part(document, "models", dict)
    models = _kept(_model(document, folder, name, entry) for name, entry in named.items())
    entries = [_target_entry(document, entry, i)
               for i, entry in enumerate(_part(document, "targets", list))]
    targets, documents = _targets(document, folder, entries)
    ladders = _ladders(document, entries, targets)
    asked = {entry.target: entry for entry in entries if entry}
    gates = _kept(_gate(document, value, i, (asked, named))
                  for i, value in enumerate(_part(document, "gates", list)))
    if read and read.timeout_s <= 0:
        document.complain(("timeout_s",), f"timeout_s: more than 0, not {read.timeout_s:g}")
    raise_all([document, *documents])
    return Pipeline(models, tuple(targets.values()), ladders, gates, read.timeout_s if read else 0.0)


def _part(document: Document, key: str, kind: type[T]) -> T:
    """What stands under `key`, to be read by itself even where other parts are wrong."""
    value = document.value.get(key) if isinstance(document.value, dict) else None
    if isinstance(value, kind) and not value and key != "gates":
        document.complain((key,), f"{key} is empty")
    return value if isinstance(value, kind) else kind()


def _kept(values: Iterable[T | None]) -> tuple[T, ...]:
    """What could be read; the rest is among the problems."""
    return tuple(value for value in values if value is not None)


def _model(document: Document, folder: Path, name: str, value: object) -> Model | None:
    at: Place = ("models", name)
    if not NAME.fullmatch(name):
        document.complain(at, f"{name!r} is no name: use a-z, 0-9, '.', '_' and '-'")
    read = document.read(ModelFile, value, at)
    sets = _sets(document, folder, value, at)
    if read is None:
        return None
    source = folder / read.source
    kind = _kind(document, source, (*at, "source"))
    if kind is None or "evaluation" not in sets:
        return None
    data = {role: found for role, (found, _) in sets.items()}
    metric = sets["evaluation"][1]
    code = None if metric in ("", *TASKS) else _code(document, folder, metric, (*at, "evaluation", "metric"))
    return Model(name, source, kind, read.trust, read.signature, data, Scoring(metric), code)


def _kind(document: Document, source: Path, at: Place) -> str | None:
    kind = kind_of(source)
    if not source.exists():
        document.complain(at, f"source: there is no {source}")
    elif source.is_file() and not source.stat().st_size:
        document.complain(at, f"source: {source} is empty")
    elif kind is None:
        document.complain(at, f"source: no frontend reads {source.name}; known: {', '.join(SUFFIXES)}, "
                              "or the folder of a SavedModel")
    return kind


def _sets(
    document: Document, folder: Path, model: object, at: Place
) -> dict[Role, tuple[DataSet, str]]:
    """The data sets of a model and the metric that each names, read even where the rest is wrong."""
    given: dict[str, Any] = model if isinstance(model, dict) else {}
    read = {role: _data(document, folder, given[role], (*at, role))
            for role in ROLES if role in given}
    return {role: found for role, found in read.items() if found}


def _data(document: Document, folder: Path, value: object, at: Place) -> tuple[DataSet, str] | None:
    read = document.read(DataFile, value, at)
    if read is None:
        return None
    for key, problem in _mistakes(read, str(at[-1])):
        document.complain((*at, key), problem)
    path = folder / read.data
    function = read.data if FUNCTION.fullmatch(read.data) and not path.exists() else ""
    origin: Origin | None = Origin(path)
    if function:
        origin = _code(document, folder, function, (*at, "data"))
    elif not path.exists():
        document.complain((*at, "data"), f"data: there is no {path}")
    samples = Samples(
        role=cast("Role", at[-1]), count=read.samples, seed=read.seed, mean=read.mean, std=read.std,
        labels=LABELS.get(read.metric, "any"), function=function)
    return (DataSet(origin, samples), read.metric) if origin else None


def _mistakes(read: DataFile, role: str) -> Iterator[tuple[str, str]]:
    if read.metric and role != "evaluation":
        yield "metric", "metric belongs to the evaluation data"
    elif read.metric not in ("", *TASKS) and not FUNCTION.fullmatch(read.metric):
        yield "metric", f"unknown metric {read.metric!r}{meant(read.metric, TASKS)}, or module:function"
    if read.samples is not None and read.samples < 1:
        yield "samples", f"samples: at least 1, not {read.samples}"
    if read.seed < 0:
        yield "seed", f"seed: at least 0, not {read.seed}"
    if not read.data:
        yield "data", "data is empty: name a file, a folder of images, or module:function"
    if read.std == 0:
        yield "std", "std: the samples are divided by it, so not 0"


def _code(document: Document, folder: Path, function: str, at: Place) -> Origin | None:
    """The modules below `folder` behind `module:function`, its own imports among them."""
    if not FUNCTION.fullmatch(function):
        return None
    place = folder.joinpath(*function.partition(":")[0].split("."))
    file = next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)
    if file is None:
        document.complain(at, f"{at[-1]}: there is no {place.with_suffix('.py')} "
                                     f"for {function}")
        return None
    try:
        return Origin(folder, reached(file, folder))
    except SyntaxError as error:
        document.complain(at, f"{at[-1]}: {error.filename or file}:{error.lineno or 1}: {error.msg}")
        return None


def _target_entry(document: Document, value: object, index: int) -> TargetEntry | None:
    given = {"target": value} if isinstance(value, str) else value
    return document.read(TargetEntry, given, ("targets", index))


def _targets(
    document: Document, folder: Path, entries: list[TargetEntry | None]
) -> tuple[dict[str, Target], list[Document]]:
    files = known(folder)
    found: dict[str, Target] = {}
    documents = []
    for index, entry in enumerate(entries):
        at = ("targets", index)
        if entry is None:
            continue
        if entry.target not in files:
            document.complain(at, f"unknown target {entry.target!r}{meant(entry.target, files)}")
        elif not NAME.fullmatch(entry.target) or entry.target == "failed":
            document.complain(at, f"{entry.target!r} is no name for a target: use a-z, 0-9, '.', '_' and "
                                  "'-'; and build/failed is the place of what did not pass")
        elif entry.target in found:
            document.complain(at, f"target {entry.target!r} is named twice")
        else:
            target, read = read_target(files[entry.target])
            documents.append(read)
            if target:
                found[entry.target] = target
    return found, documents


def _ladders(
    document: Document, entries: Sequence[TargetEntry | None], targets: Mapping[str, Target]
) -> dict[str, tuple[Entry, ...]]:
    """The ladder of each target: its own, or the one that all share."""
    shared = _part(document, "ladder", list)
    found = {}
    for index, entry in enumerate(entries):
        if entry and entry.target in targets:
            own: Place = ("targets", index, "ladder")
            values, at = (shared, ("ladder",)) if entry.ladder is None else (entry.ladder, own)
            if entry.ladder == ():
                document.complain(own, "ladder is empty: leave it out for the one that all share")
            found[entry.target] = tuple(_ladder(document, targets[entry.target].format, values, at))
    return found


def _ladder(
    document: Document, model_format: str, values: Sequence[Any], at: Place
) -> Iterator[Entry]:
    names = {name for _, name in RECIPES}
    for index, value in enumerate(values):
        options = dict(value) if isinstance(value, dict) else {"recipe": value}
        name = options.pop("recipe", None)
        if str(name) not in names:
            document.complain((*at, index), f"unknown recipe {name!r}{meant(str(name), sorted(names))}")
        elif (model_format, name) not in RECIPES:
            yield Entry(name, options, None)
        elif recipe := document.read(RECIPES[model_format, name], options, (*at, index)):
            yield Entry(name, options, recipe)


def _gate(
    document: Document, value: object, index: int, named: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> Gate | None:
    at: Place = ("gates", index)
    read = document.read(GateFile, value, at)
    if read is None:
        return None
    if read.metric not in METRICS:
        document.complain((*at, "metric"),
                                 f"nothing measures {read.metric!r}{meant(read.metric, METRICS)}")
        return None
    for key, names in zip(("targets", "models"), named, strict=True):
        for name in getattr(read, key):
            if name not in names:
                document.complain((*at, key), f"unknown name {name!r} in {key}{meant(name, names)}")
    low, high = _limits(document, read, at)
    return Gate(read.metric, low, high, read.targets, read.models, read.allow)


def _limits(document: Document, read: GateFile, at: Place) -> tuple[float | None, float | None]:
    """The limits of a gate in the unit of its metric, seen to leave room for a figure."""
    low, high = (_limit(document, read, key, at) for key in ("min", "max"))
    if read.min is None and read.max is None:
        document.complain(at, f"the gate on {read.metric} has neither min nor max")
    if low is not None and high is not None and low > high:
        document.complain(at, f"nothing passes the gate on {read.metric}: its min is above its max")
    return low, high


def _limit(document: Document, read: GateFile, key: str, at: Place) -> float | None:
    given = getattr(read, key)
    if given is None:
        return None
    try:
        return quantity(given, METRICS[read.metric].unit)
    except ValueError as error:
        document.complain((*at, key), f"{key}: {error}")
        return None
