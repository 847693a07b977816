"""NNAPI: what its delegate takes by Android's API level, and the backend that tells it with the model."""

from __future__ import annotations

import json
from dataclasses import replace

import demo
import numpy as np
import pytest
from conftest import ROOT
from test_lint import Sketch, integers, one, values, weights

from edgeq.backends.nnapi import Nnapi
from edgeq.errors import ConfigError
from edgeq.lint import Rules, as_json, as_sarif, as_table, as_text, lint, read_rules
from edgeq.program import costs_in
from edgeq.quantization import notes_in
from edgeq.recipes.float32 import Float32
from edgeq.target import find

OPERATORS = ROOT / "targets/android-nnapi/operators.yaml"
LEVEL_6 = 1000006
IMAGE, FLOATS = values(1, 8, 8, 4), values(1, 8, 8, 4, dtype="FLOAT32")
BYTES = values(1, 8, 8, 4, dtype="UINT8")
FILTER, BIAS = weights(4, 3, 3, 4), integers(0, 0, 0, 0)


@pytest.fixture(scope="module")
def known():
    found, document = read_rules(OPERATORS)
    assert document.problems == []
    return found


def reasons(known, graph, api_level=34):
    found = lint(graph, replace(known, api_level=api_level))
    return [(each.rule, each.reason) for each in found.left]


def test_the_rules_are_those_of_the_delegate(known):
    assert len(known.operators) == 94
    assert known.max_pieces == 3
    assert {each.min_api for each in known.operators.values()} == {27, 28, 29, 30, 1000006, 1000007}


@pytest.mark.parametrize("graph", [
    one("ADD", IMAGE, IMAGE, fusedActivationFunction=1),
    one("CONV_2D", IMAGE, FILTER, BIAS, dilationWFactor=2),
    one("CONV_2D", IMAGE, weights(4, 3, 3, 4, scales=4), BIAS),
    one("AVERAGE_POOL_2D", IMAGE, filterWidth=16, filterHeight=16),
    one("AVERAGE_POOL_2D", FLOATS, filterWidth=33, filterHeight=33),
    one("QUANTIZE", FLOATS, output=IMAGE),
    one("SPLIT", integers(3), IMAGE, output=values(1, 8, 8, 2)),
    one("UNPACK", IMAGE, output=values(1, 8, 4), axis=1),
], ids=lambda graph: graph.operators[0].name)
def test_what_is_taken(known, graph):
    assert reasons(known, graph) == []


@pytest.mark.parametrize(("graph", "rule", "why"), [
    (one("CUSTOM:Mine", IMAGE), "unsupported", "NNAPI has no CUSTOM:Mine"),
    (one("ADD", IMAGE, IMAGE, version=3), "operator-version", "it is version 3; up to 2 is taken"),
    (one("ADD", values(1, 1, 1, 1, 2), IMAGE), "tensor-rank", "'t0' is 1x1x1x1x2: 5 dimensions, not 0 or 1"),
    (one("ADD", values(1, 4, dtype="INT32"), values(1, 4, dtype="INT32"), fusedActivationFunction=1),
     "fused-activation", "it has a fused activation, and works on INT32"),
    (one("ARG_MAX", IMAGE, integers(3), output=values(1, 8, 8, dtype="INT64")), "tensor-type",
     "its output 't2' is INT64"),
    (one("ABS", IMAGE), "tensor-type", "'t0' is INT8, and not FLOAT32"),
    (one("CONV_2D", IMAGE, FILTER), "missing-input", "it has 2 inputs, not 3"),
    (one("AVERAGE_POOL_2D", IMAGE, filterWidth=33, filterHeight=33), "option",
     "its filter covers 33x33 values; up to 256 are taken"),
    (one("BATCH_TO_SPACE_ND", IMAGE, integers(2, 2), integers(0, 1, 0, 0)), "option", "'t2' is not all zero"),
    (one("CONCATENATION", IMAGE, IMAGE, fusedActivationFunction=1), "option",
     "its option fusedActivationFunction is 1"),
    (one("FULLY_CONNECTED", values(1, 8, dtype="INT16"), weights(4, 8), BIAS,
         output=values(1, 4, dtype="INT16")), "tensor-type", "its output 't3' is INT16"),
    (one("RESHAPE", IMAGE, values(2, dtype="INT32")), "constant-parameters", "'t1' is no constant"),
    (one("SLICE", IMAGE, values(4, dtype="INT64"), integers(1, 1, 1, 1)), "tensor-type",
     "'t1' is INT64, not INT32"),
    (one("SELECT", values(1, 8, dtype="BOOL"), IMAGE, IMAGE), "tensor-rank",
     "its inputs are 1x8 and 1x8x8x4, not of one shape"),
    (one("PACK", IMAGE, IMAGE, output=values(1, 8, 8, 4, 2), axis=4), "option", "it works along the axis 4"),
    (one("PACK", IMAGE, IMAGE, output=values(1, 8, 8, 4, 2), axis=-1), "option", "it works along the axis -"),
    (one("RNN", FLOATS, weights(4, 4), FLOATS, FLOATS, FLOATS), "tensor-type",
     "its weights 't1' are INT8, not FLOAT32"),
    (one("UNIDIRECTIONAL_SEQUENCE_RNN", FLOATS, weights(4, 4)), "tensor-type",
     "its weights are quantized and its activations float"),
    (one("QUANTIZE", FLOATS, output=values(1, 8, dtype="INT16")), "tensor-type",
     "its output 't1' has no scale above 0"),
    (one("BATCH_MATMUL", IMAGE, IMAGE), "api-level",
     "NNAPI has it from API level 1000006 on; this target's is 34"),
], ids=lambda given: given if isinstance(given, str) and " " not in given else "")
def test_what_is_left_at_android_14(known, graph, rule, why):
    [(found, reason)] = reasons(known, graph)
    assert found == rule
    assert reason.startswith(why)


@pytest.mark.parametrize(("graph", "below", "why"), [
    (one("ABS", FLOATS), 29, "NNAPI has it from API level 29 on"),
    (one("CONV_2D", IMAGE, FILTER, BIAS), 29, "'t0' is INT8, and not FLOAT32 or UINT8"),
    (one("CONV_2D", BYTES, weights(4, 3, 3, 4, scales=4), BIAS), 29, "its weights 't1' have 4 scales"),
    (one("CONV_2D", BYTES, weights(4, 3, 3, 2), BIAS), 29, "it is grouped"),
    (one("CONV_2D", FLOATS, FILTER, BIAS), 29, "its weights are quantized and its activations float"),
    (one("DEPTHWISE_CONV_2D", BYTES, FILTER, BIAS, dilationWFactor=2), 29, "its option dilationWFactor is 2"),
    (one("CONCATENATION", BYTES, values(1, 8, 8, 4, dtype="UINT8", zero=7)), 29,
     "its inputs have different scales"),
    (one("DEQUANTIZE", values(1, 8, zero=3), output=values(1, 8, dtype="FLOAT32")), 30,
     "the zero point of 't0' is 3, not 0"),
    (one("RESIZE_BILINEAR", FLOATS, integers(8, 16), output=values(1, 8, 16, 4, dtype="FLOAT32")), 29,
     "its output is 1x8x16x4, not as wide as high"),
    (one("RESIZE_BILINEAR", FLOATS, integers(8, 8), halfPixelCenters=True), 30,
     "its option halfPixelCenters is True"),
    (one("MUL", values(1, 4, dtype="INT32"), values(1, 4, dtype="INT32")), 30, "'t0' is INT32"),
    (one("RESHAPE", values(1, 4, dtype="INT32"), integers(4), output=values(4, dtype="INT32")), LEVEL_6,
     "'t0' is INT32"),
], ids=lambda given: "")
def test_what_older_systems_leave(known, graph, below, why):
    assert reasons(known, graph, below) == []
    [(rule, reason)] = reasons(known, graph, below - 1)
    assert rule == "api-level"
    assert reason.startswith(why)


def test_scales_of_old_systems_are_narrow(known):
    sketch = Sketch()
    places = [sketch.tensor(1, 8, 8, 4, dtype="UINT8"), sketch.weights(4, 3, 3, 4),
              sketch.integers(0, 0, 0, 0), sketch.tensor(1, 8, 8, 4, dtype="UINT8")]
    sketch.operator("CONV_2D", places[:3], places[3:])
    fine = sketch.graph()  # 0.1 * 0.1 < 0.1
    assert reasons(known, fine, 27) == []
    wide = replace(fine.tensors[1].quantization, scales=np.array([1.0], np.float32))
    tensors = (fine.tensors[0], replace(fine.tensors[1], quantization=wide), *fine.tensors[2:])
    [(rule, reason)] = reasons(known, replace(fine, tensors=tensors), 27)
    assert rule == "api-level"
    assert "its output's scale is not above" in reason


def chain(*names):
    """Operators in a row on 1x8 bytes."""
    sketch = Sketch()
    last = sketch.tensor(1, 8)
    for name in names:
        made = sketch.tensor(1, 8)
        sketch.operator(name, [last], [made])
        last = made
    return sketch.graph()


def test_the_three_largest_pieces_are_taken(known):
    cut = "ABS"  # of bytes, which NNAPI does not take
    graph = chain("RELU", cut, "RELU", "RELU", cut, "TANH", "RELU", "RELU", cut, "RELU6", "RELU6")
    found = lint(graph, replace(known, api_level=34))
    assert [each.index for each in found.operators if each.mapped] == [2, 3, 5, 6, 7, 9, 10]
    left = found.operators[0]
    assert (left.rule, left.reason) == ("small-piece", "its piece is none of the 3 largest")


def test_a_lint_warns_that_nnapi_is_deprecated_and_says_what_replaces_it(known):
    found = lint(chain("RELU"), replace(known, api_level=34))
    [warning] = found.findings
    assert (warning.rule, warning.level) == ("deprecated", "warning")
    assert "Android 15" in warning.message
    assert "CompiledModel" in warning.hint


def test_what_nobody_can_check_is_told(known):
    graph = one("MAXIMUM", IMAGE, IMAGE)
    [_, note] = lint(graph, replace(known, api_level=34)).findings
    assert note.message == "MAXIMUM: not checked: an operand that is a single value is a constant"
    assert (note.level, note.operators) == ("note", (0,))


def test_a_lint_is_shown_in_every_form_and_says_nothing_of_caches(known):
    found = lint(chain("RELU", "ABS", "TANH"), replace(known, api_level=34))
    assert as_table(found).splitlines() == [
        "  RELU  1 of 1", "  ABS   0 of 1  't1' is INT8, and not FLOAT32", "  TANH  1 of 1"]
    text = as_text(found, "m.tflite")
    assert text.startswith("m.tflite: 2 of 3 operators are mapped (estimated)\n"
                           f"{as_table(found)}\nwarning: NNAPI is deprecated")
    assert "cached" not in text
    assert as_json(found, "m.tflite", "t")["cached_bytes"] is None
    rules = [result["ruleId"] for result in as_sarif(found, "m.tflite", "t")["runs"][0]["results"]]
    assert rules == ["deprecated", "tensor-type"]


@pytest.mark.parametrize(("text", "complaint"), [
    ("operators: {ADD: {types: [FLOAT32]}}", "'min_api' is missing"),
    ("operators: {ADD: {min_api: 27, typs: [FLOAT32]}}", "did you mean 'types'?"),
    ("operators: {ADD: {min_api: 27, below: {29: {rank: [4]}}}}", "did you mean 'ranks'?"),
    ("operators: {ADD: {min_api: 27, below: {old: {}}}}", "'old' is no API level"),
    ("operators: {}\nmore: 1", "unknown key 'more'"),
])
def test_mistakes_in_the_rules_are_told_with_their_line(tmp_path, text, complaint):
    file = tmp_path / "operators.yaml"
    file.write_text(f"delegate: NNAPI\nsources: {{}}\nmax_pieces: 3\n{text}\n")
    rules, document = read_rules(file)
    assert rules is None
    assert any(complaint in problem and f"{file}:" in problem for problem in document.problems)


def test_the_backend_ships_the_model_and_tells_what_nnapi_takes(store):
    target = find(ROOT, "android-nnapi")
    program = store.path(store.make(target.backend.compile, demo.quantized(store)))
    ratio = costs_in(program)["mapped_ops_ratio"]
    found = json.loads((program / "lint.json").read_text())
    assert (ratio.value, ratio.source) == (found["mapped"] / found["total"], "estimated")
    shipped, quantized = program / "ship/model.tflite", store.path(demo.quantized(store)) / "model.tflite"
    assert shipped.read_bytes() == quantized.read_bytes()
    table, warning = notes_in(program)
    assert table.startswith(f"NNAPI at API level 34 takes {found['mapped']} of {found['total']} operators "
                            "(estimated):\n  CONV_2D ")
    assert warning.startswith("warning: NNAPI is deprecated since Android 15")


def test_an_older_phone_takes_less_of_the_same_model(store):
    backend = find(ROOT, "android-nnapi").backend
    ratios = [costs_in(store.path(store.make(replace(backend, api_level=level).compile, demo.quantized(
        store))))["mapped_ops_ratio"].value for level in (26, 28, 29, 34)]
    assert ratios[0] == 0
    assert ratios == sorted(ratios)
    assert ratios[1] < ratios[2] <= ratios[3]


def test_a_float_model_is_taken_too(store):
    backend = find(ROOT, "android-nnapi").backend
    program = store.path(store.make(backend.compile, demo.quantized(store, Float32())))
    assert costs_in(program)["mapped_ops_ratio"].value > 0.9


def test_a_target_without_the_rules_of_a_delegate_is_a_mistake_in_its_file(tmp_path):
    for operators in (Rules(), read_rules(ROOT / "targets/edgetpu/operators.yaml")[0]):
        with pytest.raises(ConfigError, match="has no rules for what NNAPI takes"):
            Nnapi(34, operators).compile(tmp_path, tmp_path)


def test_the_rules_of_a_delegate_are_none_for_a_compiler(edgeq, project):
    (project / "targets/mixed").mkdir(parents=True)
    (project / "targets/mixed/operators.yaml").write_text(OPERATORS.read_text())
    text = (ROOT / "targets/edgetpu/target.yaml").read_text()
    (project / "targets/mixed/target.yaml").write_text(text)
    model = project / "m.tflite"
    model.write_bytes(b"")
    ran = edgeq("lint", model, "--target", "mixed")
    assert ran.returncode == 2
    assert "m.tflite is empty" in ran.stderr


def test_lint_on_the_command_line_knows_the_api_level_of_the_target(edgeq, store):
    model = store.path(demo.quantized(store)) / "model.tflite"
    ran = edgeq("lint", model, "--target", "android-nnapi", "--format", "json")
    found = json.loads(ran.stdout)
    assert ran.returncode == (0 if found["mapped"] == found["total"] else 1)
    assert found["mapped"] > 0
