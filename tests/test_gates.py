"""Gates on paper-sized measurements: what passes, what does not, and which of two is less bad."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.gates import Gate, Verdict, between, percent, rank, rough, shown
from edgeq.judging.paired import Evidence, Loss, Normal, Share, interval, needed, supported
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
    (7, "uj", "7 uJ"), (1e6, "uj", "1,000,000 uJ"), (12345.6, "ms", "12,346 ms"), (None, "bytes", "—"),
])
def test_a_figure_is_shown_in_its_unit(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_a_gate_judges_the_value_that_the_report_shows() -> None:
    found = Value(0.02, "ratio", "simulated", 2000)
    assert Gate("accuracy_drop", max=0.01).judge({"accuracy_drop": found}).found is found


# With a confidence


def weighed(metric: str, evidence: Evidence, confidence: float = 0.95, **limits: float) -> Verdict:
    """The verdict of a gate with a confidence on the figure that `evidence` gives."""
    value = supported(metric, value_of(metric, evidence.estimate, "simulated", n=evidence.n), evidence)
    return Gate(metric, confidence=confidence, **limits).judge({metric: value})


def test_a_gate_with_a_confidence_passes_where_the_whole_interval_does() -> None:
    verdict = weighed("accuracy_drop", Loss(12, 5, 2000), max=0.01)  # 0.0035: -0.0006 … 0.0082
    assert (verdict.passed, verdict.reason, verdict.explanation) == (True, None, "")
    assert verdict.interval == interval(Loss(12, 5, 2000), 0.95)


def test_it_fails_where_none_of_the_interval_would_pass() -> None:
    verdict = weighed("accuracy_drop", Loss(90, 5, 2000), max=0.01)  # 0.0425: 0.034 … 0.053
    assert verdict.reason == "failed"
    assert verdict.explanation == "wanted <= 0.01 at 95 %, and it is 0.0338 … 0.0527"
    assert verdict.needed is None


def test_else_the_samples_are_too_few_and_so_many_would_do() -> None:
    verdict = weighed("accuracy_drop", Loss(3, 1, 400), max=0.01)  # 0.005: -0.007 … 0.020
    assert (verdict.passed, verdict.reason) == (False, "inconclusive")
    assert verdict.needed == needed(Loss(3, 1, 400), 0.01, 0.95) == 2081
    assert verdict.explanation == "it is -0.0072 … 0.0196 at 95 %; about 2,100 samples would decide"


def test_a_figure_beyond_the_limit_may_be_inconclusive_too() -> None:
    verdict = weighed("accuracy_drop", Loss(6, 1, 400), max=0.01)
    assert verdict.found.value > 0.01
    assert verdict.reason == "inconclusive"


def test_on_the_limit_itself_no_number_of_samples_decides() -> None:
    verdict = weighed("agreement", Share(500, 500), min=1)
    assert (verdict.reason, verdict.needed) == ("inconclusive", None)
    assert verdict.explanation.endswith("it is on the limit, and no number of samples would decide")


def test_more_confidence_is_harder_to_come_by() -> None:
    reasons = [weighed("accuracy", Share(930, 1000), confidence, min=0.915).reason
               for confidence in (0.8, 0.9, 0.99)]
    assert reasons == [None, None, "inconclusive"]


@pytest.mark.parametrize(("successes", "reason"), [
    (500, None), (480, "inconclusive"), (420, "failed"), (520, "inconclusive"), (580, "failed")])
def test_between_two_limits_the_whole_interval_must_lie(successes: int, reason: str | None) -> None:
    assert weighed("agreement", Share(successes, 1000), min=0.46, max=0.54).reason == reason


def test_both_limits_may_be_too_near() -> None:
    verdict = weighed("agreement", Share(50, 100), min=0.46, max=0.53)
    assert verdict.needed == weighed("agreement", Share(50, 100), max=0.53).needed
    assert verdict.needed > weighed("agreement", Share(50, 100), min=0.46).needed


def test_a_standard_error_makes_an_interval_at_any_confidence() -> None:
    evidence = Normal(0.004, 0.003, 240, (-1.0, 1.0))
    assert weighed("accuracy_drop", evidence, 0.9, max=0.01).passed      # up to 0.0089
    assert not weighed("accuracy_drop", evidence, 0.99, max=0.01).passed  # up to 0.0117


def test_a_figure_without_an_interval_does_not_pass_a_gate_with_a_confidence() -> None:
    verdict = judged("accuracy", 0.99, min=0.5, confidence=0.95)
    assert verdict.reason == "unavailable"
    assert "no interval" in verdict.explanation


def test_a_gate_without_a_confidence_judges_the_figure_alone() -> None:
    value = supported("accuracy_drop", value_of("accuracy_drop", 0.005, "simulated", n=400), Loss(3, 1, 400))
    verdict = Gate("accuracy_drop", max=0.01).judge({"accuracy_drop": value})
    assert (verdict.passed, verdict.interval) == (True, None)


def test_of_two_inconclusive_figures_the_one_whose_worse_end_is_nearer_ranks_first() -> None:
    near = [weighed("accuracy_drop", Loss(3, 2, 400), max=0.01)]
    far = [weighed("accuracy_drop", Loss(5, 2, 400), max=0.01)]
    assert rank(near) < rank(far)
    assert rank(near)[1] > 0


def test_a_gate_on_a_group_judges_the_group() -> None:
    found = {"accuracy_drop": value_of("accuracy_drop", 0.0, "simulated"),
             "accuracy_drop[night]": value_of("accuracy_drop[night]", 0.2, "simulated")}
    assert not Gate("accuracy_drop[night]", max=0.1).judge(found).passed
    assert Gate("accuracy_drop", max=0.1).judge(found).passed
    assert Gate("accuracy_drop[day]", max=0.1).judge(found).reason == "unavailable"


def test_limits_say_the_confidence() -> None:
    assert Gate("accuracy_drop[a]", max=0.01, confidence=0.95).limits() == "<= 0.01 at 95 %"
    assert Gate("accuracy_drop", max=0.01).limits() == "<= 0.01"


@pytest.mark.parametrize(("count", "text"), [
    (2081, "2,100"), (385, "390"), (99, "99"), (7, "7"), (100, "100"), (101, "110"),
    (1_000_001, "1,100,000")])
def test_a_number_of_samples_is_said_in_two_digits_and_never_too_small(count: int, text: str) -> None:
    assert rough(count) == text


def test_intervals_and_confidences_are_said_plainly() -> None:
    assert between((-0.00058, 0.00791)) == "-0.0006 … 0.0079"
    assert [percent(each) for each in (0.95, 0.999, 0.6827)] == ["95 %", "99.9 %", "68.27 %"]
