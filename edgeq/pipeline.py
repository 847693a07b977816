"""What pipeline.yaml says, as frozen data: models, targets, ladders and gates.

The one rule: everything that is wrong is said at once, each with its file and line, before
anything is made. What the data means for a build is plan.py's matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from msgspec import Meta

from edgeq import ladder, limits
from edgeq.artifact import Origin
from edgeq.decode import Document, Place, meant, raise_all
from edgeq.frontends import CODE, SUFFIXES, kind_of
from edgeq.gates import Gate
from edgeq.judging.scoring import LABELS, TASKS, Scoring
from edgeq.ladder import Entry
from edgeq.modules import reached
from edgeq.samples import Samples
from edgeq.target import Target, known, read_target

T = TypeVar("T")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
Role = Literal["calibration", "evaluation", "training"]
ROLES: tuple[Role, ...] = ("calibration", "evaluation", "training")


@dataclass(frozen=True)
class PipelineFile:
    """The keys of pipeline.yaml."""

    version: Annotated[Literal[1], Meta(description="the version of this format")]
    models: Annotated[dict[str, Any], Meta(description="the trained networks, each by a name of your own")]
    targets: Annotated[tuple[Any, ...], Meta(description="devices, as `edgeq targets` lists them")]
    gates: Annotated[tuple[Any, ...], Meta(description="the limits that a build is judged by")]
    ladder: Annotated[tuple[Any, ...], Meta(
        description="recipes, cheapest first; left out: the default ladder of the target's format")] = ()
    timeout_s: Annotated[float, Meta(
        description="seconds that a single step may take before it is stopped")] = 3600.0


@dataclass(frozen=True)
class ModelFile:
    """The keys of a model."""

    source: Annotated[str, Meta(
        description="a file (.keras, .h5, .tflite, .pt2), the folder of a SavedModel, or `module:function`")]
    evaluation: Annotated[Any, Meta(description="the samples that it is judged by")]
    calibration: Annotated[Any, Meta(description="the samples that ranges are taken from")] = None
    training: Annotated[Any, Meta(description="the samples for recipes that train")] = None
    trust: Annotated[bool, Meta(
        description="admits code inside the source, which is refused otherwise before it is loaded")] = False
    signature: Annotated[str, Meta(description="of a SavedModel, where it has several")] = ""
    weights: Annotated[str, Meta(
        description="for `module:function`: the file that its module is filled with")] = ""


@dataclass(frozen=True)
class DataFile:
    """The keys of a data set."""

    data: Annotated[str, Meta(
        description="an .npz with x, y and group, a folder of images by class, or `module:function`")]
    samples: Annotated[int | None, Meta(
        description="how many to take, evenly over the classes; left out: all")] = None
    seed: Annotated[int, Meta(description="what the choice of samples starts from")] = 0
    mean: Annotated[float, Meta(description="the model is fed (x - mean) / std")] = 0.0
    std: Annotated[float, Meta(description="the model is fed (x - mean) / std")] = 1.0
    metric: Annotated[str, Meta(
        description="of evaluation alone: top1, top5, auc, or `module:function`; higher is better")] = ""
    epochs: Annotated[int | None, Meta(
        description="of training alone: how often a recipe that trains goes through it")] = None


@dataclass(frozen=True)
class TargetEntry:
    """A target that is more than a name."""

    target: Annotated[str, Meta(description="its name")]
    ladder: Annotated[tuple[Any, ...] | None, Meta(
        description="a ladder of its own, in place of the one that all share")] = None


@dataclass(frozen=True)
class DataSet:
    """Where a data set lies, how it is read, and how often a training goes through it."""

    origin: Origin
    samples: Samples
    epochs: int | None = None


@dataclass(frozen=True)
class Model:
    """A trained network with its data and the way it is scored; a `function` where its source is code."""

    name: str
    source: Origin
    kind: str
    trust: bool
    signature: str
    data: Mapping[Role, DataSet]
    scoring: Scoring
    metric: Origin | None
    function: str = ""
    weights: str = ""


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
    gates = limits.with_baselines(document, [
        limits.gate(document, value, ("gates", i), {"targets": asked, "models": named})
        for i, value in enumerate(_part(document, "gates", list))])
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
    function = read.source if _is_function(read.source, folder) else ""
    kind, source = (_coded if function else _filed)(document, folder, read, at)
    if source is None or "evaluation" not in sets:
        return None
    data = {role: found for role, (found, _) in sets.items()}
    metric = sets["evaluation"][1]
    code = None if metric in ("", *TASKS) else _code(document, folder, metric, (*at, "evaluation", "metric"))
    return Model(name, source, kind, read.trust, read.signature, data, Scoring(metric), code, function,
                 read.weights)


def _is_function(said: str, folder: Path) -> bool:
    return bool(FUNCTION.fullmatch(said)) and not (folder / said).exists()


def _coded(document: Document, folder: Path, read: ModelFile, at: Place) -> tuple[str, Origin | None]:
    """A model that a function of the user's makes: its modules, and the file of weights beside them."""
    code = _code(document, folder, read.source, (*at, "source"))
    weights = folder / read.weights
    if read.weights and not (weights.is_file() and weights.resolve().is_relative_to(folder.resolve())):
        document.complain((*at, "weights"),
                          f"weights: there is no file {read.weights} below the pipeline's folder")
        return CODE, None
    return CODE, code and Origin(folder, (*code.only, *([weights] if read.weights else ())))


def _filed(document: Document, folder: Path, read: ModelFile, at: Place) -> tuple[str, Origin | None]:
    """A model in a file or folder."""
    if read.weights:
        document.complain((*at, "weights"), "weights: they are for a source that is module:function")
    source, place = folder / read.source, (*at, "source")
    kind = kind_of(source)
    if not source.exists():
        document.complain(place, f"source: there is no {source}")
    elif source.is_file() and not source.stat().st_size:
        document.complain(place, f"source: {source} is empty")
    elif kind is None:
        document.complain(place, f"source: no frontend reads {source.name}; known: {', '.join(SUFFIXES)}, "
                                 "the folder of a SavedModel, or module:function")
    return kind or "", Origin(source) if kind else None


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
    function = read.data if _is_function(read.data, folder) else ""
    origin: Origin | None = Origin(path)
    if function:
        origin = _code(document, folder, function, (*at, "data"))
    elif not path.exists():
        document.complain((*at, "data"), f"data: there is no {path}")
    samples = Samples(
        role=cast("Role", at[-1]), count=read.samples, seed=read.seed, mean=read.mean, std=read.std,
        labels=LABELS.get(read.metric, "any"), function=function)
    return (DataSet(origin, samples, read.epochs), read.metric) if origin else None


def _mistakes(read: DataFile, role: str) -> Iterator[tuple[str, str]]:
    for key, owner in (("metric", "evaluation"), ("epochs", "training")):
        if getattr(read, key) and role != owner:
            yield key, f"{key} belongs to the {owner} data"
    if role == "evaluation" and read.metric not in ("", *TASKS) and not FUNCTION.fullmatch(read.metric):
        yield "metric", f"unknown metric {read.metric!r}{meant(read.metric, TASKS)}, or module:function"
    yield from _too_few(read)
    if not read.data:
        yield "data", "data is empty: name a file, a folder of images, or module:function"
    if read.std == 0:
        yield "std", "std: the samples are divided by it, so not 0"


def _too_few(read: DataFile) -> Iterator[tuple[str, str]]:
    for key, least in (("samples", 1), ("epochs", 1), ("seed", 0)):
        if (given := getattr(read, key)) is not None and given < least:
            yield key, f"{key}: at least {least}, not {given}"


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
    """The ladder of each target: its own, or the one that all share, or the default one."""
    left_out = isinstance(document.value, dict) and "ladder" not in document.value
    shared = None if left_out else _part(document, "ladder", list)
    found = {}
    for index, entry in enumerate(entries):
        if entry and entry.target in targets:
            own: Place = ("targets", index, "ladder")
            values, at = (shared, ("ladder",)) if entry.ladder is None else (entry.ladder, own)
            if entry.ladder == ():
                document.complain(own, "ladder is empty: leave it out for the one that all share")
            model_format = targets[entry.target].format
            given = ladder.default(model_format) if values is None else values
            found[entry.target] = tuple(ladder.entries(document, model_format, given, at))
    return found
