"""Whether the calibration samples can stand for the evaluation samples: a look before quantizing.

The formulas are pure functions over arrays; Audit reads and writes the files round them. It sees
evaluation data and so passes nothing on to a recipe: people read it, and no step of a build does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.baseline import NAME
from edgeq.errors import Refused
from edgeq.program import OUTPUTS
from edgeq.ptq.stepping import Steps
from edgeq.samples import Labels, contents, labels_in, samples_in, shared_by

AUDIT = "audit.json"
FEW, VERY_FEW = 100, 20  # distinct samples: 100 to 500 are usual (TFLite's guide to full integers)
BLANK = 0.05  # the share of constant samples that is worth a word
EXPECTED = 3  # samples of a class that chance would have brought: without any, it is missing
DRIFT = 0.01  # the share of an activation's values outside the calibrated range
CHANCE = 0.001  # how rarely samples of the same kind would lie so far outside
SHOWN = 20


@dataclass(frozen=True)
class Audit:
    """`looked_at` evaluation samples at most are run; `labels` is what the evaluation's y must be."""

    packages: ClassVar = ("numpy", "ai-edge-litert")
    native: ClassVar = True
    labels: Labels = "any"
    looked_at: int = 200

    def examine(
        self, out: Path, calibration: Path, evaluation: Path, baseline: Path, reference: Path
    ) -> None:
        """Write `out/audit.json`: sizes, overlap, missing classes, and the saturated activations."""
        seen, judged = samples_in(calibration), samples_in(evaluation)
        chosen = np.linspace(0, len(judged) - 1, min(self.looked_at, len(judged))).round().astype(int)
        missing = [] if self.labels == "anomaly" else _coverage(
            calibration, evaluation, np.load(reference / OUTPUTS))
        found = {
            "calibration": len(seen), "distinct": len(set(contents(seen))), "constant": constant(seen),
            "evaluation": len(judged), "overlap": shared_by(evaluation, calibration),
            "missing_classes": missing, "looked_at": len(chosen),
            **_saturated(baseline / NAME, seen, judged[chosen])}
        (out / AUDIT).write_text(json.dumps(found), encoding="utf-8")


def audit_in(folder: Path) -> dict[str, Any]:
    """What `Audit.examine` left in `folder`."""
    found: dict[str, Any] = json.loads((folder / AUDIT).read_text(encoding="utf-8"))
    return found


def told(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a report has of an audit: of the activations those that saturate, the worst first."""
    if not found:
        return {}
    saturated = sorted((each for each in found["activations"] if each["outside"] > 0),
                       key=lambda each: -float(each["outside"]))
    return {**found, "activations": len(found["activations"]), "saturated": saturated[:SHOWN]}


def warnings(found: Mapping[str, Any]) -> Iterator[str]:
    """What of an audit should worry the user, a sentence each."""
    if not found:
        return
    count = found["calibration"]
    if found["overlap"]:
        yield f"{found['overlap']} evaluation samples are also calibration samples"
    yield from _few(count, found["distinct"])
    if found["constant"] > BLANK * count:
        yield f"calibration: {found['constant']} of {count} samples are one value throughout"
    yield from _missing([each for each in found["missing_classes"] if each["expected"] >= EXPECTED])
    yield from _drift(found["activations"], found["distinct"])


def missing_classes(calibrated: Array | None, judged: Array | None) -> list[dict[str, Any]]:
    """The classes in `judged` (m,) that are not in `calibrated` (k,), most frequent first.

    Each with its samples in the evaluation, and how many chance would have brought to calibration.
    Nothing where either is None: then classes are not known.
    """
    if calibrated is None or judged is None:
        return []
    classes, sizes = np.unique(judged, return_counts=True)
    absent = ~np.isin(classes, calibrated)
    found = [{"class": int(each), "evaluation": int(size), "expected":
              round(calibrated.size * size / judged.size, 2)}
             for each, size in zip(classes[absent], sizes[absent], strict=True)]
    return sorted(found, key=lambda each: (-each["evaluation"], each["class"]))


def constant(samples: Array) -> int:
    """How many of `samples` (n, *shape) hold one value throughout; none where they hold only one."""
    rows = samples.reshape(len(samples), -1)
    return int((rows == rows[:, :1]).all(axis=1).sum()) if rows.shape[1] > 1 else 0


def outside(calibrated: Floats, judged: Floats) -> tuple[float, float]:
    """The share of values, and of samples with any, of `judged` (m, …) beyond all of `calibrated`."""
    beyond = ((judged < calibrated.min()) | (judged > calibrated.max())).reshape(len(judged), -1)
    return float(beyond.mean()), float(beyond.any(axis=1).mean())


def drifts(activation: Mapping[str, Any], count: int) -> bool:
    """Whether an activation saturates, and in more samples than chance would have it."""
    return activation["outside"] > DRIFT and by_chance(activation["samples"], count) < CHANCE


def by_chance(share: float, count: int) -> float:
    """How probably a `share` or more of all samples lies outside what `count` of their kind span.

    n (1 - s)^(n - 1) - (n - 1) (1 - s)^n, whatever their distribution: Wilks's tolerance limits
    (Annals of Mathematical Statistics 12, 1941, 91).
    """
    return count * (1 - share) ** (count - 1) - (count - 1) * (1 - share) ** count


def _few(count: int, distinct: int) -> Iterator[str]:
    said = f"{distinct} {'different ' * (distinct < count)}sample{'s' * (distinct != 1)}"
    said += f" among {count}" if distinct < count else ""
    if distinct < VERY_FEW:
        yield f"calibration: only {said}, which leaves the ranges to chance: give at least 100"
    elif distinct < FEW:
        yield f"calibration: only {said}: 100 to 500 are usual"
    elif distinct < count / 2:
        yield f"calibration: only {said}: most are copies"


def _missing(classes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if classes:
        named = ", ".join(str(each["class"]) for each in classes[:SHOWN])
        more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
        judged = sum(each["evaluation"] for each in classes)
        yield f"calibration: no sample is of class {named}{more}, and {judged} of the evaluation are"


def _drift(activations: Sequence[Mapping[str, Any]], count: int) -> Iterator[str]:
    """The first activation that drifts is named: those after it see what it lets through."""
    if drifted := [each for each in activations if drifts(each, count)]:
        name = drifted[0]["tensor"].partition(";")[0]  # the converter strings together what it merged
        yield (f"drift: on the evaluation data {drifted[0]['outside'] * 100:.3g} % of the values of {name!r} "
               f"lie outside what calibration saw; in all, {len(drifted)} of {len(activations)} activations "
               f"have over {DRIFT * 100:g} %")


def _classes(data: Path, outputs: int) -> Array | None:
    """The class numbers (n,) of a data set whose labels are positions among `outputs`, else None."""
    labels = labels_in(data)
    if outputs < 2 or labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return None
    return labels if ((labels >= 0) & (labels < outputs)).all() else None


def _coverage(calibration: Path, evaluation: Path, outputs: Floats) -> list[dict[str, Any]]:
    """The missing classes, by the labels; by the float model's `outputs` where evaluation has none."""
    width = outputs.size // len(outputs) if outputs.size == len(outputs) * outputs.shape[-1] else 0
    judged = _classes(evaluation, width)
    if labels_in(evaluation) is None and width > 1:
        judged = outputs.reshape(len(outputs), width).argmax(axis=1)
    return missing_classes(_classes(calibration, width), judged)


def _saturated(baseline: Path, calibrated: Array, judged: Array) -> dict[str, Any]:
    """How far each float activation leaves the range that calibration saw, in the graph's order."""
    if not baseline.exists():
        return {"activations": [], "not_run": "the activations of an exported program are not looked into"}
    found = []
    content = baseline.read_bytes()
    try:
        seen, met = Steps(content, calibrated), Steps(content, judged)
        for (tensor, _), _ in zip(seen.written(), met.written(), strict=True):
            if tensor.dtype == "FLOAT32" and tensor.elements:
                values, samples = outside(seen.values[tensor.index], met.values[tensor.index])
                found.append({"tensor": tensor.name, "outside": round(values, 6),
                              "samples": round(samples, 6)})
    except Refused as refusal:
        return {"activations": [], "not_run": refusal.message}
    return {"activations": found}
