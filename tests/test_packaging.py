"""What an engineer takes beside a program: it compiles, it is the model, and it says how to feed it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from firmware_nets import Net

from edgeq.backends.litert import Litert
from edgeq.baseline import End, write_ends
from edgeq.errors import ToolError
from edgeq.interpret import tflm_outputs
from edgeq.measurement import value_of
from edgeq.packaging import Package, is_micro
from edgeq.packaging.feeding import fed_tflite
from edgeq.packaging.glue import Shipped
from edgeq.packaging.pte_operators import operators_in
from edgeq.packaging.resolver import CUSTOMS, IRREGULAR, REGULAR, method
from edgeq.packaging.tflm import texts
from edgeq.program import COSTS, OUTPUTS, SHIP, write_costs
from edgeq.runners.tflm import Tflm
from edgeq.target import all_of

STANDINS = Path(__file__).parent / "standins"
NAME = "small_Unet"  # small_net as a C identifier
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, check=False)


def see_compiled(*words: str | Path, cwd: Path) -> None:
    done = run(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a program, of its outputs, of samples, and of the package that follows from them."""
    root = tmp_path_factory.mktemp("packaging")
    folders = [root / name for name in ("quantized", "program", "evaluation", "outputs", "package")]
    for folder in folders:
        folder.mkdir()
    quantized, program, evaluation, outputs, package = folders
    net = Net([1, 12, 12, 4], 3)
    value = net.conv("in", 8, (3, 3), options={"padding": "SAME", "activation": "relu"})
    value = net.conv(value, 1, (3, 3), kind="DEPTHWISE_CONV_2D", options={"padding": "SAME"})
    net.add("SOFTMAX", net.dense(value, 10), [1, 10], {"scale": 1 / 256, "zero": -128}, beta=1.0)
    (quantized / "model.tflite").write_bytes(net.file())
    Litert().compile(program, quantized)
    scale = float(fed_tflite(quantized / "model.tflite").source.scale or 1)
    samples = np.random.default_rng(1).normal(0, 60 * scale, (7, 12, 12, 4))
    np.save(evaluation / "x.npy", samples.astype("float32"))
    Tflm().run(outputs, program, evaluation)
    Package("small_net", micro=True).pack(package, program, outputs, evaluation)
    return root


@pytest.fixture(scope="module")
def firmware(made: Path) -> Path:
    return made / "package/firmware"


def test_all_that_is_promised_is_there(made, firmware):
    assert {file.relative_to(made / "package").as_posix()
            for file in (made / "package").rglob("*") if file.is_file()} == {"model.json"} | {
        f"firmware/{name}" for name in (
            f"{NAME}_model_data.c", f"{NAME}_model.h", f"{NAME}_golden.h", f"{NAME}_resolver.h",
            "example_main.cc", "CMakeLists.txt", "zephyr/CMakeLists.txt", "zephyr/Kconfig",
            "zephyr/module.yml")}
    assert f"CONFIG_EDGEQ_{NAME.upper()}" in (firmware / "zephyr/CMakeLists.txt").read_text()
    assert f"config EDGEQ_{NAME.upper()}\n" in (firmware / "zephyr/Kconfig").read_text()


# The array


def test_the_array_is_the_model_aligned_as_interpreters_want_it(made, firmware, tmp_path):
    (tmp_path / "main.c").write_text(f"""\
#include "{NAME}_model.h"
#include <stdio.h>
int main(void) {{
  if ((uintptr_t){NAME}_model_data % 16u != 0u || {NAME}_model_bytes != {NAME}_MODEL_BYTES) return 1;
  return fwrite({NAME}_model_data, 1, {NAME}_model_bytes, stdout) == {NAME}_model_bytes ? 0 : 1;
}}
""", encoding="utf-8")
    see_compiled("gcc", "-std=c99", *STRICT, f"-I{firmware}", "main.c", firmware / f"{NAME}_model_data.c",
                 "-o", "main", cwd=tmp_path)
    done = run("./main", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (made / "program/ship/model.tflite").read_bytes()


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_it_compiles_for_microcontrollers_and_lies_in_flash(made, firmware, tmp_path, core):
    see_compiled("arm-none-eabi-gcc", f"-mcpu={core}", "-mthumb", "-std=c99", *STRICT, "-c",
                 firmware / f"{NAME}_model_data.c", "-o", tmp_path / "data.o", cwd=tmp_path)
    sections = run("arm-none-eabi-size", "-A", "data.o", cwd=tmp_path).stdout.decode().split()
    sizes = {name: int(sections[i + 1]) for i, name in enumerate(sections) if name.startswith(".")}
    model = (made / "program/ship/model.tflite").stat().st_size
    assert sizes[".rodata"] == model + 4
    assert sizes[".data"] == sizes[".bss"] == 0


def test_cmake_builds_the_library(firmware, tmp_path):
    see_compiled("cmake", "-S", firmware, "-B", tmp_path / "out", cwd=tmp_path)
    see_compiled("cmake", "--build", tmp_path / "out", cwd=tmp_path)
    assert (tmp_path / f"out/lib{NAME}.a").is_file()


# The header


def test_the_header_says_how_to_feed_it(made, firmware):
    feed = fed_tflite(made / "program/ship/model.tflite")
    text = (firmware / f"{NAME}_model.h").read_text(encoding="utf-8")
    for line in (f"#define {NAME}_INPUT_SHAPE {{1, 12, 12, 4}}", f"#define {NAME}_INPUT_ELEMENTS 576u",
                 f"typedef int8_t {NAME}_INPUT_t;", f"#define {NAME}_INPUT_SCALE {feed.source.scale:.8e}f",
                 f"#define {NAME}_INPUT_ZERO_POINT ({feed.source.zero_point})",
                 f"#define {NAME}_OUTPUT_ELEMENTS 10u", f"#define {NAME}_OUTPUT_SCALE 3.90625000e-03f"):
        assert f"{line}\n" in text


def test_the_arena_is_what_tflm_took_and_says_where(made, firmware):
    took = json.loads((made / "outputs" / COSTS).read_text(encoding="utf-8"))["arena_bytes"]["value"]
    text = (firmware / f"{NAME}_model.h").read_text(encoding="utf-8")
    [stated] = [int(line.split()[2].rstrip("u")) for line in text.splitlines() if "_ARENA_BYTES " in line
                and line.startswith("#define")]
    assert took <= stated < took + 16
    assert "64-bit host" in text
    assert "arena_used_bytes()" in text


def test_model_json_says_it_for_programs(made):
    told = json.loads((made / "package/model.json").read_text(encoding="utf-8"))
    assert (told["schema"], told["model"], told["file"]) == ("edgeq-model/1", "small_net", "model.tflite")
    assert told["operators"] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"]
    [output] = told["outputs"]
    assert (output["shape"], output["type"], output["scale"], output["zero_point"]) == (
        [1, 10], "INT8", 1 / 256, -128)


# Golden vectors, the resolver, the example


def values(text: str, array: str) -> np.ndarray:
    """The numbers of an array in a header."""
    body = text.partition(f"{array}[")[2].partition("{")[2].partition("}")[0]
    return np.array([int(word) for word in body.replace("\n", " ").split(",") if word.strip()], np.int8)


def test_golden_vectors_are_samples_and_what_tflm_makes_of_them(made, firmware):
    text = (firmware / f"{NAME}_golden.h").read_text(encoding="utf-8")
    assert f"#define {NAME}_GOLDEN 4u\n" in text
    inputs = values(text, f"{NAME}_golden_inputs").reshape(4, 1, 12, 12, 4)
    assert len(np.unique(inputs)) > 50
    outputs = tflm_outputs(made / "program/ship/model.tflite", inputs)[0]
    np.testing.assert_array_equal(values(text, f"{NAME}_golden_outputs"), outputs.reshape(-1))


def test_the_resolver_has_exactly_the_operators(firmware):
    text = (firmware / f"{NAME}_resolver.h").read_text(encoding="utf-8")
    assert "tflite::MicroMutableOpResolver<4>" in text
    assert [line.split(".")[1].split("(")[0] for line in text.splitlines() if "resolver.Add" in line] == [
        "AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddSoftmax"]


@pytest.mark.parametrize("flaw", [0, 1])
def test_the_example_runs_the_golden_vectors(firmware, tmp_path, flaw):
    """By an interpreter that answers right, and by one that errs in a bit of the second output."""
    (tmp_path / "answer.cc").write_text(f"""\
#include "{NAME}_golden.h"
#include <cstring>
#include <cstddef>
size_t standin_answer(const char *in, char *out);
size_t standin_answer(const char *in, char *out) {{
  static size_t i = 0;
  if (memcmp(in, &{NAME}_golden_inputs[i * {NAME}_INPUT_ELEMENTS], {NAME}_INPUT_ELEMENTS) != 0) return 0;
  memcpy(out, &{NAME}_golden_outputs[i * {NAME}_OUTPUT_ELEMENTS], {NAME}_OUTPUT_ELEMENTS);
  if (i == 1) out[3] = static_cast<char>(out[3] ^ {flaw});
  i++;
  return 1;
}}
""", encoding="utf-8")
    see_compiled("gcc", "-c", firmware / f"{NAME}_model_data.c", "-o", "data.o", cwd=tmp_path)
    see_compiled("g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{firmware}", f"-I{STANDINS}",
                 firmware / "example_main.cc", "answer.cc", "data.o", "-o", "example", cwd=tmp_path)
    assert run("./example", cwd=tmp_path).returncode == flaw


def test_every_operator_of_the_list_is_a_method_that_there_is(tmp_path):
    known = {line[len("METHOD("):-1] for line in
             (STANDINS / "tensorflow/lite/micro/methods.inc").read_text(encoding="utf-8").splitlines()}
    found = [method(name) for name in (*REGULAR, *IRREGULAR, *(f"CUSTOM:{name}" for name in CUSTOMS))]
    assert {each.removeprefix("Add") for each in found if each} == known
    assert method("CONV_3D") is method("CUSTOM:mine") is None


def packed(operators: tuple[str, ...], made: Path, costs: dict | None = None) -> dict[str, str]:
    """The texts of a package of a model with these operators."""
    feed = fed_tflite(made / "program/ship/model.tflite")
    given = Shipped("net", b"model", type(feed)("m.tflite", "0" * 64, feed.source, feed.sink, operators),
                    costs or {}, (np.zeros((1, 576), np.int8), np.zeros((1, 10), np.int8)))
    return texts(given)


def test_an_npu_has_its_one_operator_and_velas_memory(made, tmp_path):
    ram = {"ram_bytes": value_of("ram_bytes", 10001, "simulated")}
    told = packed(("CUSTOM:ethos-u",), made, ram)
    assert "resolver.AddEthosU()" in told["net_resolver.h"]
    assert "MicroMutableOpResolver<1>" in told["net_resolver.h"]
    assert "(10016u + net_INTERPRETER_BYTES)" in told["net_model.h"]
    assert "by Vela (simulated)" in told["net_model.h"]


@pytest.mark.parametrize("name", ["CONV_3D", 'CUSTOM:"\n#include "/etc/passwd"\n//\\'])
def test_what_tflm_has_no_kernel_for_stops_the_compiler_by_name(made, tmp_path, name):
    text = packed(("CONV_2D", name), made)["net_resolver.h"]
    assert not [line for line in text.splitlines() if line.startswith("#include") and "/micro/" not in line]
    (tmp_path / "resolver.cc").write_text(text, encoding="utf-8")
    done = run("g++", f"-I{STANDINS}", "-fsyntax-only", "resolver.cc", cwd=tmp_path)
    assert done.returncode != 0
    assert "TensorFlow Lite Micro has no kernel for C" in done.stderr.decode()


def test_an_arena_that_is_not_known_is_not_made_up(made):
    text = packed(("CONV_2D",), made)["net_model.h"]
    assert "#define net_ARENA_BYTES" not in text
    assert "is not known" in text


# Which target gets what


def test_phones_and_boards_get_model_json_alone(made, tmp_path):
    Package("small_net").pack(tmp_path, made / "program", made / "outputs", made / "evaluation")
    assert [file.name for file in tmp_path.rglob("*")] == ["model.json"]


def test_what_ships_no_model_has_a_package_of_its_own(tmp_path):
    for name in ("program/ship/firmware", "package"):
        (tmp_path / name).mkdir(parents=True)
    Package("net", micro=True).pack(tmp_path / "package", tmp_path / "program", tmp_path, tmp_path)
    assert not [*(tmp_path / "package").iterdir()]


def test_a_target_is_one_for_microcontrollers_by_its_interpreter():
    micro = {target.name for target in all_of(Path()) if is_micro(target.backend, target.runner)}
    assert micro >= {"tflm", "ethos-u55-128", "ethos-u85-256", "executorch-ethos-u55-128"}
    assert not micro & {"host", "rpi4", "android-nnapi", "edgetpu", "executorch-xnnpack", "cortex-m4"}


def test_the_same_is_packed_again(made, tmp_path):
    Package("small_net", micro=True).pack(tmp_path, made / "program", made / "outputs", made / "evaluation")
    for file in (made / "package").rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / file.relative_to(made / "package")).read_bytes()


# ExecuTorch


@pytest.fixture(scope="module")
def pte() -> bytes:
    """A .pte of ExecuTorch's own portable kernels."""
    import torch

    from edgeq.exported.lowering import lowered

    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x + 1.0) * x

    program = torch.export.export(Two().eval(), (torch.zeros(1, 6),))
    content: bytes = lowered(program, []).program.buffer
    return content


def test_the_operators_of_a_pte_are_those_that_executorch_reads(pte):
    from executorch.exir._serialize._program import deserialize_pte_binary

    [plan] = deserialize_pte_binary(pte).program.execution_plan
    wanted = {f"{each.name}.{each.overload}" if each.overload else each.name for each in plan.operators}
    assert set(operators_in(pte)) == wanted
    assert "aten::sigmoid.out" in wanted


def test_a_pte_is_packed_with_its_operators(pte, tmp_path):
    program, package = tmp_path / "program", tmp_path / "package"
    (program / SHIP).mkdir(parents=True)
    package.mkdir()
    (program / SHIP / "model.pte").write_bytes(pte)
    write_ends(program, End("x", (1, 6), "FLOAT32"), End("y", (1, 6), "FLOAT32"))
    write_costs(program, {"arena_bytes": value_of("arena_bytes", 96, "measured")})
    write_costs(tmp_path, {})
    samples = np.arange(12, dtype=np.float32).reshape(2, 6)
    np.save(tmp_path / "x.npy", samples)
    np.save(tmp_path / OUTPUTS, samples * 2)
    Package("net", micro=True).pack(package, program, tmp_path, tmp_path)
    operators = (package / "firmware/operators.txt").read_text(encoding="utf-8").splitlines()
    assert tuple(operators) == operators_in(pte)
    assert f'set(net_OPERATORS "{",".join(operators)}"' in (package / "firmware/CMakeLists.txt").read_text()
    header = (package / "firmware/net_model.h").read_text(encoding="utf-8")
    assert "#define net_PLANNED_BYTES 96u" in header
    assert "typedef float net_INPUT_t;" in header
    (tmp_path / "main.c").write_text("""\
#include "net_golden.h"
int main(void) { return net_golden_outputs[11] == 22.0f && net_golden_inputs[0] == 0.0f ? 0 : 1; }
""", encoding="utf-8")
    see_compiled("gcc", "-std=c99", *STRICT, f"-I{package}/firmware", "main.c",
                 package / "firmware/net_model_data.c", "-o", "main", cwd=tmp_path)
    assert run("./main", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"TFL3" * 4])
def test_what_is_no_pte_is_told(content):
    with pytest.raises(ToolError, match=r"no \.pte"):
        operators_in(content)
