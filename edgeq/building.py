"""An order for a build, carried out: the pipeline read, the bench set up, the results delivered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq import __version__, flow, forecast, run
from edgeq.artifact import Artifact
from edgeq.deliver import deliver, ready, write
from edgeq.history.address import NOWHERE
from edgeq.history.keeping import keep
from edgeq.html.page import PAGE, rendered
from edgeq.identity import host
from edgeq.measurement import Value
from edgeq.meters import Meter
from edgeq.pipeline import load
from edgeq.plan import Chosen, Job, plan
from edgeq.report import Report, Result
from edgeq.store import Store
from edgeq.workers import Workers


@dataclass(frozen=True)
class Order:
    """What a build was asked for, as the command line has it."""

    pipeline: Path
    targets: tuple[str, ...]
    models: tuple[str, ...]
    store: Path
    output_dir: Path = Path("build")
    jobs: int = 1
    frozen: bool = False
    measure: bool = False
    require_compiled: bool = False
    device: str = ""
    history: str = NOWHERE


@dataclass(frozen=True)
class Planned:
    """The jobs of an order, and how many seconds a step of theirs may take."""

    jobs: tuple[Job, ...]
    timeout_s: float


def planned(order: Order) -> Planned:
    """Read the pipeline and lay out its jobs; ConfigError for all that is wrong with them."""
    pipeline = load(order.pipeline)
    jobs = plan(pipeline, Chosen(order.targets, order.models, order.measure, order.device))
    return Planned(jobs, pipeline.timeout_s)


def build(order: Order, planned: Planned, tell: flow.Said) -> tuple[Report, dict[str, Any]]:
    """Build what was ordered, and keep the run; the report, and what report.json holds."""
    report, content = made(order, planned, tell)
    occasion = run.as_json(report.run)
    kept = keep(order.history, content, occasion)
    write(order.output_dir / PAGE, rendered(content, occasion, order.output_dir, kept.trends))
    return replace(report, faults=(kept.fault,) if kept.fault else ()), content


def made(order: Order, planned: Planned, tell: flow.Said) -> tuple[Report, dict[str, Any]]:
    """Build what was ordered and deliver it, a run that nobody keeps."""
    clock = run.begun()
    ready(order.output_dir)
    count = min(order.jobs, len(planned.jobs))  # a job makes one thing at a time
    with Workers(order.store, count, planned.timeout_s) as workers:
        store = Store(order.store.absolute(), None if order.frozen else workers.make)
        results = flow.build(planned.jobs, flow.Bench(
            store, _metered(workers), tell, order.require_compiled))
    tools = {name: version for result in results for name, version in result.identity.tools.items()}
    occasion = run.ended(clock, order.pipeline.absolute().parent)
    report = Report(results, __version__, host(), dict(sorted(tools.items())), occasion)
    return report, deliver(report, store, order.output_dir)


def looked_up(order: Order, planned: Planned) -> tuple[Result, ...]:
    """How far the store alone gets with each job: nothing is made or measured.

    Gates on what only a live run tells are left out.
    """
    bench = flow.Bench(Store(order.store.absolute()), lambda *_: {}, lambda *_: None)
    return flow.build(tuple(map(unmeasured, planned.jobs)), bench)


def costs(order: Order, planned: Planned) -> tuple[tuple[str, ...], ...]:
    """About how long each rung of each job would take, by earlier runs: an estimate, in words."""
    return forecast.costs(planned.jobs, Store(order.store.absolute()))


def unmeasured(job: Job) -> Job:
    """`job` without what only a live run tells, and without the gates on that."""
    live = {metric for meter in job.meters for metric in meter.metrics}
    return replace(job, meters=(), gates=tuple(g for g in job.gates if g.metric not in live))


def _metered(workers: Workers) -> Callable[[Meter, Artifact, Artifact], Mapping[str, Value]]:
    def measured(meter: Meter, program: Artifact, samples: Artifact) -> Mapping[str, Value]:
        return workers.perform(meter.measure, program, samples)

    return measured
