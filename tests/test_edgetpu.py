"""The driver of edgetpu_compiler, against a stand-in that replays what the compiler once printed."""

import json
import os
import time
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeq import measurement, program
from edgeq.backends.edgetpu import EdgeTpu, heard, size
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.lint import Rules, read_rules
from edgeq.target import read_target

HERE = Path(__file__).parent
STANDIN = HERE / "standins" / "edgetpu_compiler.py"
LOGS = HERE / "data" / "edgetpu_logs"
TARGET = HERE.parent / "targets" / "edgetpu"
BENCH = os.environ.get("EDGEQ_BENCH")
needs_bench = pytest.mark.skipif(not BENCH, reason="EDGEQ_BENCH is not set: no compiled models here")


@pytest.fixture(scope="module")
def rules():
    found, document = read_rules(TARGET / "operators.yaml")
    assert document.problems == []
    return found


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGETPU_COMPILER", raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep)
        if not (Path(folder) / "edgetpu_compiler").exists()))


@pytest.fixture
def quantized(tmp_path):
    """Three int8 operators in a row."""
    return written(tmp_path / "quantized", ["RELU", "LOGISTIC", "TANH"])


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "a program, für später"
    folder.mkdir()
    return folder


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Let the stand-in play a log, with a compiled file of these operators."""
    def set_up(what, *compiled):
        monkeypatch.setenv("EDGETPU_STANDIN", what)
        if compiled:
            folder = written(tmp_path / "compiled", compiled)
            monkeypatch.setenv("EDGETPU_STANDIN_COMPILED", str(folder / "model.tflite"))
    return set_up


def written(folder, names, dtype="INT8", version=1):
    """A folder with model.tflite: the operators `names` in a row, on 1x4x4x8 values."""
    def tensor(index):
        made = schema.TensorT()
        made.name, made.shape, made.buffer = f"t{index}".encode(), np.array([1, 4, 4, 8], np.int32), 0
        made.type = getattr(schema.TensorType, dtype)
        if dtype == "INT8":
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.array([0.1], np.float32)
            made.quantization.zeroPoint = np.array([0], np.int64)
        return made

    def code(name):
        made, custom = schema.OperatorCodeT(), name.startswith("edgetpu")
        made.builtinCode = getattr(schema.BuiltinOperator, "CUSTOM" if custom else name)
        made.deprecatedBuiltinCode = min(made.builtinCode, 127)
        made.customCode = name.encode() if custom else None
        made.version = version
        return made

    def operator(index):
        made = schema.OperatorT()
        made.opcodeIndex = index
        made.inputs, made.outputs = np.array([index], np.int32), np.array([index + 1], np.int32)
        return made

    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [tensor(i) for i in range(len(names) + 1)]
    graph.operators = [operator(i) for i in range(len(names))]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([len(names)], np.int32)
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes = [code(name) for name in names]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    folder.mkdir()
    (folder / "model.tflite").write_bytes(bytes(builder.Output()))
    return folder


def compiler(rules, **fields):
    return EdgeTpu(operators=rules, compiler=str(STANDIN), **fields)


def test_all_mapped(rules, quantized, out, play):
    play("full_v16", "edgetpu-custom-op")
    compiler(rules).compile(out, quantized)
    costs = program.costs_in(out)
    assert costs["mapped_ops_ratio"] == measurement.value_of("mapped_ops_ratio", 1, "simulated")
    assert costs["cached_bytes"].value == round(604.5 * 1024)
    assert costs["streamed_bytes"].value == round(3.45 * 2**20)
    assert {costs[name].source for name in ("cached_bytes", "streamed_bytes")} == {"simulated"}
    assert {"model_bytes", "macs"} <= costs.keys()
    assert (out / "ship" / "model_edgetpu.tflite").read_bytes()[4:8] == b"TFL3"
    assert program.runnable_in(out).read_bytes() == (quantized / "model.tflite").read_bytes()
    assert program.notice_in(out) == ""
    assert json.loads((out / "compiler.json").read_text())["version"] == "16.0.384591198"
    assert not (out / "work").exists()


def test_the_split_is_read_from_the_file_not_from_the_log(rules, quantized, out, play):
    play("partial_v16", "edgetpu-custom-op", "LOGISTIC", "TANH")
    compiler(rules).compile(out, quantized)
    assert program.costs_in(out)["mapped_ops_ratio"].value == pytest.approx(1 / 3)


def test_success_with_zero_subgraphs_maps_nothing(rules, quantized, out, play):
    play("zero_subgraphs_v16", "RELU", "LOGISTIC", "TANH")
    compiler(rules).compile(out, quantized)
    assert program.costs_in(out)["mapped_ops_ratio"].value == 0


@pytest.mark.parametrize(("log", "reason"), [
    ("fail_large_activations_v16", "large activation tensors"),
    ("fail_dynamic_v16", "dynamic-sized tensors"),
    ("fail_version_v15", "'DEPTH_TO_SPACE' version '2'"),
    ("fail_slice_v16", "'tfl.strided_slice' op is not supported"),
])
def test_a_fault_of_the_model_is_refused_in_the_compilers_words(rules, quantized, out, play, log, reason):
    play(log)
    with pytest.raises(Refused, match=reason):
        compiler(rules).compile(out, quantized)


@pytest.mark.parametrize(("plays", "reason"), [
    ("crash", "SIGSEGV"),
    ("fail_internal_v14", "no reason"),
    ("fail_silent_v16", "no reason"),
    ("garbage", "not a .tflite"),
    ("nothing", "No such file"),
])
def test_a_fault_of_the_compiler_is_its_own(rules, quantized, out, play, plays, reason):
    play(plays)
    with pytest.raises(ToolError, match=reason) as raised:
        compiler(rules).compile(out, quantized)
    assert raised.value.exit_code == 3
    assert "stand-in" in raised.value.hint


def test_a_hanging_compiler_is_stopped(rules, quantized, out, play):
    play("hang")
    start = time.monotonic()
    with pytest.raises(ToolError, match=r"had not ended after 0\.5 s"):
        compiler(rules, timeout_s=0.5).compile(out, quantized)
    assert time.monotonic() - start < 60


def test_without_a_compiler_the_checked_model_is_shipped(rules, quantized, out):
    EdgeTpu(operators=rules).compile(out, quantized)
    costs = program.costs_in(out)
    assert costs["mapped_ops_ratio"] == measurement.value_of("mapped_ops_ratio", 1, "estimated")
    assert {costs[name].source for name in ("cached_bytes", "streamed_bytes")} == {"estimated"}
    assert [file.name for file in (out / "ship").iterdir()] == ["model.tflite"]
    assert program.runnable_in(out) == out / "ship" / "model.tflite"
    notice = program.notice_in(out)
    assert "not compiled" in notice
    assert "apt-get install edgetpu-compiler" in notice
    assert "EDGETPU_COMPILER" in notice
    assert json.loads((out / "lint.json").read_text())["mapped"] == 3


@pytest.mark.parametrize(("names", "given", "reason"), [
    (["RELU"], {"dtype": "FLOAT32"}, "quantized"),
    (["GELU"], {}, "GELU version 1: the compiler knows no such operator"),
    (["QUANTIZE"], {"version": 3}, "QUANTIZE version 3: the compiler reads it up to version 2"),
    (["edgetpu-custom-op"], {}, "compiled already"),
    (["edgetpu-other-op"], {}, "custom operator 'edgetpu-other-op'"),
])
@pytest.mark.parametrize("with_compiler", [False, True])
def test_what_the_compiler_would_not_read_is_refused_before(
    rules, tmp_path, out, play, with_compiler, names, given, reason
):
    play("crash")
    backend = compiler(rules) if with_compiler else EdgeTpu(operators=rules)
    with pytest.raises(Refused, match=reason) as raised:
        backend.compile(out, written(tmp_path / "refused", names, **given))
    assert raised.value.hint


def test_a_target_without_rules_is_a_mistake_in_its_file(quantized, out):
    with pytest.raises(ConfigError, match="no rules"):
        EdgeTpu(operators=Rules()).compile(out, quantized)


def test_the_compiler_is_found_by_setting_variable_and_path(rules, monkeypatch, tmp_path):
    assert EdgeTpu(operators=rules).tools() == ()
    assert compiler(rules).tools() == (STANDIN.resolve(),)
    monkeypatch.setenv("EDGETPU_COMPILER", str(STANDIN))
    assert EdgeTpu(operators=rules).tools() == (STANDIN.resolve(),)
    monkeypatch.delenv("EDGETPU_COMPILER")
    (tmp_path / "edgetpu_compiler").symlink_to(STANDIN)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert EdgeTpu(operators=rules).tools() == (STANDIN.resolve(),)
    with pytest.raises(ToolError, match="no program"):
        EdgeTpu(operators=rules, compiler="/nowhere/edgetpu_compiler").tools()


def test_the_target_hands_its_rules_to_the_backend(rules):
    target, document = read_target(TARGET / "target.yaml")
    assert document.problems == []
    assert target.backend == EdgeTpu(operators=rules)
    assert target.quantization == {"FULLY_CONNECTED": "per_tensor"}
    assert target.precisions == ("int8",)


@pytest.mark.parametrize(("text", "bytes_"), [
    ("3.33MiB", 3491758), ("0.00B", 0), ("604.50KiB", 619008), ("1.00GiB", 2**30), ("31", 31),
    ("", None), ("many", None), ("-1B", None),
])
def test_sizes(text, bytes_):
    assert size(text) == bytes_


def test_what_the_log_says():
    said = heard((LOGS / "partial_v16.log").read_text())
    assert (said.version, said.succeeded, said.subgraphs, said.operations) == ("16.0.384591198", True, 1, 191)
    assert (said.cached_bytes, said.streamed_bytes, said.faults) == (81920, 0, ())
    failed = heard((LOGS / "fail_dynamic_v16.log").read_text())
    assert not failed.succeeded
    assert failed.cached_bytes is None
    assert len(failed.faults) == 2


def test_the_table_of_the_log():
    statuses = heard((LOGS / "table.log").read_text()).statuses
    mapped = sum(count for _, count, status in statuses if status == "Mapped to Edge TPU")
    assert mapped == 2
    assert sum(count for _, count, _ in statuses) == 2 + 153
    assert ("TRANSPOSE", 70, "Operation not supported") in statuses


@needs_bench
def test_a_real_pair(rules, tmp_path, out, monkeypatch):
    pairs = Path(BENCH) / "models" / "coral_pairs"
    folder = tmp_path / "deeplab"
    folder.mkdir()
    name = "deeplabv3_mnv2_dm05_pascal_quant"
    (folder / "model.tflite").symlink_to(pairs / f"{name}__2021-07-26.tflite")
    monkeypatch.setenv("EDGETPU_STANDIN", "full_v16")
    monkeypatch.setenv("EDGETPU_STANDIN_COMPILED", str(pairs / f"{name}_edgetpu__2021-07-26.tflite"))
    compiler(rules).compile(out, folder)
    assert program.costs_in(out)["mapped_ops_ratio"].value == pytest.approx(64 / 72)
    assert json.loads((out / "lint.json").read_text())["mapped"] == 64
