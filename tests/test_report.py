"""What a build leaves behind: the choice of the best rung, report.json, JUnit XML, and the files."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import LADDER
from junitparser import Error, Failure, JUnitXml
from rich.console import Console

from edgeq import flow
from edgeq.artifact import Artifact
from edgeq.console import remarks, verdicts
from edgeq.deliver import deliver, ready, write
from edgeq.errors import ConfigError, EdgeqError, NotMade, Refused, ToolError
from edgeq.gates import Gate
from edgeq.junit import junit
from edgeq.measurement import value_of
from edgeq.pipeline import load
from edgeq.plan import Chosen, plan
from edgeq.program import NOTICE, SHIP
from edgeq.quantization import note, notes_in
from edgeq.recipes import RECIPES
from edgeq.recipes.float32 import Float32
from edgeq.report import Climbed, Report, Result, as_json
from edgeq.run import Run
from edgeq.store import Store, fill

DROP = Gate("accuracy_drop", max=0.01)
SIZE = Gate("model_bytes", max=100)
CYCLES = Gate("cycles", max=1000)
RUN = Run("20261122T022031Z-00c0ffee", "2026-11-22T02:20:31Z", 1.5, "demo", "0" * 40, "main", dirty=False)
CONFIG, TOOL = ConfigError("bad", "mend it"), ToolError("broken", "install it")


def rung(recipe: str = "static-int8", *, drop: float = 0.0, size: float = 100, cycles: float | None = None,
         made: Mapping[str, Artifact] | None = None, notice: str = "") -> Climbed:
    """A rung that came as far as its gates, which are DROP and SIZE, and CYCLES where they are given."""
    found = {"accuracy_drop": value_of("accuracy_drop", drop, "simulated", n=2000),
             "model_bytes": value_of("model_bytes", size, "measured")}
    gates = [DROP, SIZE]
    if cycles is not None:
        found["cycles"] = value_of("cycles", cycles, "simulated")
        gates.append(CYCLES)
    verdicts = tuple(gate.judge(found) for gate in gates)
    state = "passed" if all(verdict.passed for verdict in verdicts) else "failed"
    return Climbed(recipe, {}, state, "", found, verdicts, made or {}, notice)


def result(*rungs: Climbed, target: str = "host", error: EdgeqError | None = None) -> Result:
    return Result("fashion", target, "evaluation.npz", rungs, error)


def report(*results: Result) -> Report:
    return Report(results, "0.1.0", {"machine": "x86_64"}, {"numpy": "2.4"}, RUN)


def parsed(text: str) -> Any:
    """JSON as its standard has it: NaN and Infinity are errors."""
    return json.loads(text, parse_constant=pytest.fail)


def test_the_table_counts_the_samples_of_the_scores_and_tells_the_energy():
    made = rung()
    live = {"accuracy": value_of("accuracy", 0.9, "simulated", n=2000),
            "latency_ms": value_of("latency_ms", 0.07, "measured", n=7770),
            "energy_uj": value_of("energy_uj", 1092, "estimated")}
    terminal = Console(width=150, file=io.StringIO())
    terminal.print(verdicts(report(result(replace(made, metrics={**made.metrics, **live})))))
    shown = terminal.file.getvalue()
    assert "energy about 1092 uJ" in shown
    assert "n 2000" in shown
    assert "7770" not in shown


# The best rung


def test_the_rung_that_passed_is_the_best():
    assert result(rung("a", drop=0.5), rung("b")).best.recipe == "b"


def test_fewer_failed_gates_are_better_however_great_the_miss():
    one, two = rung("one", drop=0.9), rung("two", drop=0.011, size=101)
    assert result(two, one).best is one


def test_of_as_many_failed_gates_the_least_summed_relative_shortfall_is_better():
    # 0.015 misses 0.01 by half of it; 120 bytes miss 100 by a fifth.
    assert result(rung("half", drop=0.015), rung("fifth", size=120)).best.recipe == "fifth"
    # 0.5 + 0.2 against 0.1 + 0.4
    assert result(rung("a", drop=0.015, size=120), rung("b", drop=0.011, size=140)).best.recipe == "b"


def test_of_equals_the_earlier_is_better():
    assert result(rung("first", size=150), rung("second", size=150)).best.recipe == "first"


def test_an_unavailable_metric_counts_as_a_whole_limit():
    lacking = Climbed("lacking", {}, "failed", verdicts=(
        DROP.judge({}), SIZE.judge({"model_bytes": value_of("model_bytes", 1, "measured")})))
    assert result(lacking, rung("far", drop=0.03)).best.recipe == "lacking"   # 1 against 2
    assert result(lacking, rung("near", drop=0.015)).best.recipe == "near"    # 1 against 0.5


def test_rungs_that_were_not_judged_are_never_the_best():
    others = [Climbed("a", {}, "skipped"), Climbed("b", {}, "refused"), Climbed("c", {}, "error")]
    assert result(*others).best is None
    assert result(*others, rung("d", drop=0.5)).best.recipe == "d"


# Exit codes


@pytest.mark.parametrize(("results", "code"), [
    ([result(rung())], 0),
    ([result(rung()), result(rung(drop=0.5))], 1),
    ([result(Climbed("a", {}, "refused"))], 1),
    ([result(Climbed("a", {}, "skipped"))], 1),
    ([result(error=Refused("no kernel"))], 1),
    ([result(rung()), result(rung(drop=0.5)), result(error=TOOL)], 3),
    ([result(rung(drop=0.5), error=NotMade("frozen"))], 3),
    ([result(error=TOOL), result(error=CONFIG), result(rung())], 2),
])
def test_the_exit_code_is_the_highest_of_2_3_1_0(results, code):
    assert report(*results).exit_code == code
    assert report(*results).passed is (code == 0)


# report.json


def test_a_report_has_the_fields_of_its_contract():
    files = {("host", "fashion"): [{"path": "host/fashion/model.tflite", "bytes": 1, "sha256": "0"}]}
    written = parsed(json.dumps(as_json(report(result(rung())), files)))
    assert written["schema"] == "edgeq-report/1"
    assert written["edgeq"] == "0.1.0"
    assert written["passed"] is True
    assert (written["host"], written["tools"]) == ({"machine": "x86_64"}, {"numpy": "2.4"})
    [found] = written["results"]
    assert (found["model"], found["target"], found["passed"]) == ("fashion", "host", True)
    assert (found["recipe"], found["error"], found["evaluation"]) == ("static-int8", None, "evaluation.npz")
    assert found["metrics"]["accuracy_drop"] == {
        "value": 0.0, "unit": "ratio", "source": "simulated", "n": 2000}
    assert found["artifacts"] == files["host", "fashion"]
    assert [each["state"] for each in found["rungs"]] == ["passed"]


def test_a_verdict_has_its_limit_value_and_reason():
    [found] = as_json(report(result(rung(drop=0.02))), {})["results"]
    drop, size = found["verdicts"]
    assert drop == {"metric": "accuracy_drop", "max": 0.01, "value": 0.02, "source": "simulated",
                    "passed": False, "reason": "failed", "explanation": "wanted <= 0.01"}
    assert (size["passed"], size["reason"], size["explanation"]) == (True, None, None)


def test_an_error_has_its_kind_message_and_hint():
    written = as_json(report(result(error=CONFIG), result(error=TOOL)), {})["results"]
    assert [each["error"] for each in written] == [
        {"kind": "config", "message": "bad", "hint": "mend it"},
        {"kind": "tool", "message": "broken", "hint": "install it"}]
    assert [each["recipe"] for each in written] == [None, None]


def test_every_rung_tried_is_listed_with_what_it_came_to():
    rungs = [Climbed("float32", {}, "skipped", "the target takes int8"),
             Climbed("static-int8", {"granularity": "per_tensor"}, "refused", "no kernel"),
             rung("static-int16x8")]
    [found] = as_json(report(result(*rungs)), {})["results"]
    assert [(each["recipe"], each["state"], each["reason"]) for each in found["rungs"]] == [
        ("float32", "skipped", "the target takes int8"), ("static-int8", "refused", "no kernel"),
        ("static-int16x8", "passed", None)]
    assert found["rungs"][1]["options"] == {"granularity": "per_tensor"}


def test_results_come_in_the_order_of_the_plan():
    targets = ["tflm", "host", "edgetpu"]
    written = as_json(report(*(result(rung(), target=target) for target in targets)), {})
    assert [each["target"] for each in written["results"]] == targets


def test_nan_never_comes_into_a_report():
    text = json.dumps(as_json(report(result(rung(cycles=float("nan")))), {}), allow_nan=False)
    [found] = parsed(text)["results"]
    assert found["metrics"]["cycles"]["value"] is None
    assert found["verdicts"][2]["reason"] == "unavailable"


# Notes and details


def test_a_rung_has_its_notes_in_the_report():
    noted = replace(rung(), notes=("no chain can be equalized", "two were tried"))
    [found] = as_json(report(result(rung(), noted)), {})["results"]
    assert [each["notes"] for each in found["rungs"]] == [
        [], ["no chain can be equalized", "two were tried"]]


def test_what_is_remarked_of_a_rung_names_it_with_its_options():
    noted = replace(rung("selective-int8", drop=0.5), options={"keep": 2}, notes=("[kept] 3 and 5",))
    unjudged = Climbed("later", {}, "error", "broken", notes=("never said",))
    said = list(remarks(report(result(noted, rung(), unjudged))))
    assert said == ["fashion/host selective-int8 {keep: 2}: [kept] 3 and 5", "1 of 1 jobs passed"]


def test_a_recipe_may_note_nothing_or_several_times(tmp_path):
    assert notes_in(tmp_path) == ()
    note(tmp_path, "the first", "and the second")
    note(tmp_path, "a third: ≤ 5")
    assert notes_in(tmp_path) == ("the first", "and the second", "a third: ≤ 5")


@dataclass(frozen=True)
class Telling:
    """The recipe float32, which says so, briefly and at length."""

    precision: ClassVar = "float32"
    inputs: ClassVar = ("baseline",)
    said: str = "nothing was quantized"

    def quantize(self, out: Path, baseline: Path) -> None:
        Float32().quantize(out, baseline)
        note(out, self.said)
        (out / "details").mkdir()
        (out / "details/told.json").write_text(json.dumps({"layers": [self.said]}))
        (out / "details/scratch.bin").write_bytes(b"for nobody")


def test_what_a_recipe_says_comes_through_a_whole_build(store, monkeypatch, edit, project, out):
    monkeypatch.setitem(RECIPES, ("tflite", "telling"), Telling)
    edit("pipeline.yaml", "[static-int8]", "[telling]")
    jobs = plan(load(project / "pipeline.yaml"), Chosen(targets=["host"]))
    results = flow.build(jobs, flow.Bench(store, lambda *_: {}, lambda *_: None))
    written = deliver(report(*results), store, out)["results"][0]
    assert written["rungs"][0]["notes"] == ["nothing was quantized"]
    folder = "host/fashion" if written["passed"] else "failed/host/fashion"
    assert f"{folder}/details/told.json" in {file["path"] for file in written["artifacts"]}
    assert parsed((out / folder / "details/told.json").read_text()) == {"layers": ["nothing was quantized"]}
    assert {file["path"].removeprefix(f"{folder}/") for file in written["artifacts"]} == {
        "details/layers.json", "details/told.json", "manifest.json", "model.json", "model.tflite"}


# JUnit XML


def suites(*results: Result) -> dict[str, Any]:
    """The suites that a JUnit reader finds, by name."""
    return {suite.name: suite for suite in JUnitXml.fromstring(junit(report(*results)).encode())}


def test_junit_has_a_suite_a_target_and_a_case_a_gate():
    found = suites(result(rung(), target="host"), result(rung(drop=0.5), target="tflm"))
    assert list(found) == ["host", "tflm"]
    assert [case.name for case in found["host"]] == ["accuracy_drop <= 0.01", "model_bytes <= 100 B"]
    assert {case.classname for case in found["tflm"]} == {"fashion.tflm"}
    assert (found["host"].failures, found["tflm"].tests, found["tflm"].failures) == (0, 2, 1)


def test_junit_tells_a_gate_that_failed_with_value_and_limit():
    drop, size = suites(result(rung(drop=0.5)))["host"]
    [failure] = drop.result
    assert isinstance(failure, Failure)
    assert failure.message == "0.5 (simulated, n 2000): wanted <= 0.01"
    assert not size.result


def test_junit_tells_a_job_that_stopped_as_an_error():
    found = suites(result(error=TOOL))["host"]
    [[error]] = [case.result for case in found]
    assert isinstance(error, Error)
    assert (error.message, error.type, found.errors) == ("broken", "tool", 1)


def test_junit_keeps_the_verdicts_of_a_job_that_stopped_later():
    found = suites(result(rung(drop=0.5), error=TOOL))["host"]
    assert (found.tests, found.failures, found.errors) == (3, 1, 1)


def test_junit_tells_a_job_that_no_rung_was_tried_for_as_a_failure():
    [case] = suites(result(Climbed("static-int8", {}, "refused", "no kernel for ERF")))["host"]
    assert "static-int8: no kernel for ERF" in case.result[0].message


def test_junit_can_be_read_whatever_a_tool_said():
    said = "\x1b[31mboom\x00 <&> «ß»"
    [case] = suites(result(error=ToolError(said)))["host"]
    assert "boom" in case.result[0].message
    assert "<&> «ß»" in case.result[0].message


# The files


@dataclass(frozen=True)
class Maker:
    """Leaves a program with `text` to ship, and `notice` where it is not empty."""

    text: str = "model"
    notice: str = ""

    def compile(self, out: Path) -> None:
        """Write the program."""
        (out / SHIP / "parts").mkdir(parents=True)
        (out / SHIP / "model.tflite").write_text(self.text)
        (out / SHIP / "parts/labels.txt").write_text("a\nb\n")
        if self.notice:
            (out / NOTICE).write_text(self.notice)


@pytest.fixture
def shop(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", functools.partial(fill, tmp_path / "store"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    ready(tmp_path / "out")
    return tmp_path / "out"


def passing(store: Store, target: str = "host", maker: Maker = Maker()) -> Result:
    return result(rung(made={"program": store.make(maker.compile)}, notice=maker.notice), target=target)


def failing(store: Store, target: str = "host") -> Result:
    return result(rung(drop=0.5, made={"program": store.make(Maker("worse").compile)}), target=target)


def left_in(out: Path) -> set[str]:
    """The files below `out`, reports apart."""
    return {file.relative_to(out).as_posix() for file in out.rglob("*")
            if file.is_file() and not file.name.startswith(("report.", "run.", "sbom."))}


def test_what_passed_lies_under_its_target_and_model(shop, out):
    deliver(report(passing(shop)), shop, out)
    assert left_in(out) == {"host/fashion/model.tflite", "host/fashion/parts/labels.txt",
                            "host/fashion/manifest.json"}


def test_the_best_of_what_failed_lies_under_failed(shop, out):
    deliver(report(failing(shop)), shop, out)
    assert (out / "failed/host/fashion/model.tflite").read_text() == "worse"
    assert not (out / "host").exists()


def test_a_new_failure_removes_the_old_pass(shop, out):
    deliver(report(passing(shop)), shop, out)
    deliver(report(failing(shop)), shop, out)
    assert not (out / "host").exists()
    assert (out / "failed/host/fashion/manifest.json").is_file()


def test_a_new_pass_removes_the_old_failure(shop, out):
    deliver(report(failing(shop)), shop, out)
    deliver(report(passing(shop)), shop, out)
    assert not (out / "failed").exists()
    assert (out / "host/fashion/model.tflite").read_text() == "model"


@pytest.mark.parametrize("before", [passing, failing])
def test_an_error_that_leaves_nothing_removes_what_was_there(shop, out, before):
    deliver(report(before(shop)), shop, out)
    deliver(report(result(error=TOOL)), shop, out)
    assert left_in(out) == set()


def test_a_new_pass_leaves_nothing_of_the_old_one(shop, out):
    deliver(report(passing(shop)), shop, out)
    (out / "host/fashion/stale.bin").write_text("old")
    deliver(report(passing(shop)), shop, out)
    assert "host/fashion/stale.bin" not in left_in(out)


def test_what_another_build_left_for_another_target_stays(shop, out):
    deliver(report(passing(shop, "host"), failing(shop, "tflm")), shop, out)
    deliver(report(passing(shop, "tflm")), shop, out)
    assert (out / "host/fashion/model.tflite").is_file()
    assert (out / "tflm/fashion/model.tflite").is_file()


def test_no_draft_stays_behind(shop, out):
    deliver(report(passing(shop), failing(shop, "tflm")), shop, out)
    assert not [file.name for file in out.rglob("*") if file.name.startswith(".")]


def test_every_artifact_is_listed_with_its_place_size_and_sha256(shop, out):
    written = deliver(report(passing(shop), failing(shop, "tflm")), shop, out)
    listed = [file for each in written["results"] for file in each["artifacts"]]
    assert {file["path"] for file in listed} == left_in(out)
    for file in listed:
        content = (out / file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_what_is_returned_is_what_report_json_holds(shop, out):
    written = deliver(report(passing(shop)), shop, out)
    assert parsed((out / "report.json").read_text(encoding="utf-8")) == written
    assert [suite.name for suite in JUnitXml.fromfile(str(out / "report.junit.xml"))] == ["host"]


def test_a_manifest_says_who_made_the_files_and_from_what(shop, out):
    deliver(report(passing(shop)), shop, out)
    manifest = parsed((out / "host/fashion/manifest.json").read_text(encoding="utf-8"))
    asked = manifest["predicate"]["buildDefinition"]["externalParameters"]
    assert (asked["model"], asked["target"], asked["recipe"]) == ("fashion", "host", "static-int8")
    assert manifest["predicate"]["runDetails"]["byproducts"] == [
        {"name": "program", "digest": {"edgeqTree": shop.make(Maker().compile).digest}}]
    assert [file["name"] for file in manifest["subject"]] == ["model.tflite", "parts/labels.txt"]
    assert manifest["subject"][0]["digest"] == {"sha256": hashlib.sha256(b"model").hexdigest()}


def test_a_manifest_is_the_same_at_any_time_and_place(shop, out, tmp_path):
    elsewhere = Store(tmp_path / "second store", functools.partial(fill, tmp_path / "second store"))
    ready(tmp_path / "second")
    deliver(report(passing(shop)), shop, out)
    deliver(report(passing(elsewhere)), elsewhere, tmp_path / "second")
    first, second = (place / "host/fashion/manifest.json" for place in (out, tmp_path / "second"))
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path) not in first.read_text(encoding="utf-8")


def test_what_is_not_compiled_says_so_beside_the_files(shop, out):
    written = deliver(report(passing(shop, maker=Maker(notice="not compiled: no compiler"))), shop, out)
    assert (out / "host/fashion" / NOTICE).read_text(encoding="utf-8") == "not compiled: no compiler"
    manifest = parsed((out / "host/fashion/manifest.json").read_text(encoding="utf-8"))
    assert manifest["predicate"]["buildDefinition"]["internalParameters"]["compiled"] is False
    assert written["results"][0]["notice"] == "not compiled: no compiler"


# Where it cannot be written


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A place below a file, where nobody can make a folder."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file/build"


def test_an_output_folder_that_cannot_be_is_told_beforehand(nowhere):
    with pytest.raises(ConfigError, match=r"output folder .*file/build cannot be written") as error:
        ready(nowhere)
    assert "--output-dir" in error.value.hint


def test_a_file_that_cannot_be_written_is_told(nowhere, tmp_path):
    for place in (nowhere / "r.json", tmp_path, Path()):
        with pytest.raises(ConfigError, match="cannot be written"):
            write(place, "{}")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_report_replaces_the_old_one_whole(tmp_path):
    write(tmp_path / "r.json", "old and long")
    write(tmp_path / "r.json", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "new"


def test_a_report_written_through_a_link_leaves_the_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "r.json")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "r.json").read_text() == "new"


def test_a_report_goes_into_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        write(tmp_path / "pipe", "through")
        assert reader.communicate()[0] == "through"
    assert (tmp_path / "pipe").is_fifo()


def test_a_build_with_no_place_for_its_results_ends_with_2_and_makes_nothing(edgeq, nowhere, tmp_path):
    ended = edgeq("build", "--output-dir", nowhere, "--store", tmp_path / "fresh")
    assert ended.returncode == 2
    assert "cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "fresh").exists()


# Whole builds


def test_a_build_leaves_its_report_and_the_next_one_replaces_it(edgeq, edit, project):
    words = ("build", "--target", "host", "--target", "edgetpu", "--json", "r.json", "--junit", "j.xml")
    ended = edgeq(*words)
    assert ended.returncode == 0, ended.stderr
    text = (project / "build/report.json").read_text(encoding="utf-8")
    assert (project / "r.json").read_text(encoding="utf-8") == text
    assert (project / "j.xml").read_bytes() == (project / "build/report.junit.xml").read_bytes()
    host, edgetpu = parsed(text)["results"]
    assert (host["target"], edgetpu["target"]) == ("host", "edgetpu")
    assert host["metrics"]["accuracy"].items() >= {"unit": "ratio", "source": "simulated", "n": 2000}.items()
    assert all({"value", "unit", "source"} <= metric.keys() for metric in host["metrics"].values())
    assert (project / "build/host/fashion/model.tflite").is_file()

    edit("pipeline.yaml", "max: 128KiB", "max: 1KiB")
    ended = edgeq(*words, "--frozen")
    assert ended.returncode == 1
    assert not (project / "build/host").exists()
    assert (project / "build/failed/host/fashion/model.tflite").is_file()
    assert [suite.failures for suite in JUnitXml.fromfile(str(project / "build/report.junit.xml"))] == [1, 1]

    edit("pipeline.yaml", "max: 1KiB", "max: 128KiB")
    assert edgeq(*words, "--frozen").returncode == 0
    assert not (project / "build/failed").exists()
    assert (project / "build/report.json").read_text(encoding="utf-8") == text


def test_a_frozen_build_of_what_is_not_there_ends_with_3_and_a_report(edgeq, edit, project, tmp_path):
    edit("pipeline.yaml", LADDER, "ladder: [float32, static-int8]")
    ended = edgeq("build", "--target", "edgetpu", "--frozen", "--store", tmp_path / "empty")
    assert ended.returncode == 3
    assert "Traceback" not in ended.stdout + ended.stderr
    [found] = parsed((project / "build/report.json").read_text(encoding="utf-8"))["results"]
    assert (found["passed"], found["error"]["kind"]) == (False, "tool")
    assert "without --frozen" in found["error"]["hint"]
    assert [each["state"] for each in found["rungs"]] == ["skipped", "error"]
    assert not (tmp_path / "empty").exists()
