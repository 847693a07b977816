"""Gates on paper-sized measurements: what passes, what does not, and which of two is less bad."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.gates import Gate, Verdict, rank, shown
from edgeq.measurement import Source, Value, unavailable, value_of


def judged(metric: str, value: float | None, source: Source = "simulated", **gate: Any) -> Verdict:
    """The verdict of a gate with `gate` on one figure, or on none."""
    found = {} if value is None else {metric: value_of(metric, value, source)}
    return Gate(metric, **gate).judge(found)


@pytest.mark.parametrize(("value", "passed"), [(0.0, True), (0.01, True), (0.0101, False), (-0.5, True)])
def test_max_is_the_most_that_passes(value: float, *, passed: bool) -> None:
    assert judged("accuracy_drop", value, max=0.01).passed is passed


@pytest.mark.parametrize(("value", "passed"), [(0.9, True), (0.8999, False), (1.0, True)])
def test_min_is_the_least_that_passes(value: float, *, passed: bool) -> None:
    assert judged("accuracy", value, min=0.9).passed is passed


@pytest.mark.parametrize(("value", "passed"), [(9, False), (10, True), (20, True), (21, False)])
def test_between_min_and_max_passes(value: float, *, passed: bool) -> None:
    assert judged("sqnr_db", value, min=10, max=20).passed is passed


def test_a_limit_of_zero_is_a_limit() -> None:
    assert not judged("streamed_bytes", 1, max=0).passed
    assert judged("streamed_bytes", 0, max=0).passed


def test_a_verdict_says_what_was_wanted() -> None:
    verdict = judged("model_bytes", 200_000, max=131072)
    assert (verdict.reason, verdict.explanation) == ("failed", "wanted <= 128.0 KiB")


def test_a_passed_verdict_has_nothing_to_explain() -> None:
    verdict = judged("model_bytes", 1, max=2)
    assert (verdict.reason, verdict.explanation) == (None, "")


def test_what_nobody_measured_does_not_pass() -> None:
    verdict = judged("cycles", None, max=1e9)
    assert not verdict.passed
    assert (verdict.reason, verdict.explanation) == ("unavailable", "nothing measures it here")


def test_what_is_unavailable_does_not_pass_and_says_why() -> None:
    verdict = Gate("cycles", max=1e9).judge({"cycles": unavailable("cycles", "3 operators run on the CPU")})
    assert (verdict.reason, verdict.explanation) == ("unavailable", "3 operators run on the CPU")


def test_nan_does_not_pass() -> None:
    assert judged("cycles", float("nan"), max=1e9).reason == "unavailable"


@pytest.mark.parametrize("source", ["measured", "simulated"])
def test_measured_and_simulated_figures_are_evidence(source: Source) -> None:
    assert judged("mapped_ops_ratio", 1, source, min=1).passed


def test_an_estimate_is_no_evidence_unless_it_is_allowed() -> None:
    verdict = judged("mapped_ops_ratio", 1, "estimated", min=1)
    assert verdict.reason == "unavailable"
    assert verdict.explanation == "it is estimated, and the gate allows only measured, simulated"
    assert judged("mapped_ops_ratio", 1, "estimated", min=1, allow=("estimated",)).passed


def test_a_gate_may_insist_on_the_device_itself() -> None:
    assert not judged("latency_ms", 1, "simulated", max=5, allow=("measured",)).passed


def test_allowing_what_is_unavailable_lets_nothing_through() -> None:
    gate = Gate("cycles", max=1e9, allow=("unavailable",))
    assert not gate.judge({"cycles": unavailable("cycles", "none")}).passed


def test_a_gate_that_names_nothing_holds_for_all() -> None:
    assert Gate("accuracy").holds_for("fashion", "host")


@pytest.mark.parametrize(("model", "target", "holds"), [
    ("fashion", "tflm", True), ("fashion", "host", False), ("speech", "tflm", False)])
def test_a_gate_holds_for_the_models_and_targets_that_it_names(
    model: str, target: str, *, holds: bool
) -> None:
    gate = Gate("accuracy", targets=("tflm", "edgetpu"), models=("fashion",))
    assert gate.holds_for(model, target) is holds


@pytest.mark.parametrize(("value", "gate", "shortfall"), [
    (150, {"max": 100}, 0.5),           # (150 - 100) / 100
    (0.45, {"min": 0.9}, 0.5),          # (0.9 - 0.45) / 0.9
    (100, {"max": 100}, 0.0),
    (0.5, {"max": 0}, 0.5),             # a limit of 0 has no size: the miss itself
    (-30, {"min": -20}, 0.5),           # limits below zero: by their size
    (5, {"min": 10, "max": 20}, 0.25),  # (10 - 5) / the larger limit
    (30, {"min": 10, "max": 20}, 0.5),
])
def test_a_shortfall_is_relative_to_the_limit(value: float, gate: dict[str, float], shortfall: float) -> None:
    assert Gate("value", **gate).shortfall(value) == pytest.approx(shortfall)


def test_what_is_not_there_falls_short_by_a_whole_limit() -> None:
    assert judged("cycles", None, max=100).shortfall == 1.0


def test_one_gross_failure_ranks_before_two_slight_ones() -> None:
    gross = [judged("model_bytes", 900, max=100), judged("accuracy", 0.9, min=0.9)]
    slight = [judged("model_bytes", 101, max=100), judged("accuracy", 0.89, min=0.9)]
    assert rank(gross) == (1, pytest.approx(8.0))
    assert rank(gross) < rank(slight)


def test_of_as_many_failures_the_lesser_shortfall_ranks_first() -> None:
    near = [judged("model_bytes", 110, max=100)]
    far = [judged("model_bytes", 150, max=100)]
    assert rank(near) < rank(far)


def test_what_passed_adds_nothing_to_the_rank() -> None:
    assert rank([judged("model_bytes", 1, max=100)] * 3) == (0, 0)


@pytest.mark.parametrize(("value", "unit", "text"), [
    (68688, "bytes", "67.1 KiB"), (512, "bytes", "512 B"), (922336, "count", "922,336"),
    (0.9145, "ratio", "0.9145"), (36.805, "db", "36.8 dB"), (0.25, "ms", "0.25 ms"),
    (7, "uj", "7 uJ"), (None, "bytes", "—"),
])
def test_a_figure_is_shown_in_its_unit(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_a_gate_judges_the_value_that_the_report_shows() -> None:
    found = Value(0.02, "ratio", "simulated", 2000)
    assert Gate("accuracy_drop", max=0.01).judge({"accuracy_drop": found}).found is found
