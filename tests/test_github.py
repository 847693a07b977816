"""What GitHub Actions is told of a build: annotations on lines of pipeline.yaml, and a step summary."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_report import CONFIG, DROP, SIZE, TOOL, Climbed, report, result, rung

from edgeq import github
from edgeq.errors import ConfigError, ToolError
from edgeq.gates import Gate
from edgeq.measurement import value_of

PIPELINE = """\
version: 1
models: {}
gates:
  - {metric: accuracy_drop, max: 0.01}
  - metric: model_bytes
    max: 100
"""
COMMAND = re.compile(r"::error (?P<properties>[^:]*)::(?P<message>.*)")
HOSTILE = "x | <script>alert(1)</script> [click](http://evil) ![i](x) **b** `c`\n::error::pwned\r@everyone"


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
    return tmp_path / "pipeline.yaml"


# Commands


def test_a_failed_gate_stands_on_its_line(pipeline, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pipeline.parent))
    failed = report(result(rung(drop=0.02)), result(rung(size=200), target="tflm"))
    drop, size = github.commands(failed, pipeline)
    assert drop == (
        "::error file=pipeline.yaml,line=4,title=edgeq%3A fashion/host::accuracy_drop is 0.02 (simulated, "
        "n 2000), wanted <= 0.01 (failed; static-int8)")
    assert size == (
        "::error file=pipeline.yaml,line=5,title=edgeq%3A fashion/tflm::model_bytes is 200 B (measured), "
        "wanted <= 100 B (failed; static-int8)")


def test_a_build_that_passed_has_nothing_to_annotate(pipeline):
    assert not [*github.commands(report(result(rung())), pipeline)]


def test_a_gate_whose_line_is_not_known_stands_on_the_file(pipeline):
    pipeline.write_text("gates: 7", encoding="utf-8")
    [line] = github.commands(report(result(rung(drop=0.5))), pipeline)
    assert f"file={pipeline}" in line
    assert "line=" not in line
    pipeline.unlink()
    assert len([*github.commands(report(result(rung(drop=0.5))), pipeline)]) == 1


def test_a_job_that_stopped_and_one_without_a_rung_are_annotated(pipeline):
    refused = Climbed("static-int8", {}, "refused", "no kernel for ERF")
    stopped, left = github.commands(report(result(error=TOOL), result(refused, target="tflm")), pipeline)
    assert stopped == "::error title=edgeq%3A fashion/host::broken%0Ainstall it"
    assert left == ("::error title=edgeq%3A fashion/tflm::no rung could be tried: "
                    "static-int8: no kernel for ERF")


def test_each_mistake_of_the_configuration_stands_on_its_line():
    error = ConfigError("a/pipeline.yaml:3: unknown key 'x'\na/pipeline.yaml:12: max: 0.1 %, or so", "see")
    assert [*github.mistakes(error)] == [
        "::error file=a/pipeline.yaml,line=3,title=edgeq::unknown key 'x'",
        "::error file=a/pipeline.yaml,line=12,title=edgeq::max: 0.1 %25, or so"]


def test_a_mistake_with_no_place_is_annotated_all_the_same():
    assert [*github.mistakes(CONFIG)] == ["::error title=edgeq::bad%0Amend it"]


def test_paths_outside_the_checkout_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "checkout"))
    assert github.placed(tmp_path / "checkout/sub/p.yaml") == "sub/p.yaml"
    assert github.placed(tmp_path / "elsewhere.yaml") == str(tmp_path / "elsewhere.yaml")
    monkeypatch.delenv("GITHUB_WORKSPACE")
    assert github.placed(Path("p.yaml")) == "p.yaml"


@pytest.mark.parametrize("text", [HOSTILE, "a%0Ab", "::stop-commands::x", "\n\n::set-env name=A::b"])
def test_nothing_that_is_said_begins_a_command_of_its_own(pipeline, text):
    for line in github.commands(report(result(error=ToolError(text, text))), pipeline):
        found = COMMAND.fullmatch(line)
        assert found, line
        said = found["message"].replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
        assert said == f"{text}\n{text}".strip()


def test_properties_end_neither_the_property_nor_the_command():
    line = github.command("m", title="a:b,c%d\ne", file="f,g:h.yaml", line=2)
    assert line == "::error file=f%2Cg%3Ah.yaml,line=2,title=a%3Ab%2Cc%25d%0Ae::m"


# The summary


def test_what_failed_stands_first():
    text = github.summary(report(result(rung()), result(rung(drop=0.5), target="tflm")))
    assert text.startswith("### edgeq: 1 of 2 jobs passed\n")
    first, second = (text.index(f"| model | target | {head} |") for head in ("recipe", "result"))
    assert first < second
    assert (r"| fashion | tflm | static\-int8 | accuracy\_drop &lt;= 0\.01 | 0\.5 \(simulated, n 2000\) "
            "| failed |") in text[first:second]
    assert text[second:].count("\n| fashion |") == 2


def test_a_build_that_passed_has_no_table_of_failures():
    text = github.summary(report(result(rung())))
    assert "| gate |" not in text
    assert r"| fashion | host | passed | static\-int8 | accuracy\_drop 0 \(simulated, n 2000\)" in text


def test_a_figure_that_is_estimated_says_about():
    found = {"cycles": value_of("cycles", 5000, "estimated")}
    gate = Gate("cycles", max=4000, allow=("estimated",))
    climbed = Climbed("static-int8", {}, "failed", "", found, (gate.judge(found),))
    assert r"about 5,000 \(estimated\)" in github.summary(report(result(climbed)))


def test_what_is_unavailable_says_so():
    lacking = Climbed("a", {}, "failed", verdicts=(DROP.judge({}),))
    assert "| unavailable |" in github.summary(report(result(lacking)))


def test_hostile_text_stays_in_its_cell():
    text = github.summary(report(replace(result(error=ToolError(HOSTILE, HOSTILE)), model=HOSTILE)))
    for line in text.splitlines():
        assert "<script" not in line
        assert not re.search(r"(?<!\\)[`*\[\]!]", line.replace("*about*", ""))
        assert "http:" not in line
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7, 6}


def test_a_summary_of_very_many_jobs_is_cut_to_what_github_takes():
    many = [replace(result(rung(drop=0.5)), model=f"model-{i:06}" + "x" * 60) for i in range(6000)]
    text = github.summary(report(*many))
    assert len(text.encode()) <= 1 << 20
    assert text.count("more: see report.html") == 2


def test_what_could_not_begin_is_summed_up_line_by_line():
    text = github.summary_of(ConfigError("p.yaml:3: <b>\np.yaml:4: *x*", "mend"))
    assert text.splitlines() == ["### edgeq: nothing was built", "", r"- p\.yaml\:3\: &lt;b&gt;",
                                 r"- p\.yaml\:4\: \*x\*", "", "mend"]


# The command line


def test_a_build_tells_github_what_failed(edgeq, edit, project, tmp_path):
    edit("pipeline.yaml", "max: 128KiB", "max: 1KiB")
    (tmp_path / "summary.md").write_text("before\n", encoding="utf-8")
    ended = edgeq("build", "--target", "host", "--github", env={
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_WORKSPACE": str(project)})
    assert ended.returncode == 1
    number = next(i for i, line in enumerate((project / "pipeline.yaml").read_text().splitlines(), 1)
                  if "model_bytes" in line)
    place = f"file=pipeline.yaml,line={number},title=edgeq%3A fashion/host"
    assert f"\n::error {place}::model_bytes" in ended.stdout
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("before\n### edgeq: 0 of 1 jobs passed\n")


def test_a_wrong_configuration_is_annotated_and_ends_with_2(edgeq, edit, tmp_path):
    edit("pipeline.yaml", "metric: cycles", "metric: cycels")
    ended = edgeq("build", "--github", env={"GITHUB_STEP_SUMMARY": str(tmp_path / "s.md")})
    assert ended.returncode == 2
    assert re.search(r"^::error file=pipeline.yaml,line=\d+,title=edgeq::nothing measures 'cycels'",
                     ended.stdout, re.MULTILINE)
    assert "nothing was built" in (tmp_path / "s.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("place", "told"), [
    ("", "GITHUB_STEP_SUMMARY is not set"), ("/nowhere/s.md", "the step summary cannot be written")])
def test_without_a_place_for_the_summary_annotations_still_come(edgeq, edit, place, told):
    edit("pipeline.yaml", "metric: cycles", "metric: cycels")
    ended = edgeq("build", "--github", env={"GITHUB_STEP_SUMMARY": place})
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "::error " in ended.stdout


def test_without_the_option_nothing_is_told(edgeq, edit, tmp_path):
    edit("pipeline.yaml", "metric: cycles", "metric: cycels")
    ended = edgeq("build", env={"GITHUB_STEP_SUMMARY": str(tmp_path / "s.md")})
    assert "::error" not in ended.stdout
    assert not (tmp_path / "s.md").exists()


def test_the_gates_of_the_file_are_those_that_were_judged(pipeline):
    assert github.lines_of_gates(pipeline) == [(DROP, 4), (SIZE, 5)]
