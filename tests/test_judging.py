"""How a build judges, by the command line: groups, confidence, worse rungs, and the calibration audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from junitparser import JUnitXml

MODEL = {"source": "models/fashion/model.keras", "calibration": {"data": "models/fashion/calibration.npz"},
         "evaluation": {"data": "judged.npz", "metric": "top1"}}
PER_TENSOR = {"recipe": "static-int8", "granularity": "per_tensor"}
Build = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.fixture
def build(edgeq, project: Path) -> Build:
    """Build the demo for the host with these gates; exit code, what was said, and the result."""
    data = np.load(project / "models/fashion/evaluation.npz")
    bright = data["x"].reshape(len(data["x"]), -1).mean(axis=1) > 80
    groups = np.where(bright, "bright", "[dim] light")
    groups[:7] = "odd"
    np.savez(project / "judged.npz", x=data["x"][:600], y=data["y"][:600], group=groups[:600])

    def built(*gates: dict[str, Any], model: dict[str, Any] = MODEL, **changes: Any) -> tuple[int, str, dict]:
        gates = gates or ({"metric": "accuracy", "min": 0.01},)
        declared = {"version": 1, "models": {"fashion": model}, "targets": ["host"],
                    "ladder": ["static-int8"], "gates": gates, **changes}
        (project / "pipeline.yaml").write_text(json.dumps(declared), encoding="utf-8")
        ended = edgeq("build", "--jobs", "1")
        said = ended.stdout + ended.stderr
        assert "Traceback" not in said
        report = json.loads((project / "build/report.json").read_text(encoding="utf-8"))
        return ended.returncode, " ".join(said.replace("│", " ").split()), report["results"][0]

    return built


def test_a_difference_that_is_too_small_to_tell_is_inconclusive(build: Build, project: Path) -> None:
    code, said, result = build({"metric": "accuracy_drop", "max": 0.001, "confidence": "99 %"})
    assert code == 1
    verdict, = result["verdicts"]
    assert (verdict["passed"], verdict["reason"], verdict["confidence"]) == (False, "inconclusive", 0.99)
    assert verdict["interval"][0] <= 0.001 <= verdict["interval"][1]
    assert verdict["needed"] > 600
    assert "samples would decide" in verdict["explanation"]
    assert "inconclusive: it is" in said
    case, = next(iter(JUnitXml.fromfile(str(project / "build/report.junit.xml"))))
    assert (case.name, case.result[0].type) == ("accuracy_drop <= 0.001 at 99 %", "inconclusive")
    drop = result["metrics"]["accuracy_drop"]
    assert drop["n"] == 600
    assert drop["value"] == pytest.approx((drop["discordant"][0] - drop["discordant"][1]) / 600)
    assert drop["interval"][0] < drop["value"] < drop["interval"][1]
    assert 0 < drop["p_value"] <= 1
    assert f"({drop['interval'][0]:.4f} … {drop['interval'][1]:.4f})" in said


def test_a_difference_that_is_plain_enough_passes_or_fails(build: Build) -> None:
    code, _, result = build({"metric": "accuracy_drop", "max": 0.03, "confidence": 0.95},
                            ladder=[PER_TENSOR, "static-int8"])
    assert code == 0
    first, second = result["rungs"]
    assert (first["verdicts"][0]["reason"], second["verdicts"][0]["reason"]) in [
        ("failed", None), ("inconclusive", None)]
    assert "confidence" in second["verdicts"][0]


def test_groups_are_judged_where_a_gate_asks(build: Build) -> None:
    code, said, result = build(
        {"metric": "accuracy[[dim] light]", "min": 0.5}, {"metric": "accuracy_drop[bright]", "max": 0.5},
        {"metric": "worst_group_drop", "max": 0.5}, {"metric": "accuracy[night]", "min": 0.5})
    assert code == 1
    assert [verdict["reason"] for verdict in result["verdicts"]] == [None, None, None, "unavailable"]
    worst = result["metrics"]["worst_group_drop"]
    assert worst["group"] in ("bright", "[dim] light")
    assert "odd (7 samples)" in worst["aggregation"]
    assert "pass accuracy[[dim] light]" in said
    assert "the groups are [dim] light, bright, odd" in said


def test_groups_are_off_unless_a_gate_asks(build: Build) -> None:
    _, _, result = build({"metric": "accuracy", "min": 0.5})
    assert not [name for name in result["metrics"] if "group" in name or "[" in name]


def test_a_rung_that_is_worse_than_plain_says_so(build: Build) -> None:
    _, said, result = build({"metric": "model_bytes", "max": 1}, ladder=["static-int8", PER_TENSOR])
    first, second = result["rungs"]
    assert first["notes"] == []
    assert second["notes"][-1].startswith("worse than static-int8: of 600 samples ")
    assert "fashion/host static-int8 {granularity: per_tensor}: worse than static-int8" in said


def test_calibration_on_another_scale_and_without_a_class_is_found_out(build: Build, project: Path) -> None:
    data = np.load(project / "models/fashion/calibration.npz")
    kept = data["y"] != 3
    np.savez(project / "poor.npz", x=(data["x"][kept][:60] / 255).astype(np.float32), y=data["y"][kept][:60])
    _, said, result = build(model={**MODEL, "calibration": {"data": "poor.npz"}})
    few, missing, drift = result["warnings"]
    assert few == "calibration: only 60 samples: 100 to 500 are usual"
    assert missing.startswith("calibration: no sample is of class 3, and ")
    assert drift.startswith("drift: on the evaluation data ")
    assert f"warning: fashion/host: {few}" in said
    assert (result["audit"]["calibration"], result["audit"]["overlap"]) == (60, 0)
    assert result["audit"]["saturated"][0]["outside"] > 0.4


def test_the_audit_is_in_the_report_and_quiet_where_nothing_is_wrong(build: Build) -> None:
    _, said, result = build()
    assert result["warnings"] == []
    assert "warning" not in said
    assert (result["audit"]["calibration"], result["audit"]["distinct"]) == (500, 500)
    assert result["audit"]["activations"] >= 10


def test_without_calibration_there_is_no_audit(build: Build) -> None:
    _, _, result = build(ladder=["float32"])
    assert (result["audit"], result["warnings"]) == ({}, [])
