"""The whole build, top to bottom: pipeline.yaml goes in, a report comes out.

    pipeline.yaml, targets/*/target.yaml
      -> load      frozen data, or every mistake with its file and line
      -> plan      jobs: model x target, each with its rungs and gates
      -> for each job
           convert    source                      -> baseline       frontend
           load       data, baseline              -> samples        calibration, evaluation, training
           reference  baseline, samples           -> reference      the host runs the baseline
           audit      calibration, evaluation     -> warnings       where a rung is calibrated
           for each rung of the ladder
             quantize  what the recipe names       -> quantized     recipe
             compile   quantized                   -> program       the target's backend
             run       program, samples            -> outputs, costs  the target's runner
             measure   outputs, reference          -> measurement
             judge     measurement                 -> verdicts      gates; all passed: stop climbing
           profile    the best rung's             -> errors         of each layer
           pack       the best rung's             -> package        C arrays, headers, golden vectors
      -> report    results in the order of the plan

Each arrow is one call below, and no call looks back. What is made is made by the store, once;
jobs run side by side, and one that fails is a result.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from edgeq import measurement
from edgeq.artifact import Artifact
from edgeq.errors import ConfigError, EdgeqError, Refused, ToolError
from edgeq.identity import Identity, identity
from edgeq.layers import profiled
from edgeq.measurement import Value
from edgeq.meters import Meter
from edgeq.packed import packed
from edgeq.plan import Job, Rung
from edgeq.program import costs_in, notice_in
from edgeq.progress import heard_by
from edgeq.ptq import audit
from edgeq.quantization import notes_in
from edgeq.recipes import Recipe
from edgeq.report import Climbed, Result, State
from edgeq.runners import REFERENCES
from edgeq.samples import Overlap
from edgeq.setbacks import compared
from edgeq.store import Store

Measured = Callable[[Meter, Artifact, Artifact], Mapping[str, Value]]


class Said(Protocol):
    """Who is told how a job goes."""

    def __call__(self, job: object, step: str, done: float | None = None, /) -> None:
        """Hear that `job`, by its name, is at `step`; where that is known, how much (0..1) is done."""


@dataclass(frozen=True)
class Bench:
    """What a build works with: where things are kept, how live runs are taken, who is told.

    `meter` runs a meter over a program and samples, in a worker; `require_compiled` turns a
    program that no compiler made into an error.
    """

    store: Store
    meter: Measured
    tell: Said
    require_compiled: bool = False


@dataclass(frozen=True)
class Prepared:
    """What all rungs of a job share."""

    given: Mapping[str, Artifact]
    reference: Artifact
    identity: Identity


def build(jobs: tuple[Job, ...], bench: Bench) -> tuple[Result, ...]:
    """Build and judge all `jobs`, side by side; results come in the order of the plan."""
    threads = ThreadPoolExecutor(max_workers=max(1, len(jobs)))
    try:
        return tuple(threads.map(functools.partial(run, bench=bench), jobs))
    finally:
        threads.shutdown(wait=False)  # all are done, or the build was stopped


def run(job: Job, bench: Bench) -> Result:
    """Take one model to one target, rung by rung, until one passes all gates."""
    data = job.data["evaluation"]
    evaluation = data.samples.function or data.origin.path.name
    audited: dict[str, Any] = {}
    prepared: Prepared | None = None
    climbed: list[Climbed] = []
    error: EdgeqError | None = None
    try:
        bench.tell(job, "convert")
        prepared = prepare(job, bench.store)
        see_unseen(job, prepared, bench.store)
        audited = examine(job, prepared, bench.store)
        for rung in job.rungs:
            bench.tell(job, rung.name)
            climbed.append(climb(rung, job, prepared, bench))
            if climbed[-1].state == "passed":
                break
    except EdgeqError as stopped:
        error = stopped
        climbed.extend(left(job.rungs[len(climbed):], stopped))
    taken_with = prepared.identity if prepared else identity(job, {})
    result = Result(job.model.name, job.target.name, evaluation, compared(tuple(climbed), bench.store),
                    error, tuple(audit.warnings(audited)), audit.told(audited), taken_with)
    result = packed(profiled(result, job, bench.store), job, bench.store)
    bench.tell(job, "passed" if result.passed else "FAILED")
    return result


def left(rungs: tuple[Rung, ...], error: EdgeqError) -> Iterator[Climbed]:
    """How the `rungs` end that were not climbed: the first that could be tried met the `error`."""
    for rung in rungs:
        if not rung.skipped:
            yield Climbed(rung.name, rung.options, "error", error.message)
            return
        yield Climbed(rung.name, rung.options, "skipped", rung.skipped)


def prepare(job: Job, store: Store) -> Prepared:
    """Convert the source, load the data, and let the host run the baseline."""
    source = store.take(job.model.source)
    baseline = store.make(job.frontend.convert, source)
    samples: dict[str, Artifact] = {
        role: store.make(data.samples.load, store.take(data.origin), baseline)
        for role, data in job.data.items()}
    reference = store.make(REFERENCES[job.target.format].run, baseline, samples["evaluation"])
    metric = {"metric": store.take(job.model.metric)} if job.model.metric else {}
    given = {"source": source, "baseline": baseline, **samples, **metric}
    return Prepared(given, reference, identity(job, given))


def see_unseen(job: Job, prepared: Prepared, store: Store) -> None:
    """See that the model was trained on none of the evaluation samples; ConfigError where it was."""
    if "training" in prepared.given:
        found = store.make(Overlap().count, prepared.given["evaluation"], prepared.given["training"])
        if shared := json.loads((store.path(found) / "overlap.json").read_text(encoding="utf-8")):
            raise ConfigError(f"{job.model.name}: {shared} evaluation samples are also training samples",
                              "evaluate on samples that the model was not trained on")


def examine(job: Job, prepared: Prepared, store: Store) -> dict[str, Any]:
    """What the audit of the calibration samples found; nothing where no rung takes any."""
    recipes = [rung.recipe for rung in job.rungs if rung.recipe and not rung.skipped]
    if not any("calibration" in recipe.inputs for recipe in recipes):
        return {}
    maker = audit.Audit(labels=job.data["evaluation"].samples.labels)
    given = [prepared.given[name] for name in ("calibration", "evaluation", "baseline")]
    return audit.audit_in(store.path(store.make(maker.examine, *given, prepared.reference)))


def climb(rung: Rung, job: Job, prepared: Prepared, bench: Bench) -> Climbed:
    """Quantize, compile, run, measure and judge one rung; a refusal is how it ended."""
    if rung.skipped or rung.recipe is None:
        return Climbed(rung.name, rung.options, "skipped", rung.skipped)
    try:
        with heard_by(lambda done, text: bench.tell(job, f"{rung.name} {text}", done)):
            made = make(rung.recipe, job, prepared, bench)
    except Refused as refusal:
        return Climbed(rung.name, rung.options, "refused", f"{refusal.message} ({refusal.hint})")
    found = measured(made, bench.store)
    for meter in job.meters:
        found = measurement.metered(found, bench.meter(meter, made["program"], made["evaluation"]))
    taken_with = asdict(prepared.identity)
    verdicts = tuple(gate.judge(found, taken_with) for gate in job.gates)
    state: State = "passed" if all(verdict.passed for verdict in verdicts) else "failed"
    notice = notice_in(bench.store.path(made["program"]))
    notes = [note for step in ("quantized", "program", "outputs")
             for note in notes_in(bench.store.path(made[step]))]
    return Climbed(rung.name, rung.options, state, "", found, verdicts, made, notice, tuple(notes))


def make(recipe: Recipe, job: Job, prepared: Prepared, bench: Bench) -> dict[str, Artifact]:
    """All that a rung comes to, by its name; Refused where the target cannot have it this way."""
    store, given = bench.store, prepared.given
    quantized = store.make(recipe.quantize, *(given[name] for name in recipe.inputs))
    program = store.make(job.target.backend.compile, quantized)
    if bench.require_compiled and (notice := notice_in(store.path(program))):
        raise ToolError("the program is not compiled, and --require-compiled asks for it", notice)
    outputs = store.make(job.target.runner.run, program, given["evaluation"])
    scores = store.make(job.model.scoring.measure, outputs, prepared.reference, given["evaluation"],
                        given.get("metric"))
    return {**given, "quantized": quantized, "program": program, "outputs": outputs, "scores": scores}


def measured(made: Mapping[str, Artifact], store: Store) -> dict[str, Value]:
    """What the compiler, the runner and the scoring state, in one measurement."""
    return {**costs_in(store.path(made["program"])), **costs_in(store.path(made["outputs"])),
            **measurement.read(store.path(made["scores"]) / "measurement.json")}
