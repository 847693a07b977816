"""Gates on change: against a baseline that the repository keeps, from pipeline.yaml to the verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_comparing import count, git, identity, scored

from edgeq.decode import Document
from edgeq.errors import ConfigError
from edgeq.gates import Gate, Verdict, rank
from edgeq.limits import gate, with_baselines
from edgeq.measurement import unavailable
from edgeq.pipeline import load
from edgeq.plan import Chosen, plan
from edgeq.regressions import kept
from edgeq.regressions.change import Allowance
from edgeq.regressions.taken import Taken

TWO = Allowance(0.02)
POINT = Allowance(0.01, relative=False)


def judged(there: Taken | None, here: Taken, **asked: Any) -> Verdict:
    """The verdict of a gate on change, with `asked`, on the one metric of `here`."""
    metric = asked.pop("metric", "instructions")
    allowed = asked.pop("max_regression", TWO)
    held = Gate(metric, max_regression=allowed, baseline="main", against=there, **asked)
    return held.judge(here.metrics, here.identity)


@pytest.mark.parametrize(("new", "passed"), [(1000, True), (1020, True), (1021, False), (500, True)])
def test_a_figure_may_be_so_much_worse_and_no_more(new, passed):
    verdict = judged(count(1000), count(new))
    assert verdict.passed is passed
    assert verdict.reason == (None if passed else "failed")


def test_a_verdict_says_what_it_was_and_how_far_it_went():
    verdict = judged(count(1000), count(1050))
    assert verdict.explanation == "wanted at most 2 % worse than main, where it was 1,000, +5 %"
    assert verdict.change.absolute == 50


def test_both_the_limit_and_the_baseline_hold():
    assert judged(count(1000), count(1010), max=1005).reason == "failed"
    assert judged(count(1000), count(1010), max=2000).passed
    assert judged(count(1000), count(1050), max=2000).reason == "failed"


def test_what_cannot_be_compared_does_not_pass_and_is_named():
    verdict = judged(count(1000, base=identity("runner", "board", "other")), count(1000))
    assert (verdict.reason, verdict.passed) == ("incomparable", False)
    assert verdict.explanation == "runner's board: other there, mps2-an386 here"


def test_a_job_that_the_baseline_has_not_does_not_pass():
    verdict = judged(None, count(1000))
    assert verdict.reason == "incomparable"
    assert "`edgeq baseline set main`" in verdict.explanation


@pytest.mark.parametrize("none", [{}, {"instructions": unavailable("instructions", "the emulator is gone")}])
def test_a_figure_that_is_missing_on_either_side_does_not_pass(none):
    without = replace(count(1000), metrics=none)
    assert judged(without, count(1000)).reason == "incomparable"
    assert judged(count(1000), without).reason == "unavailable"
    assert not judged(without, without).passed


def test_without_an_identity_nothing_is_comparable():
    assert judged(count(1000), count(1000, base={})).reason == "incomparable"


def test_noise_is_no_regression_and_no_progress():
    assert judged(scored(10, 4), scored(16, 4), metric="accuracy", max_regression=Allowance()).passed
    verdict = judged(scored(10, 4), scored(60, 4), metric="accuracy", max_regression=Allowance())
    assert verdict.reason == "failed"


def test_with_a_confidence_the_whole_interval_must_be_allowed():
    there = scored(10, 4)
    sure = {"metric": "accuracy", "confidence": 0.95, "max_regression": POINT}
    assert judged(there, scored(12, 4), **sure).passed
    assert judged(there, scored(24, 4), **sure).reason == "inconclusive"  # 0.7 points, up to 1.3
    assert judged(there, scored(80, 4), **sure).reason == "failed"
    assert judged(there, scored(24, 4), metric="accuracy", max_regression=POINT).passed


def test_a_gate_judges_its_own_job():
    jobs = {("m", "a"): count(1), ("m", "b"): count(2)}
    held = Gate("instructions", max_regression=TWO, baseline="main", kept=jobs)
    assert held.of("m", "b").against == count(2)
    assert held.of("n", "b").against is None
    assert not held.of("m", "b").kept


def test_failures_rank_by_how_far_they_went():
    near, far = ([judged(count(1000), count(new))] for new in (1030, 1300))
    strange = [judged(None, count(1000))]
    assert rank(near) == (1, pytest.approx(0.01))
    assert rank(near) < rank(far) < rank(strange) == (1, 1.0)
    unsure = [judged(scored(10, 4), scored(24, 4), metric="accuracy", confidence=0.95, max_regression=POINT)]
    assert 0 < rank(unsure)[1] < 0.02


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 10**9), st.floats(0, 2))
def test_a_passed_gate_is_never_short_of_anything(old, new, allowed):
    verdict = judged(count(old), count(new), max_regression=Allowance(allowed))
    assert verdict.passed is (verdict.shortfall == 0)
    assert verdict.passed or new > old * (1 + allowed) * (1 - 1e-6)


@pytest.mark.parametrize(("metric", "allowed", "said"), [
    ("instructions", TWO, "at most 2 % worse than main"),
    ("instructions", Allowance(), "no worse than main"),
    ("accuracy", Allowance(0.005, relative=False), "at most 0.005 worse than main"),
    ("model_bytes", Allowance(1024, relative=False), "at most 1024 bytes worse than main"),
    ("instructions", Allowance(5000, relative=False), "at most 5000 worse than main")])
def test_a_limit_is_said_as_a_person_reads_it(metric, allowed, said):
    assert Gate(metric, max_regression=allowed, baseline="main").limits() == said


def test_all_limits_of_a_gate_are_said():
    held = Gate("instructions", max=10, max_regression=TWO, baseline="main")
    assert held.limits() == "<= 10 and at most 2 % worse than main"


# In pipeline.yaml


@pytest.fixture
def written(tmp_path: Path):
    """The gate that a line of pipeline.yaml means, and what is wrong with it; a baseline main is there."""
    place = kept.place_of(tmp_path, "main")
    place.parent.mkdir()
    place.write_text(kept.text({("m", "a"): count(1)}, "0.1.0"), encoding="utf-8")

    def read(text: str) -> tuple[tuple[Gate, ...], list[str]]:
        (tmp_path / "pipeline.yaml").write_text(f"gates:\n  - {text}\n", encoding="utf-8")
        document = Document(tmp_path / "pipeline.yaml")
        held = with_baselines(document, [gate(document, document.value["gates"][0], ("gates", 0), {})])
        return held, [line.partition("pipeline.yaml:")[2] for line in document.problems]

    return read


@pytest.mark.parametrize(("text", "allowed"), [
    ("{metric: instructions, max_regression: 2%}", TWO),
    ("{metric: instructions, max_regression: 2 %, baseline: main}", TWO),
    ("{metric: instructions, max_regression: 0}", Allowance(0, relative=False)),
    ("{metric: instructions, max_regression: 5k, max: 1M}", Allowance(5000, relative=False)),
    ("{metric: 'accuracy[night]', max_regression: 1 %}", POINT),
    ("{metric: model_bytes, max_regression: 1KiB}", Allowance(1024, relative=False))])
def test_a_gate_on_change_is_read(written, text, allowed):
    (held,), problems = written(text)
    assert not problems
    assert (held.max_regression, held.baseline) == (allowed, "main")
    assert held.kept["m", "a"] == count(1)


@pytest.mark.parametrize(("text", "problem"), [
    ("{metric: instructions, max: 3, baseline: main}", "2: baseline: how much worse"),
    ("{metric: instructions, max_regression: two}", "2: max_regression: 'two' is not a number"),
    ("{metric: instructions, max_regression: -1%}", "2: max_regression: at least 0"),
    ("{metric: accuracy, max_regression: 2}", "2: max_regression: accuracy goes from 0 to 1"),
    ("{metric: sqnr_db, max_regression: 2%}", "2: max_regression: a share of decibels"),
    ("{metric: cached_bytes, max_regression: 2%}", "2: max_regression: cached_bytes is better neither way"),
    ("{metric: instructions, max_regression: 2%, baseline: nightly}", "2: baseline: there is no baseline"),
    ("{metric: instructions, max_regression: 2%, baseline: ../main}", "2: baseline: '../main' is no name"),
    ("{metric: instructions}", "2: the gate on instructions has neither min nor max, nor max_regression"),
    ("{metric: instructions, max_regression: 2%, confidence: 0.9}", "2: confidence: instructions has no"),
    ("{metric: instructions, max_regresion: 2%}", "2: unknown key 'max_regresion'; did you mean"),
    ("{metric: instructions, max_regression: [2%]}", "2: gates.0.max_regression: expected")])
def test_a_mistake_is_told_with_its_line(written, text, problem):
    _, problems = written(text)
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_missing_baseline_says_which_command_makes_it(written):
    _, problems = written("{metric: instructions, max_regression: 2%, baseline: nightly}")
    assert "`edgeq baseline set nightly` makes it" in problems[0]


def test_a_damaged_baseline_is_told_with_the_line_of_the_gate_and_the_key(written, tmp_path):
    place = kept.place_of(tmp_path, "main")
    damaged = place.read_text(encoding="utf-8").replace('"value": 1.0', '"value": "x"')
    place.write_text(damaged, encoding="utf-8")
    _, problems = written("{metric: instructions, max_regression: 2%}")
    assert "main.json: jobs.m.a.metrics.instructions.value is damaged" in problems[0]


def test_a_plan_gives_each_job_its_own_figures(project, edit):
    edit("pipeline.yaml", "- {metric: accuracy_drop, max: 0.01}", "- {metric: accuracy, max_regression: 1 %}")
    with pytest.raises(ConfigError, match=r"pipeline.yaml:\d+: baseline: there is no baseline"):
        load(project / "pipeline.yaml")
    place = kept.place_of(project, "main")
    place.parent.mkdir()
    place.write_text(kept.text({("fashion", "host"): scored(1, 2)}, "0.1.0"), encoding="utf-8")
    jobs = plan(load(project / "pipeline.yaml"), Chosen(targets=["host", "tflm"]))
    assert [job.gates[0].against for job in jobs] == [scored(1, 2), None]


# Whole builds


def test_from_a_build_to_a_baseline_to_a_regression(edgeq, edit, project):
    build = ("build", "--target", "host", "--target", "tflm")
    assert edgeq(*build).returncode == 0
    said = edgeq("baseline", "set")
    assert said.returncode == 0, said.stderr
    assert "2 jobs set, 0 others as they were" in said.stdout
    place = project / "baselines/main.json"
    first = place.read_bytes()
    edit("pipeline.yaml", "  - {metric: model_bytes, max: 128KiB}",
         "  - {metric: model_bytes, max: 128KiB, max_regression: 2 %}\n"
         "  - {metric: accuracy, max_regression: 0.5 %, baseline: main}")
    passed = edgeq(*build)
    assert passed.returncode == 0, passed.stdout
    assert "at most 2 % worse than main" in passed.stdout
    assert edgeq("compare", "baselines/main.json").returncode == 0
    assert edgeq("baseline", "set").returncode == 0
    assert place.read_bytes() == first  # nothing changed, so nothing does
    report = json.loads((project / "build/report.json").read_text(encoding="utf-8"))
    side = kept.read(place)
    assert {side.jobs["fashion", each["target"]].identity == each["identity"]
            for each in report["results"]} == {True}

    content = json.loads(first)
    content["jobs"]["fashion"]["host"]["metrics"]["model_bytes"]["value"] = 60000
    content["jobs"]["fashion"]["tflm"]["identity"]["tools"]["litert-quantizer"] = "0.9.0"
    place.write_text(json.dumps(content), encoding="utf-8")
    assert edgeq(*build).returncode == 1
    results = {each["target"]: each for each in
               json.loads((project / "build/report.json").read_text(encoding="utf-8"))["results"]}
    failed = {name: [(each["metric"], each["reason"]) for each in result["verdicts"] if not each["passed"]]
              for name, result in results.items()}
    assert failed == {"host": [("model_bytes", "failed")],
                      "tflm": [("model_bytes", "incomparable"), ("accuracy", "incomparable")]}
    verdict = next(each for each in results["host"]["verdicts"] if each["metric"] == "model_bytes")
    assert (verdict["max"], verdict["max_regression"], verdict["relative"]) == (131072, 0.02, True)
    assert verdict["baseline"] == {"name": "main", "value": 60000, "commit": None}
    assert verdict["change"]["absolute"] == results["host"]["metrics"]["model_bytes"]["value"] - 60000
    junit = (project / "build/report.junit.xml").read_text(encoding="utf-8")
    assert "litert-quantizer: 0.9.0 there" in junit

    refused = edgeq("baseline", "set")
    assert refused.returncode == 2
    assert "fashion/host: model_bytes is" in refused.stderr
    assert "tflm" not in refused.stderr  # whose baseline only does not fit
    assert edgeq("baseline", "set", "--target", "tflm").returncode == 0
    assert edgeq("baseline", "set", "--force").returncode == 0
    assert place.read_bytes() == first
    shown = edgeq("baseline", "show", "--target", "host")
    assert "model_bytes" in shown.stdout
    assert "tflm" not in shown.stdout
    missing = edgeq("baseline", "show", "--target", "nowhere")
    assert (missing.returncode, "it has: fashion/host" in missing.stderr) == (2, True)
    empty = edgeq("compare", "baselines/main.json", "--max-regression", "accuracy=")
    assert (empty.returncode, "says no amount" in empty.stderr) == (2, True)


def test_history_gives_the_sides_of_a_comparison(edgeq, project, tmp_path):
    history = tmp_path / "history.sqlite"
    runs = []
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "pipeline.yaml")
    for branch in ("main", "work"):
        git(project, "commit", "-q", "--allow-empty", "-m", branch)
        assert edgeq("build", "--target", "host", "--measure", "--history", history).returncode == 0
        runs.append(json.loads((project / "build/run.json").read_text(encoding="utf-8"))["id"])
        git(project, "checkout", "-q", "-B", "work")
    found = edgeq("compare", "--run", runs[0], "--run", runs[1], "--history", history, "--json",
                  "--max-regression", "latency_ms=10s")
    assert found.returncode == 0, found.stderr
    rows = {row["metric"]: row for row in json.loads(found.stdout)["changes"]}
    latency = rows.pop("latency_ms")
    assert {row["verdict"] for row in rows.values()} == {"same"}
    low, high = latency["old"]["interval"]
    assert low <= latency["old"]["value"] <= high
    assert latency["old"]["n"] >= 100
    assert latency["old"]["aggregation"] == "median of 10 inputs' least"
    assert "repeats" in latency["noise"]
    branch = edgeq("compare", "--branch", "--history", history, "--max-regression", "latency_ms=10s")
    assert branch.returncode == 0, branch.stderr
    assert "the merge base with main, " in branch.stdout
