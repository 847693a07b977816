"""Two builds beside each other: what changed, what is noise, and what must not be compared."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import histories
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import comparing
from edgeq.comparing import Question
from edgeq.errors import ConfigError
from edgeq.history.recording import record
from edgeq.judging.paired import Loss, Share, interval, supported
from edgeq.measurement import METRICS, Value, unavailable, value_of
from edgeq.regressions import kept
from edgeq.regressions.apart import mover
from edgeq.regressions.change import Allowance, Change, allowance, change
from edgeq.regressions.taken import Side, Taken, of_report
from edgeq.regressions.traits import DEPENDS, PARTS, TRAITS, trait_of
from edgeq.sides import failures, side_at, sides_of_branch

IDENTITY: dict[str, Any] = {
    "data": {"source": "5" * 64, "evaluation": "e" * 64, "calibration": "c" * 64},
    "runner": {"name": "qemu-cortex-m", "board": "mps2-an386", "clock": "120MHz", "timeout_s": 600.0},
    "meters": [],
    "tools": {"litert-quantizer": "0.11.0", "pillow": "13.0.0", "qemu-system-arm": "sha256:" + "a" * 64},
    "host": {"machine": "x86_64", "system": "Linux", "release": "6.1", "python": "3.11.7", "cpu": "a CPU"},
}
HOST = {**IDENTITY, "runner": {"name": "host", "kernels": "xnnpack"},
        "meters": [{"name": "host-clock", "runs": 100}]}
PHONE = {**IDENTITY, "runner": {"name": "adb", "address": "C0FFEE"}}


def identity(part: str, key: str, value: object, base: dict[str, Any] = IDENTITY) -> dict[str, Any]:
    """`base` with one thing in it otherwise."""
    found = copy.deepcopy(base)
    found[part][key] = value
    return found


def job(metrics: dict[str, Value], base: dict[str, Any] = IDENTITY, **more: Any) -> Taken:
    return Taken(recipe="static-int8", passed=True, metrics=metrics, identity=base, **more)


def count(value: float, **of_job: Any) -> Taken:
    return job({"instructions": value_of("instructions", value, "simulated", n=100)}, **of_job)


def live(metric: str, value: float, base: dict[str, Any], half: float = 0.0, **more: Any) -> Taken:
    """A measured figure with an interval of ± half."""
    rig = more.pop("rig", "C0FFEE")
    found = replace(value_of(metric, value, "measured", n=100, aggregation="median"),
                    interval=(value - half, value + half), rig=rig)
    return job({metric: found}, base, **more)


def scored(lost: int, gained: int, n: int = 2000, base: dict[str, Any] = IDENTITY) -> Taken:
    """The accuracy of a model whose float baseline has 90 % right."""
    right = round(0.9 * n)
    score, plain = Share(right - lost + gained, n), Share(right, n)
    drop = Loss(lost, gained, n)
    found = {"accuracy": score, "baseline_accuracy": plain, "accuracy_drop": drop}
    return job({name: supported(name, value_of(name, each.estimate, "simulated", n=n), each)
                for name, each in found.items()}, base)


def outcome(metric: str, there: Taken, here: Taken) -> str:
    return change(metric, there, here).outcome


# Which way is better, and what matters


def test_every_metric_that_has_a_better_way_says_what_it_depends_on():
    assert TRAITS.keys() <= METRICS.keys()
    assert METRICS.keys() - TRAITS.keys() == {"baseline_accuracy", "cached_bytes"}
    assert {trait.kind for trait in TRAITS.values()} == DEPENDS.keys()
    assert {part for parts in DEPENDS.values() for part in parts} == {*PARTS}
    assert all(reason for parts in DEPENDS.values() for reason in parts.values())


def test_a_metric_of_a_group_has_the_trait_of_the_metric():
    assert trait_of("accuracy_drop[night]") == TRAITS["accuracy_drop"]
    assert trait_of("baseline_accuracy[night]") is None


@pytest.mark.parametrize(("metric", "old", "new", "expected"), [
    ("instructions", 1000, 1001, "worse"), ("instructions", 1000, 999, "better"),
    ("instructions", 1000, 1000, "same"), ("model_bytes", 10, 11, "worse"),
    ("mapped_ops_ratio", 1, 0.9, "worse"), ("mapped_ops_ratio", 0.9, 1, "better"),
    ("sqnr_db", 40, 39.6, "same"), ("sqnr_db", 40, 39.4, "worse"), ("sqnr_db", 40, 40.6, "better"),
    ("mse", 1e-5, 1.1e-5, "same"), ("mse", 1e-5, 1.2e-5, "worse"),
    ("cosine", 0.9990, 0.9989, "same"), ("cosine", 0.9990, 0.9988, "worse")])
def test_counts_and_sizes_are_exact_and_likeness_is_not(metric, old, new, expected):
    there, here = (job({metric: value_of(metric, each, "simulated", n=100)}) for each in (old, new))
    assert outcome(metric, there, here) == expected


def test_a_change_is_told_in_the_unit_and_as_a_share():
    found = change("instructions", count(1000), count(1025))
    assert (found.absolute, found.relative, found.interval) == (25, 0.025, (25, 25))
    assert change("instructions", count(0), count(5)).relative is None


# Scores on the same samples


def test_two_scores_on_the_same_samples_are_held_together_by_what_each_lost():
    found = change("accuracy", scored(10, 4), scored(60, 6))
    assert found.absolute == pytest.approx(-48 / 2000)
    assert found.interval == interval(Loss(10 + 6, 4 + 60, 2000), 0.95)  # as if none were lost by both
    assert found.outcome == "worse"


def test_a_few_samples_are_no_change():
    assert outcome("accuracy", scored(10, 4), scored(14, 4)) == "same"
    assert outcome("accuracy_drop", scored(10, 4), scored(14, 4)) == "same"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_accuracy_and_its_drop_never_contradict_one_another(lost, gained, later_lost, later_gained):
    there, here = scored(lost, gained), scored(later_lost, later_gained)
    score, drop = (change(metric, there, here) for metric in ("accuracy", "accuracy_drop"))
    assert score.outcome == drop.outcome
    assert score.absolute == pytest.approx(-drop.absolute, abs=1e-12)
    low, high = score.interval
    assert drop.interval == pytest.approx((-high, -low), abs=1e-9)
    assert low - 1e-9 <= score.absolute <= high + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_there_and_back_is_the_opposite(lost, gained, later_lost, later_gained):
    there, here = scored(lost, gained), scored(later_lost, later_gained)
    opposite = {"better": "worse", "worse": "better", "same": "same"}
    assert outcome("accuracy", here, there) == opposite[outcome("accuracy", there, here)]


def test_a_retrained_model_is_compared_by_the_intervals_of_both():
    other = scored(10, 4, base=identity("data", "source", "9" * 64))
    found = change("accuracy", scored(60, 6), other)
    ends = [each.metrics["accuracy"] for each in (scored(60, 6), other)]
    assert found.outcome == "better"
    assert found.interval == mover(ends[0].value, ends[0].interval, ends[1].value, ends[1].interval)


def test_newcombes_example_comes_out():
    there, here = Share(48, 80), Share(56, 70)  # Newcombe 1998, table II: 56/70 - 48/80, method 10
    low, high = mover(there.estimate, interval(there, 0.95), here.estimate, interval(here, 0.95))
    assert (low, high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


# What is live


def test_medians_are_told_apart_by_their_intervals():
    serial = {**IDENTITY, "runner": {"name": "serial"}}
    there = live("latency_ms", 10.0, serial, 0.2)
    assert outcome("latency_ms", there, live("latency_ms", 10.25, serial, 0.2)) == "same"
    assert outcome("latency_ms", there, live("latency_ms", 10.35, serial, 0.2)) == "worse"


@pytest.mark.parametrize(("base", "metric", "same", "worse"), [
    (PHONE, "latency_ms", 1.049, 1.051), (HOST, "latency_ms", 1.24, 1.26),
    ({**IDENTITY, "runner": {"name": "serial"}}, "energy_uj", 1.001, 1.002),
    ({**IDENTITY, "runner": {"name": "ssh"}}, "latency_ms", 1.019, 1.021)])
def test_no_verdict_is_finer_than_the_bench(base, metric, same, worse):
    there = live(metric, 100.0, base)
    assert outcome(metric, there, live(metric, 100.0 * same, base)) == "same"
    found = change(metric, there, live(metric, 100.0 * worse, base))
    assert found.outcome == "worse"
    assert "%" in found.noise


def test_what_is_estimated_or_simulated_repeats_exactly():
    there, here = (job({"latency_ms": value_of("latency_ms", each, "estimated")}) for each in (1.0, 1.0001))
    assert outcome("latency_ms", there, here) == "worse"


def test_kept_repeats_tell_better_than_a_rule_of_thumb():
    runs = [live("latency_ms", each, HOST, 0.001) for each in (1.00, 1.01, 1.02, 1.00, 1.01)]
    kept_job = kept.repeated(runs)
    assert kept_job.metrics["latency_ms"].value == 1.01
    assert kept_job.metrics["latency_ms"].interval == (0.999, 1.021)
    assert kept_job.repeats == 5
    assert outcome("latency_ms", kept_job, live("latency_ms", 1.02, HOST, 0.001)) == "same"
    found = change("latency_ms", kept_job, live("latency_ms", 1.05, HOST, 0.001))
    assert found.outcome == "worse"
    assert found.noise.endswith("the 5 repeats that are kept")


def test_a_time_on_a_device_does_not_depend_on_the_host():
    there = live("latency_ms", 1.0, PHONE)
    other = identity("host", "cpu", "another", PHONE)
    assert outcome("latency_ms", there, live("latency_ms", 1.0, other)) == "same"


# What is not comparable


@pytest.mark.parametrize(("metric", "part", "key", "value", "told"), [
    ("accuracy", "data", "evaluation", "0" * 64,
     "evaluation data: eeeeeeeeeeee… there, 000000000000… here"),
    ("instructions", "tools", "qemu-system-arm", "sha256:" + "b" * 64,
     "qemu-system-arm: aaaaaaaaaaaa… there, bbbbbbbbbbbb… here"),
    ("instructions", "runner", "board", "mps2-an500", "runner's board: mps2-an386 there, mps2-an500 here"),
    ("model_bytes", "tools", "litert-quantizer", "0.12.0", "litert-quantizer: 0.11.0 there, 0.12.0 here"),
    ("accuracy", "host", "machine", "aarch64", "host's machine: x86_64 there, aarch64 here"),
    ("energy_uj", "runner", "clock", "80MHz", "runner's clock: 120MHz there, 80MHz here")])
def test_what_matters_to_a_metric_forbids_to_compare_it(metric, part, key, value, told):
    there, here = (job({metric: value_of(metric, 1, "simulated", n=2000)}, base)
                   for base in (IDENTITY, identity(part, key, value)))
    found = change(metric, there, here)
    assert (found.outcome, found.why, found.interval) == ("not comparable", (told,), None)


@pytest.mark.parametrize(("metric", "part", "key", "value"), [
    ("model_bytes", "host", "cpu", "another"), ("model_bytes", "data", "evaluation", "0" * 64),
    ("model_bytes", "tools", "qemu-system-arm", "other"), ("model_bytes", "runner", "board", "other"),
    ("accuracy", "runner", "clock", "80MHz"), ("accuracy", "host", "cpu", "another"),
    ("accuracy", "tools", "pillow", "14"), ("accuracy", "data", "calibration", "0" * 64),
    ("accuracy", "data", "source", "0" * 64), ("instructions", "runner", "timeout_s", 1.0),
    ("instructions", "host", "release", "7.0")])
def test_what_does_not_matter_stands_in_no_way(metric, part, key, value):
    there, here = (job({metric: value_of(metric, 1, "simulated", n=2000)}, base)
                   for base in (IDENTITY, identity(part, key, value)))
    assert outcome(metric, there, here) == "same"


def test_what_is_timed_here_depends_on_all_of_this_machine():
    there = live("latency_ms", 1.0, HOST, rig=None)
    for key in HOST["host"]:
        here = live("latency_ms", 1.0, identity("host", key, "other", HOST), rig=None)
        assert outcome("latency_ms", there, here) == "not comparable"


def test_a_meter_that_is_set_otherwise_measures_otherwise():
    other = {**HOST, "meters": [{"name": "host-clock", "runs": 10}]}
    found = change("latency_ms", live("latency_ms", 1.0, HOST), live("latency_ms", 1.0, other))
    assert found.why == ("meter host-clock's runs: 100 there, 10 here",)


def test_a_meter_stands_in_no_way_of_what_it_did_not_measure():
    other = {**IDENTITY, "meters": [{"name": "power"}]}
    value = value_of("latency_ms", 1, "estimated")
    there, here = (job({"latency_ms": value}, base) for base in (IDENTITY, other))
    assert outcome("latency_ms", there, here) == "same"


def test_figures_of_another_rig_or_another_source_are_refused():
    serial = {**IDENTITY, "runner": {"name": "serial"}}
    there = live("energy_uj", 1.0, serial, rig="PPK2 A")
    found = change("energy_uj", there, live("energy_uj", 1.0, serial, rig="PPK2 B"))
    assert found.why == ("rig: PPK2 A there, PPK2 B here",)
    estimate = job({"energy_uj": value_of("energy_uj", 1.0, "estimated")}, serial)
    assert change("energy_uj", there, estimate).why == ("measured there, estimated here",)


def test_an_energy_of_no_rig_is_held_against_nothing():
    serial = {**IDENTITY, "runner": {"name": "serial"}}
    found = change("energy_uj", *(live("energy_uj", 1.0, serial, rig=None) for _ in range(2)))
    assert found.outcome == "not comparable"
    assert "neither side says" in found.why[0]


def test_a_difference_may_be_let_pass_and_is_said():
    there, here = count(10), count(11, base=identity("tools", "litert-quantizer", "0.12.0"))
    found = change("instructions", there, here, ("tools",))
    assert (found.outcome, found.despite) == ("worse", ("litert-quantizer: 0.11.0 there, 0.12.0 here",))
    assert change("instructions", there, here, ("host",)).outcome == "not comparable"


def test_a_report_without_identity_is_not_comparable():
    assert "no identity there" in change("instructions", count(1, base={}), count(1)).why[0]


@pytest.mark.parametrize(("there", "here", "told"), [
    (count(1), job({}), "nothing measured it here"),
    (count(1), job({"instructions": unavailable("instructions", "no plugin")}),
     "there is no figure here: no plugin"),
    (count(1, error="gcc is missing\nand more"), count(1), "the job was stopped there: gcc is missing")])
def test_what_is_not_there_is_not_equal(there, here, told):
    found = change("instructions", there, here)
    assert (found.outcome, found.why) == ("not comparable", (told,))


def test_a_metric_that_is_better_neither_way_is_not_compared():
    there = job({"cached_bytes": value_of("cached_bytes", 1, "measured")})
    assert change("cached_bytes", there, there).why == ("cached_bytes is better neither way",)


# What is allowed


@pytest.mark.parametrize(("metric", "said", "expected"), [
    ("instructions", "2%", Allowance(0.02)), ("instructions", "2 %", Allowance(0.02)),
    ("instructions", "5k", Allowance(5000, relative=False)),
    ("instructions", 7, Allowance(7, relative=False)),
    ("model_bytes", "1KiB", Allowance(1024, relative=False)), ("latency_ms", "0.1ms", Allowance(0.1, False)),
    ("accuracy", "0.5 %", Allowance(0.005, relative=False)), ("accuracy", 0.01, Allowance(0.01, False)),
    ("sqnr_db", "1 dB", Allowance(1, relative=False)), ("mse", "10%", Allowance(0.1))])
def test_a_share_is_of_the_older_figure_and_of_a_ratio_in_points(metric, said, expected):
    found = allowance(metric, said)
    assert (found.amount, found.relative) == (pytest.approx(expected.amount), expected.relative)


@pytest.mark.parametrize(("metric", "said"), [
    ("instructions", "2 percent"), ("instructions", "-1%"), ("accuracy", "1 dB"), ("sqnr_db", "2 %"),
    ("latency_ms", "1KiB"), ("instructions", "")])
def test_what_means_nothing_is_no_allowance(metric, said):
    with pytest.raises(ValueError, match=r"."):
        allowance(metric, said)


@pytest.mark.parametrize(("new", "beyond"), [(1020, False), (1021, True), (1000, False), (900, False)])
def test_what_is_allowed_is_no_regression(new, beyond):
    assert (change("instructions", count(1000), count(new)).excess(Allowance(0.02)) > 0) is beyond


@settings(deadline=None)
@given(st.floats(1, 1e9), st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_excess_is_never_more_than_the_change(old, share, allowed):
    found = change("instructions", count(old), count(old * (1 + share)))
    assert 0 <= found.excess(Allowance(allowed)) <= max(0.0, found.absolute or 0.0)


# Whole sides


def report(jobs: dict[str, Taken]) -> dict[str, Any]:
    """A report.json with these jobs of the model m, by target."""
    from edgeq.measurement import to_json

    return {"schema": "edgeq-report/1", "results": [
        {"model": "m", "target": target, "passed": each.passed, "recipe": each.recipe, "error": None,
         "metrics": to_json(each.metrics), "verdicts": [], "identity": dict(each.identity)}
        for target, each in jobs.items()]}


@pytest.fixture
def left(tmp_path: Path) -> Callable[..., Path]:
    """Write a report, or any content, to a file."""
    def write(name: str, content: object) -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_jobs_of_one_side_alone_are_told():
    old, new = Side("old", {("m", "a"): count(1), ("m", "b"): count(1)}), Side("new", {("m", "a"): count(1),
                                                                                     ("m", "c"): count(1)})
    found = comparing.compared(old, new, Question())
    assert [(row.job[1], row.change.outcome) for row in found.rows] == [
        ("a", "same"), ("b", "not comparable")]
    assert found.remarks == ("m/c: only in new, so nothing is held against it",)
    assert found.exit_code == 2
    assert comparing.compared(old, new, Question(targets=("a",))).exit_code == 0


@pytest.mark.parametrize("jobs", [{}, {("m", "a"): Taken("r", True, {})}])
def test_an_older_side_without_a_figure_does_not_pass(jobs):
    with pytest.raises(ConfigError, match="old has no figure of what is asked for"):
        comparing.compared(Side("old", jobs), Side("new", {("m", "a"): count(1)}), Question())


def test_what_neither_side_has_is_a_mistake():
    side = Side("it", {("m", "a"): count(1)})
    with pytest.raises(ConfigError, match="neither it nor it has what is asked for"):
        comparing.compared(side, side, Question(models=("n",)))


def test_the_exit_code_tells_the_worst():
    old = Side("old", {("m", "a"): count(1000)})
    worse = Side("new", {("m", "a"): count(1001)})
    other = Side("new", {("m", "a"): count(1000, base=identity("runner", "board", "other"))})
    assert comparing.compared(old, old, Question()).exit_code == 0
    assert comparing.compared(old, worse, Question()).exit_code == 1
    assert comparing.compared(old, worse, Question(allowances={"": "1%"})).exit_code == 0
    assert comparing.compared(old, worse, Question(allowances={"": "1%", "instructions": "0"})).exit_code == 1
    assert comparing.compared(old, other, Question()).exit_code == 2
    assert comparing.compared(old, other, Question(let=("runner",))).exit_code == 0


def test_a_metric_that_cannot_become_worse_is_a_mistake_to_ask_for():
    side = Side("it", {("m", "a"): count(1)})
    with pytest.raises(ConfigError, match="did you mean 'instructions'"):
        comparing.compared(side, side, Question(metrics=("instruction",)))


def test_a_report_is_read_as_it_was_written(left):
    path = left("build/report.json", report({"a": scored(10, 4)}))
    side = side_at(path.parent)
    assert side.jobs["m", "a"].metrics == scored(10, 4).metrics
    assert side_at(path).jobs == side.jobs


def test_a_baseline_holds_what_the_report_held_and_is_the_same_again():
    jobs = {("m", "b"): scored(10, 4), ("m", "a"): count(1, commit="c0ffee")}
    written = kept.text(jobs, "0.1.0")
    assert kept.side_of(json.loads(written), "main.json").jobs == jobs
    assert kept.text(dict(reversed(jobs.items())), "0.1.0") == written
    assert written.endswith("}\n")


def test_repeats_have_to_be_of_one_build_and_one_bench():
    first, other = (Side(name, {("m", "a"): count(value)}) for name, value in (("one", 10), ("two", 11)))
    with pytest.raises(ConfigError, match="instructions: it is 10 in the one, and 11 in the other"):
        comparing.repeats([first, other], Question())
    moved = Side("two", {("m", "a"): count(10, base=identity("runner", "board", "x"))})
    with pytest.raises(ConfigError, match="runner's board"):
        comparing.repeats([first, moved], Question())
    assert comparing.repeats([first, first, first], Question())["m", "a"].repeats == 3


CUT: dict[str, tuple[Callable[[str], str], str]] = {
    "cut short": (lambda text: text[:len(text) // 2], "is cut short or damaged"),
    "empty": (lambda _: "", "is cut short or damaged"),
    "no JSON": (lambda _: "<<<<<<< HEAD", "is cut short or damaged"),
    "a list": (lambda _: "[]", "holds no report and no baseline"),
    "another schema": (lambda text: text.replace("/1", "/9", 1), "schema is 'edgeq-report/9'"),
    "no results": (lambda text: text.replace('"results"', '"result"'), "results is missing"),
    "a result that is none": (lambda _: '{"schema": "edgeq-report/1", "results": [7]}',
                              r"results\[0\] is no mapping"),
    "a word for a number": (lambda text: text.replace('"value": 1.0', '"value": "1"'),
                            r"results\[0\].metrics.instructions.value is damaged: Expected"),
    "NaN": (lambda text: text.replace('"value": 1.0', '"value": NaN'), "NaN is no number"),
    "too large": (lambda text: text.replace('"value": 1.0', '"value": 1e999'), "is no finite number"),
    "another unit": (lambda text: text.replace('"count"', '"ms"'),
                     "instructions.unit is ms, and should be count"),
    "a key twice": (lambda text: text.replace('"model"', '"target": "z", "model"'),
                    "'target' stands there twice"),
    "an identity that is none": (lambda text: text.replace('"meters": []', '"meters": {}'),
                                 "identity.meters is no list"),
    "a source that is none": (lambda text: text.replace("simulated", "guessed"),
                              "metrics.instructions.source"),
    "deeply nested": (lambda _: "[" * 100_000, "is cut short or damaged"),
}


@pytest.mark.parametrize("harm", CUT)
def test_a_damaged_report_is_told_with_the_key(left, harm):
    damage, told = CUT[harm]
    path = left("report.json", damage(json.dumps(report({"a": count(1)}))))
    with pytest.raises(ConfigError, match=told) as found:
        side_at(path)
    assert str(path) in found.value.message
    assert found.value.hint


@pytest.mark.parametrize(("old", "new", "told"), [
    ('"edgeq-baseline/1"', '"edgeq-baseline/2"', "schema is 'edgeq-baseline/2', and should be"),
    ('"jobs"', '"job"', "jobs is missing"),
    ('"value": 1.0', '"value": "many"', r"jobs.m.a.metrics.instructions.value is damaged"),
    ('"recipe": "static-int8"', '"recipe": 8', "jobs.m.a.recipe is no text: 8"),
    ('"tools"', '"tool"', "jobs.m.a.identity.tools is missing"),
    ('"edgeq-baseline/1"\n}', '"edgeq-baseline/1"', "is cut short or damaged")])
def test_a_baseline_that_was_changed_by_hand_is_told_with_the_key(left, old, new, told):
    text = kept.text({("m", "a"): count(1)}, "0.1.0")
    assert old in text
    with pytest.raises(ConfigError, match=told):
        kept.read(left("main.json", text.replace(old, new)))


def test_a_missing_baseline_says_what_makes_it(tmp_path):
    with pytest.raises(ConfigError, match="there is no baseline") as found:
        kept.read(kept.place_of(tmp_path, "main"))
    assert "edgeq baseline set main" in found.value.hint


@pytest.mark.parametrize("name", ["", "../main", "a/b", "Main", ".hidden", "a b"])
def test_a_baseline_has_a_plain_name(tmp_path, name):
    with pytest.raises(ConfigError, match="is no name for a baseline"):
        kept.place_of(tmp_path, name)


def test_a_job_that_only_its_baseline_does_not_fit_has_not_failed(left):
    content = report({"a": count(1), "b": count(1), "c": count(1)})
    for result, reasons in zip(content["results"], (["incomparable"], ["incomparable", "failed"], []),
                               strict=True):
        result["passed"] = False
        result["verdicts"] = [{"metric": "instructions", "value": 1, "passed": False, "reason": reason,
                               "explanation": "why"} for reason in reasons]
    found = failures(left("report.json", content), lambda _: True)
    assert [line.partition(":")[0] for line in found] == ["m/b", "m/c"]


NONE = {"energy_uj": unavailable("energy_uj", "the meter vanished")}
SOME = {"energy_uj": value_of("energy_uj", 12.3, "estimated")}
SIZE = {"model_bytes": value_of("model_bytes", 100, "measured")}


@pytest.mark.parametrize(("now", "why"), [
    (NONE, "there is no figure here: the meter vanished"), ({}, "nothing measured it here")])
def test_a_figure_that_vanished_is_not_the_same(now, why):
    old, new = (Side("it", {("m", "a"): job(SIZE | found)}) for found in (SOME, now))
    found = comparing.compared(old, new, Question())
    row = comparing.as_json(found)["changes"][1]
    assert (row["metric"], row["old"]["value"], row["verdict"], row["reasons"]) == (
        "energy_uj", 12.3, "not comparable", [why])
    assert found.exit_code == 2


@pytest.mark.parametrize(("then", "why"), [(NONE, ": there, the meter vanished"), ({}, "")])
def test_a_figure_that_was_none_before_is_told(then, why):
    old, new = (Side(name, {("m", "a"): job(SIZE | found)}) for name, found in (("old", then), ("new", SOME)))
    found = comparing.compared(old, new, Question())
    assert [row.change.metric for row in found.rows] == ["model_bytes"]
    assert found.remarks == (f"m/a: energy_uj: only in new, so nothing is held against it{why}",)
    assert found.exit_code == 0
    assert comparing.compared(old, new, Question(metrics=("energy_uj",))).exit_code == 2


def test_a_job_without_a_figure_is_told():
    sides = [Side(name, {("m", "a"): job(SIZE), ("m", "b"): job(NONE)}) for name in ("old", "new")]
    assert comparing.compared(*sides, Question()).remarks == ("m/b: neither side has a figure",)


@pytest.mark.parametrize("runs", [(NONE, SOME), (SOME, NONE)])
def test_a_baseline_is_kept_of_no_runs_of_which_one_has_no_figure(runs):
    sides = [Side(name, {("m", "a"): job(SIZE | found)}) for name, found in zip("xy", runs, strict=True)]
    with pytest.raises(ConfigError, match="x and y are no repeats: m/a: energy_uj: there is no figure"):
        comparing.repeats(sides, Question())


def test_both_sides_of_a_comparison_are_told_for_a_machine():
    old, new = Side("old", {("m", "a"): count(1000)}), Side("new", {("m", "a"): count(1001)})
    found = comparing.as_json(comparing.compared(old, new, Question()))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    row = found["changes"][0]
    assert (row["model"], row["target"], row["metric"], row["verdict"], row["regression"]) == (
        "m", "a", "instructions", "worse", True)
    assert (row["old"]["value"], row["new"]["value"]) == (1000, 1001)
    assert (row["absolute"], row["relative"]) == (1, 0.001)
    assert found["exit"] == 1


def test_a_change_without_figures_is_no_worsening():
    assert Change("instructions", None, None, "not comparable").excess(Allowance()) == 0


# The command


def git(folder: Path, *words: str) -> str:
    said = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *words],
        cwd=folder, capture_output=True, text=True, check=True)
    return said.stdout.strip()


def test_the_command_prints_a_table_and_names_what_differs(edgeq, left, tmp_path):
    newer = count(5, base=identity("tools", "litert-quantizer", "0.12"))
    left("old.json", report({"a": count(1000), "b": newer}))
    left("new.json", report({"a": count(1010), "b": count(5)}))
    found = edgeq("compare", tmp_path / "old.json", tmp_path / "new.json")
    assert found.returncode == 2
    assert "+10 (+1.00 %)" in found.stdout
    assert "m/b: not comparable: litert-quantizer: 0.12 there, 0.11.0 here (instructions)" in found.stdout
    assert "2 figures: 1 worse, 1 not comparable" in found.stdout
    again = edgeq("compare", tmp_path / "old.json", tmp_path / "new.json", "--allow", "tools",
                  "--max-regression", "2%", "--json")
    assert again.returncode == 0
    assert [row["verdict"] for row in json.loads(again.stdout)["changes"]] == ["worse", "same"]


def test_figures_that_are_what_they_were_are_counted_and_shown_where_asked_for(edgeq, left, tmp_path):
    left("old.json", report({"a": count(1000), "b": count(20)}))
    left("new.json", report({"a": count(1010), "b": count(20)}))
    sides = (tmp_path / "old.json", tmp_path / "new.json")
    changed, whole = edgeq("compare", *sides).stdout, edgeq("compare", "--all", *sides).stdout
    assert "m/a" in changed
    assert "m/b" not in changed
    assert "m/b" in whole
    assert all("2 figures: 1 worse, 1 same" in said for said in (changed, whole))


def test_a_metric_that_is_asked_for_and_that_a_job_has_on_neither_side_is_no_difference():
    sizes = job({"model_bytes": value_of("model_bytes", 9, "measured")})
    side = Side("it", {("m", "a"): count(1000), ("m", "b"): sizes})
    found = comparing.compared(side, side, Question(metrics=("instructions",)))
    assert found.exit_code == 0
    assert [row.job for row in found.rows] == [("m", "a")]
    assert found.remarks == ("m/b: neither side has a figure of instructions",)


@pytest.mark.parametrize(("words", "told"), [
    ((), "two sides are compared, and 0 are named"),
    (("old.json", "--allow", "weather"), "'weather' is no part of a bench"),
    (("old.json", "old.json", "--max-regression", "beauty=2%"), "nothing measures 'beauty'"),
    (("old.json", "old.json", "--max-regression", "two"), "--max-regression two for instructions"),
    (("old.json", "--branch"), "--branch names both sides"),
    (("missing.json", "old.json"), "cannot be read: No such file"),
    (("--run", "20260101T000000Z-c0ffee", "old.json"), "none.sqlite does not exist")])
def test_a_call_that_is_wrong_exits_with_2(edgeq, left, tmp_path, words, told):
    left("old.json", report({"a": count(1000)}))
    given = [str(tmp_path / word) if word.endswith(".json") else word for word in words]
    found = edgeq("compare", *given, "--history", tmp_path / "none.sqlite")
    assert found.returncode == 2
    assert told in found.stderr
    assert "Traceback" not in found.stderr


def test_hostile_names_reach_the_terminal_as_text(edgeq, left, tmp_path):
    content = report({"a": count(1)})
    content["results"][0]["model"] = "[red]\x1b]0;title\x07<b>"
    path = left("old.json", content)
    found = edgeq("compare", "--all", path, path)
    assert found.returncode == 0
    assert "\x1b]" not in found.stdout
    assert "[red]" in found.stdout


def test_a_branch_without_history_or_commits_is_told(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a").write_text("a", encoding="utf-8")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "a")
    history = str(tmp_path / "history.sqlite")
    record(history, histories.report(), histories.run(1))
    with pytest.raises(ConfigError, match="HEAD has no commit that main has not"):
        sides_of_branch(history, tmp_path, "main")
    git(tmp_path, "checkout", "-q", "-b", "work")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "b")
    with pytest.raises(ConfigError, match=r"the history has no run of .* the merge base with main"):
        sides_of_branch(history, tmp_path, "main")
    with pytest.raises(ConfigError, match="git rev-parse"):
        sides_of_branch(history, tmp_path, "nowhere")
    git(tmp_path, "checkout", "-q", "--orphan", "alone")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "c")
    with pytest.raises(ConfigError, match="HEAD and main have no commit in common"):
        sides_of_branch(history, tmp_path, "main")
    with pytest.raises(ConfigError, match="is no branch"):
        sides_of_branch(history, tmp_path, "--output=x")
    with pytest.raises(ConfigError, match="git"):
        sides_of_branch(history, tmp_path.parent, "main")


def test_of_a_report_the_key_that_is_missing_is_told():
    with pytest.raises(ConfigError, match=r"it: results\[0\].model is missing"):
        of_report({"results": [{}]}, "it")
