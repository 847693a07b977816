"""Climbs a ladder rung by rung, each in a process of its own, on one store."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from benchmarks import ladder_models
from benchmarks.ladder_models import Subject
from benchmarks.ladder_rows import Ladder, Row, Rung
from benchmarks.measuring import cost
from edgeq.judging.scoring import correct_in
from edgeq.measurement import Value

TARGET = {"description": "this machine, LiteRT, weights of 4 bits among them", "backend": "litert",
          "runner": {"name": "host", "kernels": "xnnpack"},
          "precisions": ["float32", "int8", "int16x8", "int4"]}


@dataclass(frozen=True)
class Ground:
    """A folder with a network's pipelines and samples, and the store."""

    folder: Path
    store: Path

    def step(self, pipeline: Path, *index: int) -> Mapping[str, Any]:
        """What the rung at `index` of `pipeline` came to; without one, all that rungs share is made.

        Raises RuntimeError where it failed.
        """
        file = self.folder / "step.json"
        cost((sys.executable, "-m", "benchmarks.ladder_step", pipeline, self.store, file,
              *map(str, index)))
        return json.loads(file.read_bytes()) if index else {}


def laid_out(ground: Ground, name: str, subject: Subject) -> Mapping[str, object]:
    """Write the samples and the target; what a pipeline has of the network."""
    target = ground.folder / "targets/bench/target.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump(TARGET), encoding="utf-8")
    return ladder_models.write(ground.folder, name, subject)


def climbed(
    ground: Ground, models: Mapping[str, object], granularity: str, rungs: Sequence[Rung]
) -> Ladder:
    """All `rungs` of the one network in `models`, one after the other."""
    (name,) = models
    pipeline = ground.folder / f"{name}-{granularity}.yaml"
    pipeline.write_text(yaml.safe_dump({
        "version": 1, "models": models, "targets": ["bench"],
        "ladder": [_entry(rung, granularity) for rung in rungs],
        "gates": [{"metric": "model_bytes", "min": 0}]}), encoding="utf-8")
    try:
        ground.step(pipeline)
    except RuntimeError as error:
        return Ladder(name, granularity, tuple(_failed(rung, error) for rung in rungs))
    rows = []
    for index, rung in enumerate(rungs):
        rows.append(_row(ground, pipeline, index, rung))
        sys.stderr.write(f"{name} {granularity} {rung}: {rows[-1].state}, {rows[-1].seconds:.1f} s\n")
    return Ladder(name, granularity, tuple(rows))


def _entry(rung: Rung, granularity: str) -> dict[str, Any]:
    graded = {"granularity": granularity} if rung.graded else {}
    return {"recipe": rung.recipe, **rung.options, **graded}


def _row(ground: Ground, pipeline: Path, index: int, rung: Rung) -> Row:
    try:
        found = ground.step(pipeline, index)
    except RuntimeError as error:
        return _failed(rung, error)
    metrics = msgspec.convert(found["metrics"], dict[str, Value])
    right = correct_in(Path(found["scores"])) if "scores" in found else None
    costs = {name: found.get(name, 0.0) for name in ("seconds", "cpu_s", "peak_mb")}
    return Row(rung, found["state"], found["reason"], metrics, **costs, right=right,
               digest=found.get("digest", ""))


def _failed(rung: Rung, error: RuntimeError) -> Row:
    return Row(rung, "error", str(error).strip().splitlines()[-1])
