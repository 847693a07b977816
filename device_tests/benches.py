"""The demo as a program for one target, and running it: what the device tests are made of.

The one rule: the target is asked for its runner; no class of runners is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.measurement import Value
from edgeq.pipeline import Pipeline
from edgeq.plan import Chosen, Job, plan
from edgeq.program import costs_in
from edgeq.target import find

ROOT = Path(__file__).parents[1]
MODEL, RECIPE = "fashion", "static-int8"
SAMPLES = 100
HOST = {"tflite": "host", "executorch": "executorch-xnnpack"}  # the target that this machine is, by format


@dataclass(frozen=True)
class Ran:
    """What a run left: outputs (n, *shape), reals, and what the run and the compiler state."""

    outputs: np.ndarray
    costs: Mapping[str, Value]


@dataclass(frozen=True)
class Bench:
    """The demo, built for the target: `run` lets its runner, or another one, run `samples` (n, …)."""

    job: Job
    program: Path
    samples: np.ndarray
    labels: np.ndarray
    reference: np.ndarray
    run: Callable[..., Ran]
    attached: bool


def planned(pipeline: Pipeline, name: str, device: str) -> Job:
    """The one job that takes the demo to the target `name`, which the pipeline need not have."""
    target = find(ROOT, name)
    alike = [each.name for each in pipeline.targets if each.format == target.format]
    if not alike:
        pytest.skip(f"the pipeline has no ladder for the format {target.format} of {name}")
    ladder = pipeline.ladders[alike[0]]
    rung = next((entry for entry in ladder if entry.name == RECIPE), ladder[0])
    gates = tuple(gate for gate in pipeline.gates if not gate.targets)
    alone = replace(pipeline, targets=(target,), ladders={name: (rung,)}, gates=gates)
    [made] = plan(alone, Chosen(models=(MODEL,), device=device))
    return made


def ran(program: Path, folders: pytest.TempPathFactory, runner: Any, samples: np.ndarray) -> Ran:
    """What `runner` makes of `samples`."""
    given, out = folders.mktemp("samples"), folders.mktemp("out")
    np.save(given / "x.npy", samples)
    runner.run(out, program, given)
    return Ran(np.load(out / "outputs.npy"), {**costs_in(program), **costs_in(out)})


def plain(runner: Any) -> Any:
    """`runner` with its reference kernels, where it has a choice."""
    return with_kernels(runner, "reference")


def of_host(job: Job) -> Any:
    """What runs a program of the job's format on this machine, by the kernels that its runner has."""
    host = find(ROOT, HOST[job.target.format]).runner
    return with_kernels(host, getattr(job.target.runner, "kernels", "reference"))


def with_kernels(runner: Any, kernels: str) -> Any:
    """`runner` with these kernels, where it has a choice."""
    return replace(runner, kernels=kernels) if hasattr(runner, "kernels") else runner
