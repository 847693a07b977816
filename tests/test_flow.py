"""Whole builds by the command line: from a pipeline to verdicts, and what becomes of one that goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import on_small_disk, wait_for, wait_until_gone

from edgeq.artifact import digest_of_file

SIZE = {"metric": "model_bytes", "max": "128KiB"}
DROP = {"metric": "accuracy_drop", "max": 0.01}
CALIBRATION, EVALUATION, TRAINING = (f"models/fashion/{role}.npz"
                                     for role in ("calibration", "evaluation", "training"))
MODEL = {"source": "models/fashion/model.keras", "calibration": {"data": CALIBRATION},
         "evaluation": {"data": EVALUATION, "metric": "top1"}}
CODE = """
import os, signal, time

def score(outputs, labels):
    return float((outputs.argmax(axis=-1) == labels).mean())

def crash(outputs, labels):
    os.kill(os.getpid(), signal.SIGSEGV)

def hang(outputs, labels):
    time.sleep(3600)

def wrong(outputs, labels):
    return labels.no_such_thing

def wait_once(outputs, labels):
    if not os.path.exists({mark!r}):
        with open({mark!r} + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename({mark!r} + ".new", {mark!r})
        time.sleep(3600)
    return 0.5
"""


@dataclass(frozen=True)
class Built:
    """How a build ended: its exit code, all that it said, and its report, if it left one."""

    code: int
    said: str
    report: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        """The only result."""
        only, = self.report["results"]
        return only


Build = Callable[..., Built]
Declare = Callable[..., None]


@pytest.fixture
def declare(project: Path) -> Declare:
    """Write pipeline.yaml: the demo for the host, with changes; keys of its evaluation by their names."""
    def written(*, evaluation: dict | None = None, models: dict | None = None, **changes: Any) -> None:
        model = {**MODEL, "evaluation": {**MODEL["evaluation"], **(evaluation or {})}}
        declared = {"version": 1, "models": models or {"fashion": model}, "targets": ["host"],
                    "ladder": ["static-int8"], "gates": [SIZE], **changes}
        (project / "pipeline.yaml").write_text(json.dumps(declared), encoding="utf-8")

    return written


@pytest.fixture
def build(edgeq, project: Path) -> Build:
    """Build the project, by one worker where nothing else is said; see that no traceback is shown."""
    def built(*words: str | Path, **how: Any) -> Built:
        (project / "build/report.json").unlink(missing_ok=True)
        return ended(edgeq("build", "--jobs", "1", *words, **how), project / "build")

    return built


# A shell's background jobs, and what they start, ignore interrupts: these tests may run in one.
UNSHIELDED = ("env", "--default-signal=INT")


@pytest.fixture
def start(project: Path, shared_store: Path) -> Callable[..., subprocess.Popen]:
    """Start a build of the project, in a process group of its own."""
    def started(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*UNSHIELDED, sys.executable, "-m", "edgeq.cli", "build", "--jobs", "1", *words], cwd=project,
            env={**os.environ, "EDGEQ_STORE": str(shared_store)}, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return started


@pytest.fixture
def code(project: Path) -> Path:
    """The user's own module, mine.py; the file that its wait_once leaves."""
    mark = project / "mark"
    (project / "mine.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    return mark


def ended(done: subprocess.CompletedProcess, folder: Path) -> Built:
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    report = folder / "report.json"
    return Built(done.returncode, said, json.loads(report.read_text()) if report.exists() else {})


def files_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


# From a model to verdicts


def test_a_model_is_taken_to_three_targets(build: Build, declare: Declare, project: Path) -> None:
    declare(targets=["host", "tflm", "ethos-u55-128"], gates=[DROP, SIZE])
    built = build("--jobs", "3")
    assert built.code == 0
    assert built.report["passed"]
    assert [result["target"] for result in built.report["results"]] == ["host", "tflm", "ethos-u55-128"]
    for result in built.report["results"]:
        assert result["recipe"] == "static-int8"
        assert [verdict["passed"] for verdict in result["verdicts"]] == [True, True]
        accuracy = result["metrics"]["accuracy"]
        assert accuracy["value"] > 0.88
        assert (accuracy["unit"], accuracy["n"], accuracy["source"]) == ("ratio", 2000, "simulated")
        assert result["metrics"]["model_bytes"]["source"] == "measured"
        for artifact in result["artifacts"]:
            file = project / "build" / artifact["path"]
            assert digest_of_file(file) == artifact["sha256"]
            assert file.stat().st_size == artifact["bytes"]
    assert (project / "build/host/fashion/model.tflite").exists()
    assert (project / "build/ethos-u55-128/fashion/model_vela.tflite").exists()
    assert not (project / "build/failed").exists()
    assert "3 of 3 jobs passed" in built.said


def test_a_gate_that_fails_is_exit_1_and_what_failed_is_kept(
    build: Build, declare: Declare, project: Path
) -> None:
    declare(gates=[{"metric": "model_bytes", "max": "1KiB"}])
    built = build()
    assert built.code == 1
    verdict, = built.result["verdicts"]
    assert (verdict["passed"], verdict["reason"], verdict["max"]) == (False, "failed", 1024)
    assert files_in(project / "build/failed/host/fashion") >= {"model.tflite", "manifest.json"}
    assert not (project / "build/host").exists()


def test_an_old_pass_never_outlives_a_new_failure(build: Build, declare: Declare, project: Path) -> None:
    passed, failed = project / "build/host/fashion", project / "build/failed/host/fashion"
    declare()
    assert build().code == 0
    assert passed.exists()
    declare(gates=[{"metric": "model_bytes", "max": 1}])
    assert build().code == 1
    assert (passed.exists(), failed.exists()) == (False, True)
    declare()
    assert build().code == 0
    assert (passed.exists(), failed.exists()) == (True, False)


def test_the_ladder_climbs_to_the_first_rung_that_passes(build: Build, declare: Declare) -> None:
    declare(ladder=[{"recipe": "static-int8", "granularity": "per_tensor"}, "static-int8", "float32"],
            gates=[DROP])
    built = build()
    assert built.code == 0
    assert [rung["state"] for rung in built.result["rungs"]] == ["failed", "passed"]
    assert (built.result["recipe"], built.result["options"]) == ("static-int8", {})
    assert built.result["rungs"][0]["options"] == {"granularity": "per_tensor"}
    assert built.result["rungs"][0]["verdicts"][0]["value"] > 0.01


def test_the_rung_that_falls_least_short_is_kept_where_none_passes(build: Build, declare: Declare) -> None:
    declare(ladder=["float32", "static-int8"], gates=[{"metric": "model_bytes", "max": "1KiB"}])
    built = build()
    assert built.code == 1
    assert [rung["state"] for rung in built.result["rungs"]] == ["failed", "failed"]
    assert built.result["recipe"] == "static-int8"


def test_a_rung_that_the_target_cannot_take_is_skipped_with_the_reason(
    build: Build, declare: Declare
) -> None:
    declare(targets=["tflm"], ladder=["dynamic-int8", "static-int8"])
    built = build()
    assert built.code == 0
    assert [rung["state"] for rung in built.result["rungs"]] == ["skipped", "passed"]
    assert "not dynamic-int8" in built.result["rungs"][0]["reason"]


# Sources of figures


def test_a_metric_that_nobody_measures_is_unavailable_and_does_not_pass(
    build: Build, declare: Declare
) -> None:
    declare(gates=[SIZE, {"metric": "energy_uj", "max": 100}])
    built = build()
    assert built.code == 1
    verdict = built.result["verdicts"][1]
    assert (verdict["value"], verdict["passed"], verdict["reason"]) == (None, False, "unavailable")
    assert verdict["explanation"]


@pytest.mark.parametrize(("allow", "code", "reason"), [
    (["simulated"], 1, "unavailable"), (["simulated", "estimated"], 0, None)])
def test_an_estimate_counts_only_where_it_is_allowed(
    build: Build, declare: Declare, project: Path, allow: list[str], code: int, reason: str | None
) -> None:
    declare(targets=["edgetpu"], gates=[{"metric": "mapped_ops_ratio", "min": 0.5, "allow": allow}])
    built = build(env={"PATH": str(project), "EDGETPU_COMPILER": ""})
    assert built.code == code
    verdict, = built.result["verdicts"]
    assert (verdict["source"], verdict["reason"]) == ("estimated", reason)
    assert "not compiled" in built.result["notice"]


def test_time_is_measured_only_where_it_is_asked_for(build: Build, declare: Declare) -> None:
    declare()
    assert "latency_ms" not in build().result["metrics"]
    asked = build("--measure").result["metrics"]["latency_ms"]
    assert (asked["source"], asked["unit"]) == ("measured", "ms")
    assert (asked["aggregation"], asked["n"] >= 100) == ("median of 10 inputs' least", True)
    assert asked["interval"][1] >= asked["value"] >= asked["interval"][0] > 0
    assert "latency_ms" not in build("--frozen").result["metrics"], "it is not kept"


def test_a_gate_on_time_has_it_measured_even_in_a_frozen_build(build: Build, declare: Declare) -> None:
    declare()
    assert build().code == 0
    declare(gates=[{"metric": "latency_ms", "max": "1000s"}])
    built = build("--frozen")
    assert built.code == 0
    assert built.result["verdicts"][0]["source"] == "measured"


# Data that cannot be right


def arrays(project: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(project / name) as archive:
        return {key: archive[key] for key in archive.files}


def test_evaluation_samples_that_were_calibrated_with_are_counted(
    build: Build, declare: Declare, project: Path
) -> None:
    calibration, evaluation = arrays(project, CALIBRATION), arrays(project, EVALUATION)
    np.savez(project / "mixed.npz", x=np.concatenate([calibration["x"][:7], evaluation["x"][:43]]),
             y=np.concatenate([calibration["y"][:7], evaluation["y"][:43]]))
    declare(evaluation={"data": "mixed.npz"})
    built = build()
    assert built.code == 0
    assert "7 evaluation samples are also calibration samples" in built.result["warnings"][0]
    assert "warning: fashion/host: " in built.said


def test_evaluation_samples_that_were_trained_on_are_an_error(
    build: Build, declare: Declare, project: Path
) -> None:
    training, evaluation = arrays(project, TRAINING), arrays(project, EVALUATION)
    np.savez(project / "train.npz", x=np.concatenate([training["x"][:90], evaluation["x"][:10]]),
             y=np.concatenate([training["y"][:90], evaluation["y"][:10]]))
    declare(models={"fashion": {**MODEL, "training": {"data": "train.npz"}}})
    built = build()
    assert built.code == 2
    assert built.result["error"]["kind"] == "config"
    assert "10 evaluation samples are also training samples" in built.result["error"]["message"]


def holding_nan(data: dict) -> dict:
    x = data["x"].astype(np.float32)
    x[3, 0, 0] = np.nan
    x[5, 1, 1] = np.inf
    return {**data, "x": x}


@pytest.mark.parametrize(("change", "words"), [
    (holding_nan, "2 samples hold NaN or infinity, the first at index 3"),
    (lambda data: {**data, "x": data["x"][:, :20]}, "x has the shape [50, 20, 28, 1], the model wants"),
    (lambda data: {**data, "y": data["y"] + 5}, "labels lie outside 0..9, the first is"),
])
def test_samples_that_cannot_be_right_are_exit_2(
    build: Build, declare: Declare, project: Path, change: Callable[[dict], dict], words: str
) -> None:
    good = {name: values[:50] for name, values in arrays(project, EVALUATION).items()}
    np.savez(project / "bad.npz", **change(good))
    declare(evaluation={"data": "bad.npz"})
    built = build()
    assert built.code == 2
    assert words in built.result["error"]["message"]
    assert "evaluation data bad.npz" in built.result["error"]["message"]
    assert built.result["error"]["hint"]


def test_fewer_calibration_samples_than_asked_are_exit_2(build: Build, declare: Declare) -> None:
    declare(models={"fashion": {**MODEL, "calibration": {"data": CALIBRATION, "samples": 501}}})
    built = build()
    assert built.code == 2
    assert "calibration.npz: 501 samples were asked for, 500 are there" in built.result["error"]["message"]


# Steps that crash, hang, or are killed


def test_one_of_five_jobs_crashes_and_four_finish(build: Build, declare: Declare, code: Path) -> None:
    models = {name: {**MODEL, "evaluation": {"data": EVALUATION, "samples": 50, "seed": seed,
                                             "metric": f"mine:{'crash' if name == 'c' else 'score'}"}}
              for seed, name in enumerate("abcde")}
    declare(models=models)
    built = build("--jobs", "2")
    assert built.code == 3
    assert {result["model"]: result["passed"] for result in built.report["results"]} == {
        "a": True, "b": True, "c": False, "d": True, "e": True}
    error = built.report["results"][2]["error"]
    assert error["kind"] == "tool"
    assert "Scoring.measure: its worker was killed by SIGSEGV" in error["message"]
    assert "4 of 5 jobs passed" in built.said


def test_a_step_that_hangs_is_stopped_at_the_time_out(build: Build, declare: Declare, code: Path) -> None:
    declare(evaluation={"metric": "mine:score", "samples": 50})
    assert build().code == 0
    declare(evaluation={"metric": "mine:hang", "samples": 50}, timeout_s=1)
    built = build()
    assert built.code == 3
    assert "Scoring.measure had not ended after 1 s and was stopped" in built.result["error"]["message"]


def test_a_mistake_in_the_users_code_is_said_in_words(build: Build, declare: Declare, code: Path) -> None:
    declare(evaluation={"metric": "mine:wrong", "samples": 50})
    built = build()
    assert built.code == 3
    assert "AttributeError" in built.result["error"]["message"]
    assert "no_such_thing" in built.result["error"]["message"]


def test_a_build_that_was_killed_half_way_finishes_the_next_time(
    build: Build, start, declare: Declare, code: Path
) -> None:
    declare(evaluation={"metric": "mine:wait_once", "samples": 60})
    process = start()
    wait_for(code)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    built = build()
    assert built.code == 0
    assert built.result["metrics"]["accuracy"]["value"] == 0.5


def test_a_build_that_is_interrupted_ends_at_once_with_its_workers(
    build: Build, start, declare: Declare, code: Path
) -> None:
    declare(evaluation={"metric": "mine:wait_once", "samples": 70})
    process = start()
    wait_for(code)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped" in said
    assert "Traceback" not in said
    wait_until_gone(int(code.read_text()))
    assert build().code == 0


def workers_of(process: int) -> list[str]:
    """The worker processes that `process` has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # processes come and go
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(process) and b"spawn_main" in (place / "cmdline").read_bytes():
                found.append(place.name)
    return found


def test_one_job_starts_one_worker_and_it_dies_with_the_build(start, declare: Declare, code: Path) -> None:
    declare(evaluation={"metric": "mine:wait_once", "samples": 80})
    process = start("--jobs", "8")
    wait_for(code)
    worker, = workers_of(process.pid)
    assert worker == code.read_text()
    process.kill()
    process.communicate()
    wait_until_gone(int(worker))


def test_builds_at_once_pass_on_one_store_and_even_into_one_folder(
    start, declare: Declare, project: Path
) -> None:
    declare(targets=["host", "tflm"], evaluation={"samples": 90})
    for process in [start("--output-dir", folder) for folder in ("one", "one", "two")]:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    left = files_in(project / "one")
    assert left == files_in(project / "two") > {"report.json", "host/fashion/model.tflite"}
    for name in ("tflm/fashion/model.tflite", "tflm/fashion/manifest.json"):
        assert digest_of_file(project / "one" / name) == digest_of_file(project / "two" / name)


def test_what_a_killed_build_left_half_delivered_is_swept_away(
    build: Build, declare: Declare, project: Path
) -> None:
    (project / "build/.draft-abc/new").mkdir(parents=True)
    declare()
    assert build().code == 0
    assert not [*(project / "build").glob(".draft*")]


def test_a_full_disk_under_the_results_is_exit_2_and_said_so(
    build: Build, declare: Declare, project: Path, shared_store: Path, tmp_path: Path
) -> None:
    if subprocess.run(on_small_disk(tmp_path / "try", "true"), capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk: unshare or mount is not permitted")
    declare()
    assert build().code == 0
    command = (f'head -c 1000k /dev/zero > "{project}/disk/ballast"; "{sys.executable}" -m edgeq.cli build '
               f'--output-dir disk/out --store "{shared_store}"; code=$?; ls -A disk/out; exit $code')
    done = subprocess.run(on_small_disk(project / "disk", "/bin/sh", "-c", f'cd "{project}"; {command}'),
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: disk/out cannot be written: No space left on device" in done.stderr
    assert done.stdout == "", "nothing is left half delivered"


# The user's own code


def test_the_users_code_is_found_from_wherever_the_pipeline_is_named(
    edgeq, project: Path, declare: Declare, code: Path
) -> None:
    (project / "below").mkdir()
    for number, pipeline in enumerate((project / "pipeline.yaml", "below/../pipeline.yaml")):
        declare(evaluation={"metric": "mine:score", "samples": 40, "seed": number})
        done = edgeq("build", pipeline)
        assert done.returncode == 0, done.stdout + done.stderr


def test_code_that_changes_is_run_again(build: Build, declare: Declare, project: Path) -> None:
    declare(evaluation={"metric": "mine:score", "samples": 40})
    results = []
    for number in (0.25, 0.75):
        (project / "helper.py").write_text(f"NUMBER = {number}")
        (project / "mine.py").write_text("import helper\n\ndef score(outputs, labels):\n"
                                         "    return helper.NUMBER\n")
        results.append(build().result)
    assert [result["metrics"]["accuracy"]["value"] for result in results] == [0.25, 0.75]
    told = {result["identity"]["data"]["metric"] for result in results}
    assert len(told) == 2, "figures by another code of the metric are told apart"
    manifest = json.loads((project / "build/host/fashion/manifest.json").read_text())
    definition = manifest["predicate"]["buildDefinition"]
    assert "metric" in {each["name"] for each in definition["resolvedDependencies"]}


def test_samples_may_come_from_the_users_function(build: Build, declare: Declare, project: Path) -> None:
    (project / "mine.py").write_text(
        "import numpy as np\n\ndef read():\n"
        "    return {'x': np.ones((12, 28, 28, 1), np.float32), 'y': np.arange(12) % 10}\n")
    declare(evaluation={"data": "mine:read"})
    built = build()
    assert built.code == 0
    assert built.result["metrics"]["accuracy"]["n"] == 12


# A project of its own, in a place with an odd name, with a store of its own


@dataclass(frozen=True)
class Elsewhere:
    """A project whose path has spaces and letters beyond ASCII; `first` is how its first build ended."""

    folder: Path
    first: Built

    def run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *command], cwd=self.folder, capture_output=True, text=True, check=False,
            env={**os.environ, "EDGEQ_STORE": str(self.folder / "the store")})

    def build(self, *words: str, output: str = "build") -> Built:
        done = self.run("-m", "edgeq.cli", "build", "--output-dir", output, *words)
        return ended(done, self.folder / output)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, baseline: Path) -> Elsewhere:
    folder = tmp_path_factory.mktemp("project") / "Größe & Maß, 模型 [1]"
    shutil.copytree(Path(__file__).parents[1] / "models/fashion", folder / "models/fashion")
    shutil.copy(baseline / "baseline.tflite", folder / "modèle [a].tflite")
    model = {"source": "modèle [a].tflite", "calibration": {"data": CALIBRATION, "samples": 20},
             "evaluation": {"data": EVALUATION, "metric": "top1", "samples": 20}}
    declared = {"version": 1, "models": {"fashion": model}, "targets": ["host", "tflm", "ethos-u55-128"],
                "ladder": ["static-int8"], "gates": [SIZE]}
    (folder / "pipeline.yaml").write_text(json.dumps(declared, ensure_ascii=False), encoding="utf-8")
    return Elsewhere(folder, Elsewhere(folder, Built(0, "", {})).build())


def state_of(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_a_path_with_spaces_and_letters_beyond_ascii_is_no_obstacle(elsewhere: Elsewhere) -> None:
    assert elsewhere.first.code == 0, elsewhere.first.said
    assert len(elsewhere.first.report["results"]) == 3
    assert "modèle" not in elsewhere.first.said
    assert (elsewhere.folder / "build/ethos-u55-128/fashion/model_vela.tflite").exists()


def test_a_second_build_makes_nothing(elsewhere: Elsewhere) -> None:
    before = state_of(elsewhere.folder / "the store")
    built = elsewhere.build("--frozen")
    assert built.code == 0
    assert built.report["results"] == elsewhere.first.report["results"]
    assert elsewhere.build().code == 0
    assert state_of(elsewhere.folder / "the store") == before


def test_what_is_delivered_names_no_time_and_no_place(elsewhere: Elsewhere) -> None:
    assert elsewhere.build("--frozen", output="another").code == 0
    for name in ("host/fashion/manifest.json", "host/fashion/model.tflite", "report.json"):
        first, second = (elsewhere.folder / folder / name for folder in ("build", "another"))
        assert first.read_bytes() == second.read_bytes()
    assert str(elsewhere.folder) not in (elsewhere.folder / "build/report.json").read_text()
    assert "Größe" not in (elsewhere.folder / "build/host/fashion/manifest.json").read_text()


def test_a_build_with_nothing_to_do_loads_no_heavy_module(elsewhere: Elsewhere) -> None:
    wrapper = ("import sys\nfrom edgeq.cli.__main__ import main\nsys.argv = ['edgeq', 'build']\n"
               "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
               "print('loaded:', *sorted(sys.modules))")
    done = elsewhere.run("-c", wrapper)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("loaded: ")[2].split())
    assert "edgeq.flow" in loaded
    assert not loaded & {
        "tensorflow", "keras", "tf_keras", "torch", "sqlalchemy", "alembic", "in_toto_attestation",
        "cyclonedx", "sklearn", "ai_edge_litert", "litert_quantizer", "tflite_micro", "h5py", "pebble"}


def test_a_frozen_build_ends_where_something_would_have_to_be_made(elsewhere: Elsewhere) -> None:
    text = (elsewhere.folder / "pipeline.yaml").read_text(encoding="utf-8")
    (elsewhere.folder / "fewer.yaml").write_text(text.replace('"samples": 20', '"samples": 21'))
    built = elsewhere.build("fewer.yaml", "--frozen", "--target", "host", output="fewer")
    assert built.code == 3
    assert "Samples.load is not in the store" in built.result["error"]["message"]
