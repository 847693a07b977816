"""What each layer of a delivered model loses and costs, and where it runs: details/layers.json.

Its errors are made once a quantized model, and shared by all targets that take it (ptq/layer_errors.py); what
a layer costs is what the target's compiler or runner stated of it, else its multiply-accumulates. The one
rule: each figure stands under the source that it came from, and a layer that nobody stated one of has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.errors import EdgeqError, NotMade
from edgeq.plan import Job
from edgeq.ptq.exported_errors import ExportedLayerErrors
from edgeq.ptq.layer_errors import LayerErrors, Row, errors_in
from edgeq.quantization import DETAILS
from edgeq.report import Climbed, Result
from edgeq.store import Store

SCHEMA, FILE = "edgeq-layers/1", "layers.json"
LOSSES = "layers"  # what the errors are called among the artifacts that a rung made
LINT, EMULATION, VELA, PLACES = "lint.json", "emulation.json", "vela.json", "placement.json"
ERRORS: Mapping[str, type[LayerErrors] | type[ExportedLayerErrors]] = {
    "tflite": LayerErrors, "executorch": ExportedLayerErrors}


@dataclass(frozen=True)
class Cost:
    """What a layer costs, by its place: figures of one metric, and their source."""

    metric: str
    source: str
    values: Mapping[int, float]


@dataclass(frozen=True)
class Place:
    """Where a layer runs, `npu` or `cpu`; by what source; and why not on the accelerator."""

    placed: str | None = None
    source: str | None = None
    reason: str | None = None


def profiled(result: Result, job: Job, store: Store) -> Result:
    """`result` of a `job` with the errors of its best rung's layers.

    That there are none is no failure of the job: the rung says why in a note. Only a frozen store that
    lacks them is an error, as with all else that would have to be made.
    """
    best = result.best
    if best is None or result.error is not None:
        return result
    maker = ERRORS[job.target.format](trained=_is_trained(best, job))
    given = best.made["quantized"], best.made["baseline"], best.made.get("calibration")
    try:
        found = replace(best, made={**best.made, LOSSES: store.make(maker.measure, *given)})
    except NotMade as missing:
        return replace(result, error=missing)
    except EdgeqError as failed:
        found = replace(best, notes=(*best.notes, f"its layers are not told apart: {failed.message}"))
    return replace(result, rungs=tuple(found if rung is best else rung for rung in result.rungs))


def write(new: Path, made: Mapping[str, Path]) -> None:
    """Write `new/details/layers.json` of what a rung `made`, folders by name, where that has errors."""
    if LOSSES in made:
        (new / DETAILS).mkdir(parents=True, exist_ok=True)
        text = json.dumps(described(made), indent=1, allow_nan=False)
        (new / DETAILS / FILE).write_text(text, encoding="utf-8")


def described(made: Mapping[str, Path]) -> dict[str, Any]:
    """The layers of what a rung `made`, as layers.json has them."""
    errors = errors_in(made[LOSSES])
    steps = _json(made["outputs"] / DETAILS / EMULATION).get("steps", [])
    stated = _json(made["program"] / DETAILS / VELA).get("operators", [])
    places = linted(_json(made["program"] / LINT)) | _stated(stated)
    told = _cost(errors.layers, steps, stated), places, _kernels(steps)
    return as_json(errors.samples, errors.layers, told)


def as_json(
    samples: int, rows: tuple[Row, ...], told: tuple[Cost, Mapping[int, Place], Mapping[int, str]]
) -> dict[str, Any]:
    """Rows, with what was `told` of them: costs, places and kernels by the place of a layer."""
    cost, places, kernels = told
    layers = []
    for row in rows:
        place = places.get(row.index, Place())
        reasons = "; ".join(filter(None, (row.reason, place.reason)))
        layers.append({**asdict(row), "cost": cost.values.get(row.index), "kernel": kernels.get(row.index),
                       "placed": place.placed, "reason": reasons or None})
    return {"schema": SCHEMA, "samples": samples, "cost": {"metric": cost.metric, "source": cost.source},
            "placement": {"source": next((place.source for place in places.values()), None)},
            "layers": layers}


def by_macs(rows: tuple[Row, ...]) -> Cost:
    """What layers cost as far as multiply-accumulates tell: an estimate."""
    return Cost("macs", "estimated", {row.index: row.macs for row in rows if row.macs is not None})


def linted(lint: Mapping[str, Any]) -> dict[int, Place]:
    """Where a linter's rules put each operator: predicted, and told so."""
    return {each["index"]: Place("npu" if each["mapped"] else "cpu", "estimated", each["reason"] or None)
            for each in lint.get("operators", [])}


def _is_trained(best: Climbed, job: Job) -> bool:
    """Whether the recipe trained the model on, which then has weights of its own."""
    recipe = next(rung.recipe for rung in job.rungs
                  if rung.name == best.recipe and rung.options == best.options)
    return recipe is not None and "training" in recipe.inputs


def _cost(rows: tuple[Row, ...], steps: list[dict[str, Any]], stated: list[dict[str, Any]]) -> Cost:
    """Instructions that an emulator counted, or cycles that Vela states, else multiply-accumulates."""
    if steps:
        return Cost("instructions", "simulated", dict(_summed(steps)))
    cycles = {each["operator"]: each["cycles"] for each in stated if each["cycles"] is not None}
    return Cost("cycles", "simulated", cycles) if cycles else by_macs(rows)


def _summed(steps: list[dict[str, Any]]) -> Iterator[tuple[int, float]]:
    """The instructions of each operator, which may take several steps."""
    for index in dict.fromkeys(step["operator"] for step in steps):
        yield index, sum(step["instructions"] for step in steps if step["operator"] == index)


def _kernels(steps: list[dict[str, Any]]) -> dict[int, str]:
    return {step["operator"]: step["kernel"] for step in steps}


def _stated(operators: list[dict[str, Any]]) -> dict[int, Place]:
    """Where the compiler itself says that each operator runs."""
    return {each["operator"]: Place(each["placed"], "simulated") for each in operators}


def _json(path: Path) -> Mapping[str, Any]:
    """What is in the file at `path`; nothing where there is none."""
    if not path.exists():
        return {}
    found: Mapping[str, Any] = json.loads(path.read_bytes())
    return found
