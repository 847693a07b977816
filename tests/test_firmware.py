"""The firmware backend and its runner: what is delivered, that it drops in, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace

import demo
import numpy as np
import pytest
from conftest import DEMO_TARGETS
from firmware_nets import Net
from firmware_random import random_net

from edgeq.artifact import digest_of
from edgeq.backends.firmware import Firmware
from edgeq.emulation import qemu, rp2040js
from edgeq.emulation.boards import BOARDS
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.graph import read
from edgeq.interpret import tflm_outputs
from edgeq.parity import Parity, read_chain
from edgeq.program import costs_in
from edgeq.recipes.float32 import Float32
from edgeq.runners.qemu_cortex_m import QemuCortexM

M3 = Firmware("cortex-m3", "mps2-an385", flash="256KiB", ram="64KiB", model="small-net")
CORES = {"cortex-m0": "microbit", "cortex-m3": "mps2-an385", "cortex-m4": "mps2-an386",
         "cortex-m7": "mps2-an500", "cortex-m33": "mps2-an505", "cortex-m55": "mps3-an547"}


def small(folder, seed=0):
    """A quantized network of some operators, as a recipe leaves one."""
    net = Net([1, 12, 12, 4], seed)
    value = net.conv("in", 8, (3, 3), options={"padding": "SAME", "activation": "relu"})
    value = net.conv(value, 1, (3, 3), kind="DEPTHWISE_CONV_2D", options={"padding": "SAME"})
    value = net.dense(value, 10)
    net.add("SOFTMAX", value, [1, 10], {"scale": 1 / 256, "zero": -128}, beta=1.0)
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(net.file())
    return folder


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    return small(tmp_path_factory.mktemp("firmware") / "quantized")


def built(backend, out, quantized):
    out.mkdir()
    backend.compile(out, quantized)
    return out


@pytest.fixture(scope="module")
def program(tmp_path_factory, quantized):
    """The network for a Cortex-M3."""
    return built(M3, tmp_path_factory.mktemp("firmware") / "program", quantized)


def test_all_that_is_promised_is_delivered(program):
    ship = program / "ship"
    names = {file.relative_to(ship).as_posix() for file in ship.rglob("*") if file.is_file()}
    assert {"firmware.elf", "firmware.map", "sizes.json", "libsmall_net.a", "firmware/small_net.h",
            "firmware/small_net.c", "firmware/small_net_golden.h", "firmware/example_main.c",
            "firmware/CMakeLists.txt", "firmware/zephyr/module.yml", "firmware/zephyr/Kconfig",
            "firmware/zephyr/CMakeLists.txt", "firmware/plan.txt"} <= names
    costs = costs_in(program)
    assert costs["arena_bytes"].value < costs["ram_bytes"].value
    assert costs["model_bytes"].value < costs["flash_bytes"].value
    assert {value.source for value in costs.values()} == {"measured"}


def test_the_same_model_gives_the_same_bytes(program, quantized, tmp_path):
    assert digest_of(built(M3, tmp_path / "again", quantized) / "ship") == digest_of(program / "ship")


def test_the_delivered_folder_is_a_cmake_project_whose_example_passes(program, tmp_path):
    folder = shutil.copytree(program / "ship/firmware", tmp_path / "firmware")
    made(folder, tmp_path / "build")
    assert subprocess.run([tmp_path / "build/small_net_example"], check=False).returncode == 0


def test_two_networks_live_in_one_program(program, quantized, tmp_path):
    shutil.copytree(program / "ship/firmware", tmp_path / "one")
    other = built(replace(M3, model="other"), tmp_path / "program", quantized)
    shutil.copytree(other / "ship/firmware", tmp_path / "two")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(both C)\n"
        "add_subdirectory(one)\nadd_subdirectory(two)\n"
        "add_executable(both main.c)\ntarget_link_libraries(both small_net other)\n")
    (tmp_path / "main.c").write_text(
        '#include "other.h"\n#include "small_net.h"\n#include "small_net_golden.h"\n#include <string.h>\n'
        "int main(void) {\n  int8_t a[10], b[10];\n  small_net_invoke(small_net_golden_inputs, a);\n"
        "  other_invoke(small_net_golden_inputs, b);\n"
        "  return memcmp(a, b, 10) || memcmp(a, small_net_golden_outputs, 10);\n}\n")
    made(tmp_path, tmp_path / "build")
    assert subprocess.run([tmp_path / "build/both"], check=False).returncode == 0


def test_zephyrs_build_is_told_of_files_that_are_there(program, tmp_path):
    """A stand-in for Zephyr's CMake functions: it collects what they are called with."""
    folder = program / "ship/firmware"
    (tmp_path / "stub.cmake").write_text(
        "set(CONFIG_EDGEQ_SMALL_NET y)\n" + "".join(
            f"function(zephyr_{name})\n  message(STATUS \"{name}:${{ARGV}}\")\nendfunction()\n"
            for name in ("include_directories", "library_named", "library_sources",
                         "library_compile_options", "library_include_directories"))
        + f"include({folder}/zephyr/CMakeLists.txt)\n", encoding="utf-8")
    told = subprocess.run(["cmake", "-P", tmp_path / "stub.cmake"],
                          capture_output=True, text=True, check=True)
    listed = told.stdout.partition("library_sources:")[2].splitlines()[0].split(";")
    assert len(listed) >= 3
    assert all((folder / "zephyr" / path).exists() for path in listed)
    assert "library_named:small_net" in told.stdout


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_have_nothing_to_complain_of(program, tmp_path, compiler):
    folder = shutil.copytree(program / "ship/firmware", tmp_path / "firmware")
    finished = subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c",
         *(file.name for file in folder.glob("*.c"))],
        cwd=folder, capture_output=True, text=True, check=False)
    assert finished.stderr == ""


EXTENSIONS = {"cortex-m4": "the DSP instructions", "cortex-m55": "Helium (MVE)"}


@pytest.mark.parametrize(("core", "architecture"), [
    ("cortex-m4", "thumbv7em"), ("cortex-m55", "thumbv8.1m.main")])
def test_clang_takes_the_fast_kernels_too(quantized, tmp_path, core, architecture):
    backend = Firmware(core, CORES[core], flash="256KiB", ram="16KiB")
    folder = built(backend, tmp_path / "program", quantized) / "ship/firmware"
    assert (folder / "model_fast.S").exists()
    for file in [*folder.glob("*.c"), *folder.glob("*.S")]:
        subprocess.run(
            ["clang", f"--target={architecture}-none-eabi", f"-mcpu={core}", "-mfloat-abi=hard",
             "-isystem", "/usr/lib/arm-none-eabi/include", "-std=c99", "-Wall", "-Wextra", "-Wpedantic",
             "-Werror", "-c", file.name, "-o", tmp_path / "object.o"], cwd=folder, check=True)
    other = subprocess.run(
        ["clang", "--target=thumbv6m-none-eabi", "-mcpu=cortex-m0", "-c", "model_fast.S", "-o", "object.o"],
        cwd=folder, capture_output=True, text=True, check=False)
    assert re.findall("error: (.*)", other.stderr) == [
        f'"model is for cores with {EXTENSIONS[core]}: build it for yours"']


@pytest.mark.parametrize(("core", "board"), CORES.items())
@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_every_core_computes_what_tflm_computes(quantized, tmp_path, core, board, kernels):
    backend = Firmware(core, board, flash="256KiB", ram="16KiB", kernels=kernels)
    program = built(backend, tmp_path / "program", quantized)
    given, wanted = drawn(quantized)
    emulation = qemu.Emulation(BOARDS[board], given[0].nbytes, wanted[0].nbytes)
    emulated = qemu.run(program / "ship/firmware.elf", given.tobytes(), emulation)
    np.testing.assert_array_equal(np.frombuffer(emulated.outputs, np.int8).reshape(wanted.shape), wanted)
    assert 0 < emulated.stack_bytes < 1024


@pytest.mark.parametrize("seed", range(3000, 3006))
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_random_graphs_by_the_fast_kernels_compute_what_tflm_computes(tmp_path, core, seed):
    net, last = random_net(seed)
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    (quantized / "model.tflite").write_bytes(net.file(last))
    program = built(Firmware(core, CORES[core], "1MiB", "1MiB"), tmp_path / "program", quantized)
    given, wanted = drawn(quantized)
    emulation = qemu.Emulation(BOARDS[CORES[core]], given[0].nbytes, wanted[0].nbytes)
    emulated = qemu.run(program / "ship/firmware.elf", given.tobytes(), emulation)
    np.testing.assert_array_equal(np.frombuffer(emulated.outputs, wanted.dtype).reshape(wanted.shape), wanted)


@pytest.mark.parametrize(("given", "told"), [
    ({"flash": "4KiB"}, r"bytes of flash and the target has 4096: \d+ bytes too much \(the largest: "),
    ({"ram": "3KiB"}, (r"bytes of RAM and the target has 3072: \d+ bytes too much "
                      r"\(the largest: output of 0 CONV_2D 1152")),
])
def test_a_model_that_does_not_fit_is_refused_by_how_much(quantized, tmp_path, given, told):
    with pytest.raises(Refused, match=told):
        built(replace(M3, **given), tmp_path / "program", quantized)


@pytest.mark.parametrize(("given", "told"), [
    ({"core": "cortex-m5"}, "core: nothing is known of 'cortex-m5'; did you mean"),
    ({"board": "mps2"}, "board: nothing is known of 'mps2'"),
    ({"flash": "much"}, "flash, ram and stack are sizes: 'much' is not a number"),
    ({"flash": "8MiB"}, "more than the"),
])
def test_a_wrong_target_is_told(quantized, tmp_path, given, told):
    with pytest.raises(ConfigError, match=told):
        built(replace(M3, **given), tmp_path / "program", quantized)


def test_a_float_model_is_refused(store, tmp_path):
    floats = store.path(demo.quantized(store, Float32()))
    with pytest.raises(Refused, match="nothing in it is quantized"):
        built(M3, tmp_path / "program", floats)


@pytest.mark.parametrize(("missing", "install"), [
    ("arm-none-eabi-gcc", "gcc-arm-none-eabi"), ("qemu-system-arm", "qemu-system-arm")])
def test_a_missing_tool_is_named_with_what_to_install(monkeypatch, tmp_path, missing, install):
    monkeypatch.setenv("PATH", str(tmp_path))
    maker = M3 if missing.endswith("gcc") else QemuCortexM("mps2-an385", "25MHz")
    with pytest.raises(ToolError, match=missing) as raised:
        maker.tools()
    assert f"apt-get install {install}" in raised.value.hint


def test_a_wrong_place_of_cmsis_nn_fails_its_job_alone(edgeq, edit, project):
    (project / "targets/library").mkdir(parents=True)
    (project / "targets/library/target.yaml").write_text(
        "description: a Cortex-M4 whose kernels are those of CMSIS-NN\nprecisions: [int8]\n"
        "backend: {name: firmware, core: cortex-m4, board: mps2-an386, flash: 1MiB, ram: 256KiB, "
        "kernels: cmsis-nn}\nrunner: {name: qemu-cortex-m, board: mps2-an386, clock: 1MHz}\n")
    edit("pipeline.yaml", DEMO_TARGETS, "[library, host]")
    text = (project / "pipeline.yaml").read_text().partition("  - {metric: arena_bytes")[0]
    (project / "pipeline.yaml").write_text(text)
    finished = edgeq("build", env={"CMSIS_NN_ROOT": "/nowhere"})
    assert finished.returncode == 3
    assert "$CMSIS_NN_ROOT names /nowhere, which is no folder" in finished.stdout
    library, host = json.loads((project / "build/report.json").read_text())["results"]
    assert (library["error"]["kind"], host["passed"]) == ("tool", True)
    assert "which is no folder" in edgeq("doctor", env={"CMSIS_NN_ROOT": "/nowhere"}).stdout


def test_the_runner_sees_that_all_agree_and_says_what_it_costs(store, tmp_path):
    backend = Firmware("cortex-m4", "mps2-an386", flash="256KiB", ram="64KiB")
    program = built(backend, tmp_path / "program", store.path(demo.quantized(store)))
    samples = store.path(demo.samples(store, "evaluation", 50))
    runner = QemuCortexM("mps2-an386", "100MHz", cycles_per_instruction=1.5, basis="made up",
                         power_mw=30, power_source="a guess", samples=5)
    out = tmp_path / "out"
    out.mkdir()
    runner.run(out, program, samples)
    costs = costs_in(out)
    assert costs["instructions"].n == 5
    assert costs["instructions"].source == "simulated"
    assert costs["latency_ms"].value == pytest.approx(costs["instructions"].value * 1.5 / 1e5)
    assert costs["energy_uj"].value == pytest.approx(costs["latency_ms"].value * 30)
    assert (costs["latency_ms"].source, costs["latency_ms"].basis) == ("estimated", "made up")
    told = json.loads((out / "details/emulation.json").read_text())
    assert told["same_as_tflm_on"] == 50
    assert sum(step["instructions"] for step in told["steps"]) == pytest.approx(
        costs["instructions"].value, rel=0.05)
    again = tmp_path / "again"
    again.mkdir()
    runner.run(again, program, samples)
    assert costs_in(again) == costs


def test_a_firmware_that_computes_something_else_is_told(quantized, program, tmp_path):
    """Its weights are changed after it was linked, as a broken compiler might."""
    broken = shutil.copytree(program, tmp_path / "broken")
    clear_dense_weights(broken / "ship/firmware.elf", quantized)
    samples = tmp_path / "samples"
    samples.mkdir()
    np.save(samples / "x.npy", np.random.default_rng(0).normal(size=(5, 12, 12, 4)).astype(np.float32))
    with pytest.raises(ToolError, match="the firmware on mps2-an385 computes something else"):
        QemuCortexM("mps2-an385", "25MHz").run(tmp_path, broken, samples)


def test_the_equality_chain_names_the_first_operator_that_differs(quantized, tmp_path):
    program = built(replace(M3, traced=True), tmp_path / "program", quantized)
    chain = looked(tmp_path / "well", quantized, program)
    assert chain.exact
    assert [link.name for link in chain.links] == ["TFLM", "host build", "firmware on mps2-an385"]
    assert [each.name for each in chain.links[1].operators] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"]
    clear_dense_weights(program / "ship/firmware.elf", quantized)
    chain = looked(tmp_path / "badly", quantized, program)
    assert not chain.exact
    assert chain.links[1].first is None
    assert (chain.links[2].first.index, chain.links[2].first.name) == (2, "FULLY_CONNECTED")


@pytest.mark.parametrize("name", [
    "keyword_spotting/kws_ref_model", "visual_wake_words/vww_96_int8",
    "image_classification/pretrainedResnet_quant", "anomaly_detection/ad01_int8"])
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_mlperf_tiny_is_computed_bit_for_bit(bench, tmp_path, name, core):
    folder = tmp_path / "quantized"
    folder.mkdir()
    shutil.copyfile(bench / f"models/mlperf_tiny/{name}.tflite", folder / "model.tflite")
    backend = Firmware(core, CORES[core], flash="1MiB", ram="256KiB")
    program = built(backend, tmp_path / "program", folder)
    samples = tmp_path / "samples"
    samples.mkdir()
    source = read(folder / "model.tflite").tensors[0]
    given = np.random.default_rng(0).integers(-128, 128, (20, *source.shape[1:]))
    real = (given - source.grid.zero_points[0]) * source.grid.scales[0]
    np.save(samples / "x.npy", real.astype(np.float32))
    QemuCortexM(CORES[core], "120MHz", samples=10).run(tmp_path, program, samples)
    told = json.loads((tmp_path / "details/emulation.json").read_text())
    assert told["same_as_tflm_on"] == 20
    costs = costs_in(program)
    arena = (program / "ship/firmware/plan.txt").read_text().split()
    assert costs["arena_bytes"].value <= 1.05 * int(arena[6])


def clear_dense_weights(elf, quantized):
    """Make the weights of the third operator zero in a firmware of portable kernels."""
    graph, content = read(quantized / "model.tflite"), elf.read_bytes()
    weights = graph.tensors[graph.operators[2].inputs[1]].data.tobytes()
    assert content.count(weights) == 1
    elf.write_bytes(content.replace(weights, bytes(len(weights))))


def drawn(quantized):
    """Inputs, and what TFLM makes of them."""
    model = quantized / "model.tflite"
    graph = read(model)
    source = graph.tensors[graph.inputs[0]]
    bounds = np.iinfo(source.dtype.lower())
    given = np.random.default_rng(1).integers(
        bounds.min, bounds.max, (5, *source.shape), bounds.dtype, endpoint=True)
    return given, tflm_outputs(model, given)[0]


def looked(out, quantized, program):
    out.mkdir()
    Parity(samples=4, board="mps2-an385").look(out, quantized, program, None)
    return read_chain(out)


def made(folder, build):
    subprocess.run(["cmake", "-S", folder, "-B", build], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)


def test_rp2040js_counts_the_cycles_of_the_same_firmware(quantized, tmp_path):
    if rp2040js.installed() is None:
        pytest.skip("rp2040js or Node is not here: script/setup installs it where npm is")
    backend = Firmware("cortex-m0plus", "mps2-an385", flash="2MiB", ram="264KiB")
    program = built(backend, tmp_path / "program", quantized)
    given, wanted = drawn(quantized)
    timed = rp2040js.timed(rp2040js.installed(), program / "ship/firmware.elf", given.tobytes(), 60)
    np.testing.assert_array_equal(np.frombuffer(timed.outputs, np.int8).reshape(wanted.shape), wanted)
    emulation = qemu.Emulation(BOARDS["mps2-an385"], given[0].nbytes, wanted[0].nbytes,
                               counting="instructions")
    counted = qemu.run(program / "ship/firmware.elf", given.tobytes(), emulation).counts.samples
    for cycles, count in zip(timed.cycles, counted, strict=True):
        assert 1.2 < cycles / count.instructions < 1.6


def test_where_the_instructions_go_is_said_in_the_report(edgeq, project):
    finished = edgeq("build", "--target", "cortex-m4")
    assert finished.returncode == 0, finished.stderr
    assert "most instructions go to 10 CONV_2D" in finished.stdout
    result = json.loads((project / "build/report.json").read_text())["results"][0]
    assert result["metrics"]["latency_ms"]["basis"].startswith("cycles")
    assert {"instructions", "flash_bytes", "ram_bytes", "arena_bytes"} <= result["metrics"].keys()
    shipped = {artifact["path"].rpartition("/")[2] for artifact in result["artifacts"]}
    assert {"firmware.elf", "libfashion.a", "emulation.json", "plan.txt"} <= shipped


def test_parity_on_the_command_line(edgeq, project):
    finished = edgeq("parity", "models/fashion", "--target", "cortex-m55", "--samples", "3")
    assert finished.returncode == 0, finished.stderr
    assert "host build -> firmware on mps3-an547: equal bit for bit in 3 samples" in finished.stdout
    interpreters = edgeq("parity", "models/fashion/model.keras", "--target", "tflm", "--json")
    assert [link["name"] for link in json.loads(interpreters.stdout)["links"]] == ["TFLM"]


@pytest.mark.parametrize(("words", "told"), [
    (("models/none", "--target", "cortex-m4"), "there is no models/none"),
    (("models/fashion", "--target", "cortex-m5"), "unknown target 'cortex-m5'; did you mean"),
    (("pipeline.yaml", "--target", "cortex-m4"), "no frontend reads pipeline.yaml"),
])
def test_parity_tells_what_is_wrong(edgeq, words, told):
    finished = edgeq("parity", *words)
    assert finished.returncode == 2
    assert told in finished.stderr
