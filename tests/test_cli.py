"""The command line as a contract: what each command prints and how it exits; never is there a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import LADDER

from edgeq import __version__

HOST = ("--target", "host")
Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def run(edgeq: Run) -> Iterator[Run]:
    """Run `edgeq WORDS…` in the demo project, and see that it shows no traceback."""
    def ran(*words: str | Path, **how: object) -> subprocess.CompletedProcess:
        done = edgeq(*words, **how)
        assert "Traceback" not in done.stdout + done.stderr
        assert "edgeq itself failed" not in done.stderr
        return done

    return ran


@pytest.fixture
def model(run: Run, project: Path) -> Path:
    """The demo's quantized model."""
    assert run("build", *HOST).returncode == 0
    return project / "build/host/fashion/model.tflite"


# build


def test_results_go_to_stdout_and_progress_to_stderr(run: Run) -> None:
    done = run("build", *HOST)
    assert done.returncode == 0
    assert "1 of 1 jobs passed" in done.stdout
    for word in ("fashion", "host", "static-int8", "accuracy_drop", "<= 0.01", "simulated"):
        assert word in done.stdout
    assert done.stderr.splitlines() == ["fashion/host: convert", "fashion/host: static-int8",
                                        "fashion/host: passed"]


def test_the_report_can_be_written_elsewhere_too(run: Run, project: Path) -> None:
    done = run("build", *HOST, "--output-dir", "out", "--json", "r.json", "--junit", "r.xml")
    assert done.returncode == 0
    assert json.loads((project / "r.json").read_text()) == json.loads(
        (project / "out/report.json").read_text())
    assert (project / "r.xml").read_text() == (project / "out/report.junit.xml").read_text()
    assert not (project / "build").exists()


def test_the_junit_file_has_a_case_a_gate(run: Run, edit, project: Path) -> None:
    edit("pipeline.yaml", "model_bytes, max: 128KiB", "model_bytes, max: 1KiB")
    assert run("build", *HOST).returncode == 1
    cases = ET.parse(project / "build/report.junit.xml").findall(".//testcase")
    failed = {case.get("name").split()[0]: case.find("failure") is not None for case in cases}
    assert failed == {"accuracy_drop": False, "model_bytes": True}
    assert {case.get("classname") for case in cases} == {"fashion.host"}


def test_the_report_goes_to_a_pipe_as_well(run: Run) -> None:
    done = run("build", *HOST, "--json", "/dev/stderr")
    assert done.returncode == 0
    assert json.loads(done.stderr[done.stderr.index("{"):])["schema"] == "edgeq-report/1"


def test_a_reader_that_goes_away_changes_no_exit_code(run: Run, project: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "edgeq.cli", "targets"], stdout=writer, cwd=project,
                          stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["schema", "build --target host --github"])
def test_results_that_find_a_full_disk_are_told_and_the_build_keeps_its_files(
    project: Path, shared_store: Path, words: str,
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "edgeq.cli", *words.split()], stdout=full, cwd=project,
                              env=os.environ | {"EDGEQ_STORE": str(shared_store)}, stderr=subprocess.PIPE,
                              text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        "error: standard output cannot be written: No space left on device",
        "  free some space where it goes, or send it elsewhere"]
    if words != "schema":
        assert json.loads((project / "build/report.json").read_text())["passed"]
        assert "<html" in (project / "build/report.html").read_text()


def test_complaints_that_nobody_can_read_change_no_exit_code(project: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "edgeq.cli", "verify", "none"], stderr=full, cwd=project,
                              stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_names_are_printed_as_they_are_and_command_no_terminal(run: Run) -> None:
    done = run("verify", "[bold]:smile:\x1b[31mred")
    assert done.returncode == 2
    assert "[bold]:smile:\N{REPLACEMENT CHARACTER}[31mred" in done.stderr


def test_a_target_that_fails_is_named_with_its_gate(run: Run, edit) -> None:
    edit("pipeline.yaml", "accuracy_drop, max: 0.01", "accuracy_drop, max: -0.5")
    done = run("build", *HOST)
    assert done.returncode == 1
    assert "FAIL accuracy_drop" in done.stdout
    assert "0 of 1 jobs passed" in done.stdout
    assert "fashion/host: FAILED" in done.stderr


def test_a_frozen_build_on_an_empty_store_is_exit_3_and_leaves_it_empty(run: Run, project: Path) -> None:
    done = run("build", *HOST, "--frozen", "--store", "none")
    assert done.returncode == 3
    assert "Keras.convert is not in the store" in done.stdout
    assert "without --frozen" in done.stdout
    assert not (project / "none").exists()


def test_the_variable_names_the_store(run: Run, project: Path) -> None:
    assert run("build", *HOST).returncode == 0
    assert run("build", *HOST, "--frozen", env={"EDGEQ_STORE": str(project / "none")}).returncode == 3


@pytest.mark.parametrize("place", ["pipeline.yaml", "pipeline.yaml/below"])
def test_a_store_that_cannot_be_is_exit_3(run: Run, place: str) -> None:
    done = run("build", *HOST, "--store", place)
    assert done.returncode == 3
    assert f"{place} cannot be written: Not a directory" in done.stdout
    assert "--store DIR" in done.stdout


@pytest.mark.parametrize("place", ["pipeline.yaml", "pipeline.yaml/below", "/proc/nowhere"])
def test_an_output_folder_that_cannot_be_is_exit_2_before_anything_is_made(
    run: Run, project: Path, place: str
) -> None:
    done = run("build", *HOST, "--output-dir", place, "--store", "none")
    assert done.returncode == 2
    assert f"the output folder {place} cannot be written" in done.stderr
    assert "--output-dir" in done.stderr
    assert not (project / "none").exists()


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_a_report_that_cannot_be_written_elsewhere_is_exit_2_before_anything_is_made(
    run: Run, project: Path, option: str
) -> None:
    done = run("build", *HOST, option, "pipeline.yaml/r.json", "--store", "none")
    assert done.returncode == 2
    assert "pipeline.yaml cannot be written" in done.stderr
    assert option in done.stderr
    assert not (project / "none").exists()


def test_a_terminal_without_dashes_is_no_reason_to_fail(run: Run, edit) -> None:
    edit("pipeline.yaml", "accuracy_drop, max: 0.01", "energy_uj, max: 1")
    done = run("build", *HOST, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "1 jobs passed" in done.stdout


# Calls and files that are wrong


@pytest.mark.parametrize(("words", "said"), [
    (("build", "--nope"), "No such option"),
    (("build", "--jobs", "0"), "0 is not in the range"),
    (("build", "--target", "hots"), "no target 'hots'; did you mean 'host'?"),
    (("build", "--model", "fashoin"), "no model 'fashoin'; did you mean 'fashion'?"),
    (("build", "gone.yaml"), "gone.yaml: No such file"),
    (("build", "models/fashion/model.keras"), "model.keras"),
    (("plan", "models"), "models: Is a directory"),
    (("nope",), "No such command"),
    (("lint", "pipeline.yaml", "--target", "edgetpu"), "pipeline.yaml is not a .tflite file"),
    (("lint", "gone.tflite", "--target", "edgeptu"), "did you mean 'edgetpu'?"),
    (("lint", "gone.tflite", "--target", "host"), "target host has no operator rules"),
    (("inspect", "gone.tflite"), "gone.tflite"),
])
def test_a_wrong_call_is_exit_2_and_says_what_was_meant(run: Run, words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_every_mistake_in_a_pipeline_is_said_at_once_with_its_line(run: Run, edit) -> None:
    edit("pipeline.yaml", "targets: [host,", "targets: [hots,")
    edit("pipeline.yaml", LADDER, "ladder: [static-int9]")
    edit("pipeline.yaml", "model_bytes, max", "model_bites, max")
    done = run("build")
    assert done.returncode == 2
    for word in ("did you mean 'host'", "did you mean 'static-int8'", "did you mean 'model_bytes'"):
        assert word in done.stderr
    assert done.stderr.count("pipeline.yaml:") == 3


# The other commands


def test_the_version_is_printed(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"edgeq {__version__}\n")


def test_the_console_script_is_the_same_command_line() -> None:
    script = Path(sys.executable).parent / "edgeq"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"edgeq {__version__}\n"


def test_help_names_every_command(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("build", "plan", "lint", "inspect", "doctor", "schema", "targets", "recipes"):
        assert f"\n  {command} " in done.stdout


def test_plan_says_what_is_in_the_store_and_what_would_be_made(run: Run, project: Path) -> None:
    empty = run("plan", *HOST, "--store", "none")
    assert empty.returncode == 0
    assert "to make: Keras.convert is not in the store" in empty.stdout
    assert not (project / "none").exists()
    assert run("build", *HOST).returncode == 0
    assert "in the store: passed" in run("plan", *HOST).stdout


def test_plan_says_why_a_rung_is_skipped(run: Run, edit) -> None:
    edit("pipeline.yaml", LADDER, "ladder: [float16, static-int8]")
    done = run("plan", "--target", "tflm")
    assert done.returncode == 0
    assert "skipped: the target takes" in done.stdout
    assert "not float16" in done.stdout


def test_plan_says_why_a_job_cannot_be_built(run: Run, edit) -> None:
    edit("pipeline.yaml", "training.npz", "evaluation.npz")
    built = run("build", *HOST)
    assert built.returncode == 2
    assert "2000 evaluation samples are also training samples" in built.stdout
    planned = run("plan", *HOST)
    assert planned.returncode == 2
    assert "2000 evaluation samples are also training samples" in " ".join(planned.stderr.split())


def test_targets_lists_those_of_edgeq_and_of_the_project(run: Run, project: Path) -> None:
    own = project / "targets/my board"
    own.mkdir(parents=True)
    (own / "target.yaml").write_text(
        "description: 'mine, the [bold] one [/x]'\nprecisions: [int8]\nbackend: litert\nrunner: tflm\n")
    done = run("targets")
    assert done.returncode == 0
    for name in ("host", "tflm", "ethos-u55-128", "edgetpu", "my board"):
        assert f" {name} " in done.stdout
    assert "mine, the [bold] one [/x]" in done.stdout


def test_recipes_lists_their_options(run: Run) -> None:
    done = run("recipes")
    assert done.returncode == 0
    for word in ("float32", "float16", "dynamic-int8", "static-int8", "static-int16x8", "granularity"):
        assert word in done.stdout


def test_schema_is_json(run: Run) -> None:
    done = run("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["required"]


def test_inspect_lists_operators_and_sizes(run: Run, model: Path) -> None:
    done = run("inspect", model)
    assert done.returncode == 0
    for word in ("CONV_2D", "DEPTHWISE_CONV_2D", "INT8", "per_channel", "MACs"):
        assert word in done.stdout
    described = json.loads(run("inspect", model, "--json").stdout)
    assert described["bytes"] == model.stat().st_size
    assert described["macs"] > 0


def test_lint_tells_in_text_and_in_json(run: Run, model: Path) -> None:
    told = run("lint", model, "--target", "edgetpu", "--format", "json")
    found = json.loads(told.stdout)
    assert told.returncode == (0 if found["mapped"] == found["total"] else 1)
    assert run("lint", model, "--target", "edgetpu").returncode == told.returncode


def test_doctor_is_exit_0_and_tells_what_can_be_built(run: Run) -> None:
    done = run("doctor")
    assert done.returncode == 0
    for word in ("host", "tflm", "ethos-u55-128", "edgetpu", "frontend keras", "recipe static-int8"):
        assert word in done.stdout


def test_doctor_says_no_where_a_target_is_wrong(run: Run, project: Path) -> None:
    for name, text in (("broken", "a: ["), ("odd", "description: x\nprecisions: [int8]\nbackend: vale\n")):
        (project / "targets" / name).mkdir(parents=True)
        (project / "targets" / name / "target.yaml").write_text(text)
    done = run("doctor")
    assert done.returncode == 0
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    assert {row[1].strip(): row[2].strip() for row in rows if row[1].strip() in ("broken", "odd")} == {
        "broken": "no", "odd": "no"}
    assert "targets/broken/target.yaml:2" in done.stdout


def test_output_that_nobody_reads_to_its_end_is_no_error(project: Path) -> None:
    script = f'set -o pipefail; "{sys.executable}" -m edgeq.cli schema | head -n 1'
    done = subprocess.run(["/bin/bash", "-c", script], cwd=project, capture_output=True, text=True,
                          check=False, env={**os.environ})
    assert done.stdout == "{\n"
    assert done.stderr == ""
