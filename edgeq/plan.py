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
from edgeq.measurement import METRICS
from edgeq.meters import Meter
from edgeq.pipeline import DataSet, Entry, Model, Pipeline, Role
from edgeq.recipes import Recipe
from edgeq.target import Target

T = TypeVar("T", Model, Target)


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
    """What of a pipeline is asked for: all where nothing is named; `measure` takes every meter."""

    targets: Collection[str] = ()
    models: Collection[str] = ()
    measure: bool = False


def plan(pipeline: Pipeline, chosen: Chosen) -> tuple[Job, ...]:
    """The jobs of `pipeline` that are `chosen`, targets first in the order of the file.

    Raises ConfigError for an unknown name, a job that no gate judges, and one with no rung left.
    """
    targets = _named(pipeline.targets, chosen.targets, "target")
    models = _named(pipeline.models, chosen.models, "model")
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
    gates = tuple(gate for gate in pipeline.gates if gate.holds_for(model.name, target.name))
    asked = METRICS.keys() if chosen.measure else {gate.metric for gate in gates}
    data = dict(model.data)
    if target.samples:
        data["evaluation"] = _at_most(data["evaluation"], target.samples)
    return Job(
        model=model, target=target, frontend=_frontend(model, target), data=data,
        rungs=tuple(_rung(entry, model, target) for entry in pipeline.ladders[target.name]),
        gates=gates,
        meters=tuple(meter for meter in target.meters if asked & {*meter.metrics}))


def _frontend(model: Model, target: Target) -> Frontend:
    kind = FRONTENDS.get((target.format, model.kind))
    if kind is None:
        raise ConfigError(f"{model.name}/{target.name}: no frontend turns a {model.kind} source into "
                          f"the {target.format} that the target wants", "give another source")
    asked = {"trust": model.trust, "signature": model.signature}
    return kind(**{field.name: asked[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def _at_most(data: DataSet, samples: int) -> DataSet:
    return replace(data, samples=replace(data.samples, at_most=samples))


def _rung(entry: Entry, model: Model, target: Target) -> Rung:
    recipe = entry.recipe
    if recipe is None:
        return Rung(entry.name, {**entry.options}, None,
                    f"there is no such recipe for {target.format}")
    reason = ""
    if recipe.precision not in target.precisions:
        reason = f"the target takes {', '.join(target.precisions)}, not {recipe.precision}"
    elif "source" in recipe.inputs and model.kind == "tflite":
        reason = "its engine starts from a Keras model or SavedModel, and the source is a .tflite"
    elif missing := [name for name in recipe.inputs if name in ("calibration", "training")
                     and name not in model.data]:
        reason = f"the model has no {missing[0]} data"
    return Rung(entry.name, {**entry.options}, _specialized(recipe, model, target), reason)


def _specialized(recipe: Any, model: Model, target: Target) -> Recipe:
    """`recipe` with what the model and the target add; where they add nothing, the very same."""
    known = {field.name for field in fields(recipe)}
    added: dict[str, Any] = {}
    if "granularity_by_operator" in known:
        stricter = {operator: granularity for operator, granularity in target.quantization.items()
                    if granularity != recipe.granularity_by_operator.get(operator, recipe.granularity)}
        added["granularity_by_operator"] = {**recipe.granularity_by_operator, **stricter}
    if "signature" in known and "source" in recipe.inputs:
        added["signature"] = model.signature
    specialized: Recipe = replace(recipe, **added)
    return specialized


def _problems(job: Job) -> Iterator[str]:
    if not job.gates:
        yield f"{job}: no gate judges it, and without a gate anything would pass"
    if all(rung.skipped for rung in job.rungs):
        reasons = "; ".join(f"{rung.name}: {rung.skipped}" for rung in job.rungs)
        yield f"{job}: the target can take no rung of the ladder ({reasons})"


def _named(known: Sequence[T], asked: Collection[str], what: str) -> list[T]:
    """Those of `known` whose names are `asked`, or all; ConfigError for a name that is not there."""
    names = [each.name for each in known]
    for name in asked:
        if name not in names:
            raise ConfigError(f"the pipeline has no {what} {name!r}{meant(name, names)}",
                              f"add it to pipeline.yaml, or leave out --{what}")
    return [each for each in known if not asked or each.name in asked]
