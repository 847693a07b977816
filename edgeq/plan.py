"""The jobs that a pipeline means: models x targets, each with its rungs, gates and meters.

What a target cannot take is decided here, with the reason, before anything is made. A rung is
specialized here, too: what a target's compiler demands goes into the frozen recipe, and so into
the key of what it makes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from edgeq.decode import meant
from edgeq.errors import ConfigError
from edgeq.frontends import FRONTENDS, Frontend
from edgeq.gates import Gate
from edgeq.judging.scoring import TASKS, Scoring
from edgeq.ladder import Entry
from edgeq.measurement import GROUPED, METRICS, WORST, in_group
from edgeq.meters import Meter
from edgeq.pipeline import DataSet, Model, Pipeline, Role
from edgeq.recipes import Recipe
from edgeq.target import Target, on_device

T = TypeVar("T", Model, Target)
KEPT = ("int16x8", "float32")  # what a layer may be kept in
EITHER = "either"
TENSORFLOW = ("keras", "h5", "saved-model")  # the kinds of sources that TensorFlow reads


@dataclass(frozen=True)
class Rung:
    """One recipe for one target; `skipped` says why it is not tried, where it is not."""

    name: str
    options: dict[str, Any]
    recipe: Recipe | None
    skipped: str = ""


@dataclass(frozen=True)
class Job:
    """One model for one target: all that a build of it needs, and no more."""

    model: Model
    target: Target
    frontend: Frontend
    data: dict[Role, DataSet]
    rungs: tuple[Rung, ...]
    gates: tuple[Gate, ...]
    meters: tuple[Meter, ...]

    def __str__(self) -> str:
        return f"{self.model.name}/{self.target.name}"


@dataclass(frozen=True)
class Chosen:
    """What of a pipeline is asked for: all where nothing is named; `measure` takes every meter.

    `device` is the address of an attached one, which takes the emulator's place.
    """

    targets: Collection[str] = ()
    models: Collection[str] = ()
    measure: bool = False
    device: str = ""


def plan(pipeline: Pipeline, chosen: Chosen) -> tuple[Job, ...]:
    """The jobs of `pipeline` that are `chosen`, targets first in the order of the file.

    Raises ConfigError for an unknown name, a job that no gate judges, and one with no rung left.
    """
    targets = _named(pipeline.targets, chosen.targets, "target")
    models = _named(pipeline.models, chosen.models, "model")
    if chosen.device:
        targets = [_attached(targets, chosen.device)]
    jobs = tuple(_job(pipeline, model, target, chosen) for model in models for target in targets)
    if problems := [problem for job in jobs for problem in _problems(job)]:
        raise ConfigError("\n".join(problems),
                          "change the ladder or the gates in pipeline.yaml, or the target")
    return jobs


def makers(job: Job) -> list[object]:
    """All that makes or measures something for `job`: what it needs must be installed."""
    recipes = [rung.recipe for rung in job.rungs if rung.recipe and not rung.skipped]
    samples = [data.samples for data in job.data.values()]
    return [job.frontend, *samples, *recipes, job.target.backend, job.target.runner,
            job.model.scoring, *job.meters]


def _job(pipeline: Pipeline, model: Model, target: Target, chosen: Chosen) -> Job:
    gates = tuple(gate.of(model.name, target.name) for gate in pipeline.gates
                  if gate.holds_for(model.name, target.name))
    asked = METRICS.keys() if chosen.measure else {gate.metric for gate in gates}
    data = dict(model.data)
    if target.samples:
        data["evaluation"] = _at_most(data["evaluation"], target.samples)
    return Job(
        model=replace(model, scoring=_scoring(model.scoring, gates)), target=_named_for(model, target),
        frontend=_frontend(model, target), data=data,
        rungs=tuple(_rung(entry, model, target) for entry in pipeline.ladders[target.name]),
        gates=gates,
        meters=tuple(_at(meter, target) for meter in target.meters if asked & {*meter.metrics}))


def _at(meter: Any, target: Target) -> Meter:
    """`meter` with the runner of `target`, where it lets that run what it measures."""
    known = {field.name for field in fields(meter)}
    made: Meter = replace(meter, runner=target.runner) if "runner" in known else meter
    return made


def _attached(targets: Sequence[Target], address: str) -> Target:
    """The one target that is built, run by the device at `address`."""
    if len(targets) != 1:
        raise ConfigError(f"--device {address} is one device, and {len(targets)} targets are built",
                          "name the target that it is with --target")
    return on_device(targets[0], address)


def _scoring(scoring: Scoring, gates: Sequence[Gate]) -> Scoring:
    """`scoring` with the groups that the gates ask for."""
    groups = {group for gate in gates if (group := in_group(gate.metric)[1])}
    least = max((gate.min_samples for gate in gates if gate.metric == WORST), default=0)
    return replace(scoring, groups=tuple(sorted(groups)), min_samples=least)


def _frontend(model: Model, target: Target) -> Frontend:
    kind = FRONTENDS.get((target.format, model.kind))
    if kind is None:
        raise ConfigError(f"{model.name}/{target.name}: no frontend turns a {model.kind} source into "
                          f"the {target.format} that the target wants", "give another source")
    return told(kind, model)


def told(kind: type[Frontend], model: Model) -> Frontend:
    """A frontend of `kind` with what the pipeline says of the source of `model`."""
    asked = {"trust": model.trust, "signature": model.signature, "function": model.function,
             "weights": model.weights}
    return kind(**{field.name: asked[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def _at_most(data: DataSet, samples: int) -> DataSet:
    return replace(data, samples=replace(data.samples, at_most=samples))


def _rung(entry: Entry, model: Model, target: Target) -> Rung:
    if entry.recipe is None:
        return Rung(entry.name, {**entry.options}, None,
                    f"there is no such recipe for {target.format}")
    recipe = _specialized(entry.recipe, model, target)
    reason = ""
    if lacking := _not_taken(recipe, target):
        reason = f"the target takes {', '.join(target.precisions)}{lacking}"
    elif model.kind not in (sources := getattr(recipe, "sources", (model.kind,))):
        reason = f"it needs a source of the kind {' or '.join(sources)}, and this is a {model.kind}"
    elif "source" in recipe.inputs and model.kind not in TENSORFLOW:
        reason = f"its engine starts from a Keras model or SavedModel, and the source is a {model.kind}"
    elif missing := [name for name in recipe.inputs if name in ("calibration", "training")
                     and name not in model.data]:
        reason = f"the model has no {missing[0]} data"
    return Rung(entry.name, {**entry.options}, recipe, reason)


def _not_taken(recipe: Recipe, target: Target) -> str:
    """How what the target takes falls short of what `recipe` yields; "" where it takes all of it.

    A recipe that keeps layers more precise has `keep_as`, empty where the target has nothing for it.
    """
    kept = getattr(recipe, "keep_as", recipe.precision)
    asked = KEPT if kept == EITHER else (kept,)
    missing = [each for each in (recipe.precision, *asked) if each not in target.precisions]
    if missing == [""]:
        return " alone: no layer can stay more precise"
    return f", not {missing[0]}" if missing else ""


def _specialized(recipe: Any, model: Model, target: Target) -> Recipe:
    """`recipe` with what the model and the target add; where they add nothing, the very same."""
    known = {field.name for field in fields(recipe)}
    added: dict[str, Any] = {}
    if "granularity_by_operator" in known:
        added["granularity_by_operator"] = _granularities(recipe, target)
    if "epochs" in known:
        added["epochs"] = recipe.epochs or _epochs(model)
    if "keep_as" in known and not recipe.keep_as:
        added["keep_as"] = _kept_as(target)
    if "signature" in known and "source" in recipe.inputs:
        added["signature"] = model.signature
    if "scheme" in known:
        added["scheme"] = target.backend.scheme  # type: ignore[attr-defined]
    specialized: Recipe = replace(recipe, **added)
    return specialized


def _named_for(model: Model, target: Target) -> Target:
    """`target` with a backend that knows the name of the model, where it wants one."""
    backend: Any = target.backend
    if "model" not in {field.name for field in fields(backend)}:
        return target
    return replace(target, backend=replace(backend, model=model.name))


def _granularities(recipe: Any, target: Target) -> dict[str, str]:
    """The granularities by operator of `recipe`, with those that `target` has otherwise."""
    stricter = {operator: granularity for operator, granularity in target.quantization.items()
                if granularity != recipe.granularity_by_operator.get(operator, recipe.granularity)}
    return {**recipe.granularity_by_operator, **stricter}


def _epochs(model: Model) -> int:
    """How often a training goes through the training data of `model`, where its recipe does not say."""
    data = model.data.get("training")
    return (data.epochs if data else None) or 1


def _kept_as(target: Target) -> str:
    """What layers can be kept in on `target`: either where it takes both, "" where it takes none."""
    taken = [precision for precision in KEPT if precision in target.precisions]
    return EITHER if len(taken) > 1 else "".join(taken)


def _problems(job: Job) -> Iterator[str]:
    if not job.gates:
        yield f"{job}: no gate judges it, and without a gate anything would pass"
    if all(rung.skipped for rung in job.rungs):
        reasons = ("; ".join(f"{rung.name}: {rung.skipped}" for rung in job.rungs)
                   or f"there is none for {job.target.format}")
        yield f"{job}: the target can take no rung of the ladder ({reasons})"
    yield from _unanswerable(job)


def _unanswerable(job: Job) -> Iterator[str]:
    """What the gates ask of a scoring that it cannot give."""
    metric = job.model.scoring.metric
    for gate in job.gates:
        if gate.confidence and metric not in ("", *TASKS) and in_group(gate.metric)[0] in GROUPED:
            yield (f"{job}: the gate on {gate.metric} asks for confidence, and of {metric} only a number "
                   "is known, without an interval")
    if len(asked := {gate.min_samples for gate in job.gates if gate.metric == WORST}) > 1:
        yield f"{job}: its gates on {WORST} name several min_samples: {', '.join(map(str, sorted(asked)))}"


def _named(known: Sequence[T], asked: Collection[str], what: str) -> list[T]:
    """Those of `known` whose names are `asked`, or all; ConfigError for a name that is not there."""
    names = [each.name for each in known]
    for name in asked:
        if name not in names:
            raise ConfigError(f"the pipeline has no {what} {name!r}{meant(name, names)}",
                              f"add it to pipeline.yaml, or leave out --{what}")
    return [each for each in known if not asked or each.name in asked]
