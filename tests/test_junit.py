"""The JUnit XML of a build: valid by the format that viewers document, whatever a tool or a model said."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_report import CONFIG, TOOL, Climbed, report, result, rung

from edgeq.errors import ToolError
from edgeq.junit import junit

SCHEMA = Path(__file__).parent / "junit.rnc"
HOSTILE = "<a href='x'>&amp;\x00\x1b[31m\u2028]]>\ufffe \U0001f600 \ud800"


def parsed(*results: Any) -> ET.Element:
    """The document, as a parser of XML that knows nothing of JUnit reads it."""
    return ET.fromstring(junit(report(*results)).encode("utf-8", "replace"))


def see_valid(folder: Path, *texts: str) -> None:
    """See that jing finds nothing wrong with the documents `texts`."""
    files = [folder / f"{i}.xml" for i in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    done = subprocess.run(["jing", "-c", SCHEMA, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_reports_of_every_kind_are_valid(tmp_path):
    refused = Climbed("static-int8", {}, "refused", "no kernel for ERF")
    see_valid(tmp_path, *(junit(report(*results)) for results in (
        [], [result()], [result(rung())], [result(rung(drop=0.5), error=TOOL), result(error=CONFIG)],
        [result(refused)], [result(rung(cycles=float("nan")), target="tflm"), result(rung())],
        [result(error=ToolError(HOSTILE.replace("\ud800", ""), "<hint>"))])))


def test_the_schema_finds_what_is_wrong(tmp_path):
    text = junit(report(result(rung())))
    for old, new in (("testcase name", "testcase title"), ("tests=\"2\"", "tests=\"two\""),
                     ("<properties>", "<properties><secret />"), ("<system-out>", "<stdout>")):
        assert old in text
        file = tmp_path / "wrong.xml"
        file.write_text(text.replace(old, new).replace("</system-out>", f"</{new[1:]}"
                        if new == "<stdout>" else "</system-out>"), encoding="utf-8")
        done = subprocess.run(["jing", "-c", SCHEMA, file], capture_output=True, text=True, check=False)
        assert done.returncode == 1, (old, done.stdout)


def test_a_case_says_its_figure_with_unit_source_and_n():
    root = parsed(result(rung(drop=0.02, size=2048)))
    said = {case.get("name"): case.findtext("system-out") for case in root.iter("testcase")}
    assert said == {"accuracy_drop <= 0.01": "static-int8: accuracy_drop 0.02 (simulated, n 2000)",
                    "model_bytes <= 100 B": "static-int8: model_bytes 2.0 KiB (measured)"}


def test_a_suite_says_by_what_it_was_built_and_the_recipe_of_each_model():
    root = parsed(result(rung()), result(error=TOOL, target="tflm"))
    properties = [{each.get("name"): each.get("value") for each in suite.iter("property")} for suite in root]
    assert properties == [{"edgeq": "0.1.0", "fashion recipe": "static-int8"},
                          {"edgeq": "0.1.0", "fashion recipe": "none"}]


def test_the_counts_are_those_of_the_cases():
    root = parsed(result(rung(drop=0.5)), result(error=TOOL), result(rung(), target="tflm"))
    assert [[suite.get(count) for count in ("tests", "failures", "errors")] for suite in root] == [
        ["3", "1", "1"], ["2", "0", "0"]]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "1", "1")


def test_an_error_comes_with_what_to_do():
    [case] = parsed(result(error=TOOL)).iter("testcase")
    error = case.find("error")
    assert error is not None
    assert (error.get("message"), error.get("type"), case.findtext("system-out")) == (
        "broken", "tool", "install it")


def test_nothing_in_it_changes_from_run_to_run():
    text = junit(report(result(rung())))
    assert text == junit(report(result(rung())))
    assert {case.get("time") for case in parsed(result(rung())).iter("testcase")} == {"0.0"}
    assert "2026" not in text


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(), st.text())
def test_whatever_is_said_can_be_parsed(message, hint):
    [case] = parsed(result(error=ToolError(message, hint))).iter("testcase")
    assert case.find("error") is not None


@pytest.mark.parametrize("said", [HOSTILE, "\ud800", "]]>", "\x7f\x85", "\ufffe\uffff"])
def test_hostile_text_makes_no_element_of_its_own(said):
    root = parsed(result(error=ToolError(said)))
    assert {each.tag for each in root.iter()} <= {
        "testsuites", "testsuite", "properties", "property", "testcase", "error", "system-out"}
