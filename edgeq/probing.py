"""A look at a model outside of a build: it is converted, its samples are read, and its layers judged.

All is made by the store, once: a second look, and a build of the same model, find it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.artifact import Artifact, Origin
from edgeq.backends.firmware import Firmware
from edgeq.errors import ConfigError
from edgeq.frontends import FRONTENDS, SUFFIXES, Frontend, kind_of
from edgeq.parity import SAMPLES, Chain, Given, Parity, is_quantized, read_chain
from edgeq.pipeline import DataSet, Model, load
from edgeq.plan import told
from edgeq.progress import heard_by
from edgeq.ptq.layer_errors import Errors, LayerErrors, errors_in
from edgeq.ptq.sensitivity import Sensitivity, Table, read
from edgeq.quantization import MODEL, Granularity
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.runners.serial import Serial
from edgeq.samples import Samples
from edgeq.store import Store
from edgeq.target import find
from edgeq.workers import Workers

FORMAT = "tflite"
DEFAULT = Path("pipeline.yaml")
TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Question:
    """Which model is looked at, by which samples, as the command line has it."""

    model: Path
    calibration: Path | None
    pipeline: Path | None
    samples: int | None
    store: Path


@dataclass(frozen=True)
class Subject:
    """What is looked at: its source, how that is converted, and what it is calibrated with."""

    source: Origin
    frontend: Frontend
    data: DataSet


Tell = Callable[[str, float | None], None]


def sensitivity(asked: Question, granularity: Granularity, tell: Tell) -> Table:
    """The sensitivity of the layers of a model, quantized as static-int8 does it.

    Raises ConfigError where there is no such model or nothing to calibrate it with, Refused where
    it cannot be quantized.
    """
    subject = _subject(asked)
    with Workers(asked.store, 1, TIMEOUT_S) as workers, heard_by(lambda done, text: tell(text, done)):
        store = Store(asked.store.absolute(), workers.make)
        tell("convert", None)
        baseline = store.make(subject.frontend.convert, store.take(subject.source))
        samples = store.make(subject.data.samples.load, store.take(subject.data.origin), baseline)
        tell("quantize", None)
        looked = store.make(Sensitivity(granularity, asked.samples).look, baseline, samples)
        return read(store.path(looked))


def has_samples(asked: Question) -> bool:
    """Whether something names calibration samples for the model: the call, or the pipeline that is here."""
    named = _named(asked)
    return bool(asked.calibration or asked.pipeline or (named and "calibration" in named.data))


def losses(asked: Question, demands: Mapping[str, Granularity], tell: Tell) -> tuple[Path, Errors]:
    """A model quantized as static-int8 does it, where the store has it, and what its layers lose.

    `demands` are a target's own on the weights of single operators. Errors as `sensitivity`.
    """
    subject = _subject(asked)
    with Workers(asked.store, 1, TIMEOUT_S) as workers, heard_by(lambda done, text: tell(text, done)):
        store = Store(asked.store.absolute(), workers.make)
        tell("quantize", None)
        baseline = store.make(subject.frontend.convert, store.take(subject.source))
        samples = store.make(subject.data.samples.load, store.take(subject.data.origin), baseline)
        quantized = store.make(StaticInt8(granularity_by_operator=demands).quantize, baseline, samples)
        tell("layers", None)
        found = store.make(LayerErrors().measure, quantized, baseline, samples)
        return store.path(quantized) / MODEL, errors_in(store.path(found))


def parity(asked: Question, name: str, tell: Tell) -> Chain:
    """Every operator of a model by all that computes it, for the target `name`.

    A .tflite that is quantized is taken as it is, and fed seeded noise where no samples are named;
    any other model is quantized as static-int8 does it. Raises ConfigError where there is no such
    model or target, Refused where it cannot be quantized or compiled.
    """
    target = find(asked.pipeline.parent if asked.pipeline else Path(), name)
    with Workers(asked.store, 1, TIMEOUT_S) as workers, heard_by(lambda done, text: tell(text, done)):
        store = Store(asked.store.absolute(), workers.make)
        tell("quantize", None)
        quantized, samples = _quantized(asked, store)
        tell("compile", None)
        maker = Parity(asked.samples or SAMPLES)
        program = None
        if isinstance(target.backend, Firmware):
            device = target.runner if isinstance(target.runner, Serial) else None
            maker = replace(maker, board=target.backend.board, device=device)
            program = store.make(replace(target.backend, traced=True).compile, quantized)
        tell("compare", None)
        return read_chain(store.path(store.make(maker.look, quantized, program, samples)))


def _quantized(asked: Question, store: Store) -> tuple[Artifact, Artifact | None]:
    """The model with integers throughout, and the samples to feed it, if any."""
    if asked.model.suffix == ".tflite" and asked.model.is_file() and is_quantized(asked.model):
        return store.make(Given().quantize, store.take(Origin(asked.model))), None
    subject = _subject(replace(asked, samples=None))
    baseline = store.make(subject.frontend.convert, store.take(subject.source))
    samples = store.make(subject.data.samples.load, store.take(subject.data.origin), baseline)
    return store.make(StaticInt8().quantize, baseline, samples), samples


def _subject(asked: Question) -> Subject:
    if not asked.model.exists():
        raise ConfigError(f"there is no {asked.model}", "name a model")
    named = _named(asked)
    kind = named.kind if named else kind_of(asked.model)
    if kind is None:
        raise ConfigError(f"no frontend reads {asked.model}",
                          f"known: {', '.join(SUFFIXES)}, or the folder of a SavedModel")
    frontend = FRONTENDS[FORMAT, kind]
    data = _data(asked, named)
    if asked.samples:
        data = replace(data, samples=replace(data.samples, count=asked.samples))
    if named is None:
        return Subject(Origin(asked.model), frontend(), data)
    return Subject(named.source, told(frontend, named), data)


def _named(asked: Question) -> Model | None:
    """The model with this source, or its source in this folder, in the pipeline that was named, or is here.

    None where there is none. One that only lies here is left alone where the samples are given.
    """
    if asked.pipeline is None and (asked.calibration or not DEFAULT.exists()):
        return None
    place = asked.model.resolve()
    found = [model for model in load(asked.pipeline or DEFAULT).models
             if place in (model.source.path.resolve(), model.source.path.resolve().parent)]
    return next((model for model in found if "calibration" in model.data), found[0] if found else None)


def _data(asked: Question, named: Model | None) -> DataSet:
    """The calibration samples that were given, or those that the pipeline names for the model."""
    if asked.calibration:
        if not asked.calibration.exists():
            raise ConfigError(f"there is no {asked.calibration}", "name an .npz file of samples")
        return DataSet(Origin(asked.calibration), Samples(role="calibration"))
    if named is None or "calibration" not in named.data:
        where = f"model {named.name!r} of the pipeline has no calibration data" if named else (
            f"{asked.pipeline or DEFAULT} has no model with this source")
        raise ConfigError(f"{asked.model}: there are no calibration samples: {where}",
                          "give them with --calibration FILE.npz, or with --pipeline FILE a pipeline "
                          "that names them for this model")
    return named.data["calibration"]
