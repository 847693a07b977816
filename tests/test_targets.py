"""Every target of the project compiles and runs what it says that it takes; Vela may fail in any way."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import demo
import numpy as np
import pytest
from conftest import DEMO_TARGETS, ROOT

from edgeq.backends.vela import Vela, split, stated
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.interpret import run_litert
from edgeq.judging.scoring import agreement
from edgeq.program import costs_in, notice_in, runnable_in
from edgeq.recipes import RECIPES
from edgeq.recipes.float32 import Float32
from edgeq.samples import samples_in
from edgeq.target import all_of, find, known

TARGETS = sorted(path.parent.name for path in ROOT.glob("targets/*/target.yaml"))
PRECISIONS = {(form, recipe().precision): recipe()  # by the cheapest
              for (form, _), recipe in reversed([*RECIPES.items()])}
LARGER = {("cortex-m0", "int16x8")}  # activations of the demo than the target has RAM
TAKEN = [(target.name, precision) for target in all_of(ROOT) for precision in target.precisions
         if (target.name, precision) not in LARGER]
NPUS = [name for name in TARGETS if name.startswith("ethos")]
VELA = Vela("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")


def compiled(store, name: str, precision: str) -> Path:
    """The demo as a program for a target."""
    target = find(ROOT, name)
    recipe = PRECISIONS[target.format, precision]
    if target.quantization and hasattr(recipe, "granularity_by_operator"):
        recipe = replace(recipe, granularity_by_operator=target.quantization)
    if hasattr(recipe, "scheme"):
        recipe = replace(recipe, scheme=target.backend.scheme)
    return store.path(store.make(target.backend.compile, demo.quantized(store, recipe)))


def test_every_target_of_the_project_is_found():
    assert sorted(known(ROOT)) == TARGETS
    assert {"host", "tflm", "edgetpu", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256",
            "ethos-u85-256"} <= {*TARGETS}


@pytest.mark.parametrize(("form", "backend", "runner", "told"), [
    ("executorch", "litert", "executorch", r":4: backend: takes models of the format tflite, `format`"),
    ("tflite", "{name: executorch, delegate: xnnpack}", "host", ":4: backend: takes .* format executorch"),
    ("tflite", "litert", "executorch", ":5: runner: takes models of the format executorch"),
    ("executorch", "{name: executorch, delegate: xnnpack}", "host", ":5: runner: takes .* format tflite"),
    ("onnx", "litert", "host", ":2: format: unknown name 'onnx'"),
])
def test_roles_of_two_formats_are_no_target(tmp_path, form, backend, runner, told):
    file = tmp_path / "targets/mixed/target.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"description: mixed\nformat: {form}\nprecisions: [float32]\n"
                    f"backend: {backend}\nrunner: {runner}\n")
    with pytest.raises(ConfigError, match=told):
        find(tmp_path, "mixed")


@pytest.mark.parametrize(("name", "wanted"), [
    ("executorch-xnnpack", False), ("executorch-rpi4", False), ("executorch-ethos-u55-128", True)])
def test_arms_compilers_are_wanted_for_their_chips_alone(name, wanted):
    packages = find(ROOT, name).backend.packages
    assert ({"tosa-tools", "ethos-u-vela"} <= {*packages}) == wanted == ("tosa-tools" in packages)
    assert {"torch", "executorch"} <= {*packages}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_describes_itself_and_takes_known_precisions(name):
    target = find(ROOT, name)
    assert len(target.description) > 20
    assert target.precisions
    assert {(target.format, precision) for precision in target.precisions} <= PRECISIONS.keys()
    assert {*target.quantization.values()} <= {"per_channel", "per_tensor"}


@pytest.mark.parametrize(("name", "precision"), TAKEN)
def test_a_target_compiles_and_runs_each_precision_that_it_takes(store, tmp_path, name, precision):
    program = compiled(store, name, precision)
    samples = store.path(demo.samples(store, "evaluation", 50, form=find(ROOT, name).format))
    find(ROOT, name).runner.run(tmp_path, program, samples)
    outputs = np.load(tmp_path / "outputs.npy")
    baseline = store.path(demo.baseline(store)) / "baseline.tflite"
    assert outputs.shape == (50, 10)
    assert agreement(outputs, run_litert(baseline, samples_in(samples), "xnnpack")) >= (
        0.9 if precision == "int4" else 0.96)


@pytest.mark.parametrize(("name", "precision"), LARGER)
def test_what_a_target_has_no_room_for_is_refused(store, name, precision):
    with pytest.raises(Refused, match=r"the firmware does not fit: it needs \d+ bytes of RAM"):
        compiled(store, name, precision)


@pytest.mark.parametrize("name", TARGETS)
def test_a_program_ships_something_and_says_what_it_costs(store, name):
    program = compiled(store, name, "int8")
    costs = costs_in(program)
    shipped = {file.name: file.stat().st_size for file in (program / "ship").iterdir()}
    shipped.pop("model.bpte", None)  # the same again, with inputs and outputs to try it by
    size = taken_by(program) if "firmware.elf" in shipped else sum(shipped.values())
    assert (costs["model_bytes"].value, costs["model_bytes"].source) == (size, "measured")
    assert costs["macs"].value == 922_336
    assert runnable_in(program).exists()


def taken_by(program: Path) -> int:
    """The bytes of flash that the library of a firmware takes, as GNU size has it."""
    finished = subprocess.run(["arm-none-eabi-size", "-t", program / "ship/libmodel.a"],
                              capture_output=True, text=True, check=True)
    text, data, *_ = finished.stdout.splitlines()[-1].split()
    return int(text) + int(data)


@pytest.mark.parametrize("name", NPUS)
@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_the_npu_takes_the_whole_demo_and_its_figures_are_those_of_a_model(store, name, precision):
    costs = costs_in(compiled(store, name, precision))
    figures = {"cycles", "latency_ms", "ram_bytes", "flash_bytes", "mapped_ops_ratio"}
    assert {costs[metric].source for metric in figures} == {"simulated"}
    assert costs["mapped_ops_ratio"].value == 1
    assert all(costs[metric].value > 0 for metric in figures - {"flash_bytes"})
    parameters = 38_000  # in flash, or, with an Ethos-U65 or U85 as they are configured, in DRAM
    assert parameters < costs["flash_bytes"].value + costs["ram_bytes"].value < 256 * 1024


def test_more_multipliers_take_fewer_cycles(store):
    few, many = (costs_in(compiled(store, name, "int8"))["cycles"].value
                 for name in ("ethos-u55-128", "ethos-u55-256"))
    assert many < few


def test_what_ships_to_an_npu_is_not_what_is_run_here(store):
    program = compiled(store, "ethos-u55-128", "int8")
    assert [file.name for file in (program / "ship").iterdir()] == ["model_vela.tflite"]
    quantized = store.path(demo.quantized(store)) / "model.tflite"
    assert runnable_in(program).read_bytes() == quantized.read_bytes()
    assert notice_in(program) == ""


def test_a_float_model_stays_on_the_cpu_and_its_cycles_are_unavailable(store):
    costs = costs_in(store.path(store.make(VELA.compile, demo.quantized(store, Float32()))))
    assert costs["mapped_ops_ratio"].value == 0
    for metric in ("cycles", "latency_ms"):
        assert (costs[metric].value, costs[metric].source) == (None, "unavailable")
        assert "operators run on the CPU, which vela does not time" in costs[metric].reason


def test_tensorflow_lite_micro_states_its_arena(store, tmp_path):
    samples = store.path(demo.samples(store, "evaluation", 50))
    find(ROOT, "tflm").runner.run(tmp_path, compiled(store, "tflm", "int8"), samples)
    arena = costs_in(tmp_path)["arena_bytes"]
    assert 10_000 < arena.value < 60_000
    assert arena.source == "simulated"


@pytest.mark.parametrize(("given", "found"), [
    ({"accelerator_config": "ethos-u55-7"}, "ethos-u55-7"),
    ({"system_config": "Fast"}, "Fast"), ({"memory_mode": "Roomy"}, "Roomy"),
    ({"config": "Nobody/vela.ini"}, "Nobody"),
])
def test_a_setting_that_vela_does_not_know_is_told_in_its_own_words(store, tmp_path, given, found):
    with pytest.raises(ToolError, match=r"vela ended with status \d and no program") as raised:
        replace(VELA, **given).compile(tmp_path, store.path(demo.quantized(store)))
    assert found in raised.value.hint


@pytest.fixture
def standin(monkeypatch):
    """Let a stand-in take Vela's place, and do this."""
    def stand_in(what: str) -> dict[str, str]:
        env = {"VELA_STANDIN": what, "PYTHONPATH": str(ROOT / "tests/standins/vela")}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return env

    return stand_in


@pytest.fixture
def quantized(tmp_path) -> Path:
    """A folder with a model that the stand-in may pass off as its program."""
    from graphs import operator, tensor, written

    (tmp_path / "model.tflite").write_bytes(written(
        [tensor("in", (1, 4)), tensor("out", (1, 4))], [operator("RELU", "in", "out")]))
    return tmp_path


@pytest.mark.parametrize(("what", "found"), [
    ("crashes", "vela was killed by SIGFPE"),
    ("hangs", r"vela had not ended after 1 s and was stopped"),
    ("fails", "vela ended with status 1 and no program"),
    ("prints garbage", "vela ended with status 0 and no program"),
    ("writes no split", "vela did not say how many operators run on the NPU"),
    ("writes an empty table", "vela's summary is empty"),
    ("writes a table of garbage", "vela's summary"),
    ("writes a table of words", "vela's summary has no number in column 'cycles_total'"),
    ("writes a table without cycles", "vela's summary has no number in column 'cycles_total'"),
    ("writes a program of garbage", r"model_vela.tflite is not a \.tflite file"),
])
def test_whatever_vela_does_wrong_is_an_error_of_the_tool(quantized, standin, what, found):
    standin(what)
    out = quantized / "out"
    out.mkdir()
    with pytest.raises(ToolError, match=found) as raised:
        replace(VELA, timeout_s=1 if what == "hangs" else 60).compile(out, quantized)
    assert raised.value.hint
    assert not (out / "costs.json").exists()


def test_what_the_stand_in_does_right_is_no_error(quantized, standin):
    standin("works")
    out = quantized / "out"
    out.mkdir()
    VELA.compile(out, quantized)
    assert costs_in(out)["cycles"].value == 300


def test_one_job_crashes_and_the_other_finishes(edgeq, edit, project, standin):
    (project / "targets/npu").mkdir(parents=True)
    text = (ROOT / "targets/ethos-u55-128/target.yaml").read_text()
    own = text.replace("name: vela", "name: vela\n  timeout_s: 61")  # nothing of it is in the store yet
    (project / "targets/npu/target.yaml").write_text(own)
    edit("pipeline.yaml", DEMO_TARGETS, "[npu, host]")
    edit("pipeline.yaml", "[ethos-u55-128]", "[npu]")
    edit("pipeline.yaml", "ram_bytes, max: 16KiB, targets: [cortex-m4]", "agreement, min: 0.9")
    edit("pipeline.yaml", "instructions, max: 1M, targets: [cortex-m4]", "agreement, min: 0.8")
    edit("pipeline.yaml", ", targets: [tflm]}", "}")
    edit("pipeline.yaml", "arena_bytes, max: 64KiB", "agreement, min: 0.9")
    edit("pipeline.yaml", ", targets: [edgetpu], allow", ", targets: [npu], allow")
    ran = edgeq("build", env=standin("crashes"))
    assert ran.returncode == 3, ran.stderr
    npu, host = json.loads((project / "build/report.json").read_text())["results"]
    assert npu["error"]["kind"] == "tool"
    assert "vela was killed by SIGFPE" in npu["error"]["message"]
    assert (host["error"], host["passed"]) == (None, True)
    assert "Traceback" not in ran.stderr


def test_the_split_is_read_from_what_vela_prints():
    assert split("x\nCPU operators = 3 (30.0%)\nNPU operators = 7 (70.0%)\n") == (7, 3)


ROW = {"sram_memory_used": "10.5", "dram_memory_used": "1.5", "on_chip_flash_memory_used": "0",
       "off_chip_flash_memory_used": "4", "cycles_total": "61900.0", "inference_time": "0.0001238"}


def test_velas_table_is_in_kibibytes_and_seconds():
    costs = stated(ROW, 14, 0)
    assert {name: value.value for name, value in costs.items()} == {
        "ram_bytes": 12 * 1024, "flash_bytes": 4 * 1024, "mapped_ops_ratio": 1, "cycles": 61900,
        "latency_ms": pytest.approx(0.1238)}


def test_one_operator_on_the_cpu_leaves_the_time_unknown():
    costs = stated(ROW, 3, 1)
    assert costs["mapped_ops_ratio"].value == 0.75
    assert costs["cycles"].reason == "1 operators run on the CPU, which vela does not time"


def test_cycles_that_are_no_number_are_unavailable():
    assert stated(ROW | {"cycles_total": str(math.nan)}, 3, 0)["cycles"].value is None


