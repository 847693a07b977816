"""The linter: real models that Google's compiler placed, and a small graph for each rule."""

import csv
import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import ConfigError
from edgeq.graph import Graph, Operator, Quantization, Tensor, read
from edgeq.lint import ADVICE, Rules, as_json, as_sarif, as_text, lint, read_rules
from edgeq.lint.parameters import cached_and_streamed, channels, filter_bytes
from edgeq.lint.placement import blocked_by, mapped, pieces

OPERATORS = Path(__file__).parent.parent / "targets" / "edgetpu" / "operators.yaml"
BENCH = os.environ.get("EDGEQ_BENCH")
needs_bench = pytest.mark.skipif(not BENCH, reason="EDGEQ_BENCH is not set: no compiled models here")
PAIRS = [*csv.DictReader((Path(BENCH) / "opmap" / "coral_pairs.csv").open())] if BENCH else []


@pytest.fixture(scope="module")
def rules():
    found, document = read_rules(OPERATORS)
    assert document.problems == []
    return found


class Sketch:
    """A graph in the making: `tensor` and `operator` give indices."""

    def __init__(self):
        self.tensors, self.operators = [], []

    def tensor(self, *shape, dtype="INT8", data=None, scales=1, zero=0, signature=None, variable=False):
        grid = Quantization(np.full(scales, 0.1, np.float32), np.full(scales, zero, np.int64), 0)
        index = len(self.tensors)
        self.tensors.append(Tensor(
            index, f"t{index}", shape, signature or shape, dtype,
            grid if "INT8" in dtype else None,
            None if data is None else np.asarray(data).view(np.uint8).reshape(-1), variable))
        return index

    def weights(self, *shape, **given):
        return self.tensor(*shape, data=np.ones(shape, np.int8), **given)

    def integers(self, *values):
        return self.tensor(len(values), dtype="INT32", data=np.array(values, "<i4"))

    def operator(self, name, inputs, outputs, version=1, **options):
        index = len(self.operators)
        self.operators.append(Operator(index, name, version, tuple(inputs), tuple(outputs), options))
        return index

    def graph(self, inputs=(0,), subgraphs=1):
        outputs = self.operators[-1].outputs if self.operators else ()
        return Graph(tuple(self.operators), tuple(self.tensors), tuple(inputs), outputs, subgraphs, "", ())


def one(name, *inputs, output=None, version=1, **options):
    """A graph of one operator: `inputs` are given as tensors to make."""
    sketch = Sketch()
    given = [make(sketch) for make in inputs]
    target = output(sketch) if output else sketch.tensor(*sketch.tensors[given[0]].shape)
    sketch.operator(name, given, [target], version, **options)
    return sketch.graph(inputs=given[:1])


def values(*shape, **given):
    return lambda sketch: sketch.tensor(*shape, **given)


def weights(*shape, **given):
    return lambda sketch: sketch.weights(*shape, **given)


def integers(*numbers):
    return lambda sketch: sketch.integers(*numbers)


IMAGE = values(1, 8, 8, 4)
FILTER, BIAS = weights(4, 3, 3, 4), integers(0, 0, 0, 0)
DENSE = (values(1, 8), weights(4, 8), integers(0, 0, 0, 0))


@pytest.mark.parametrize("graph", [
    one("ADD", IMAGE, IMAGE),
    one("CONV_2D", IMAGE, FILTER, BIAS, dilationHFactor=2, dilationWFactor=2, fusedActivationFunction=3),
    one("CONV_2D", IMAGE, weights(4, 3, 3, 4, scales=4), BIAS),
    one("MAX_POOL_2D", IMAGE, fusedActivationFunction=0),
    one("FULLY_CONNECTED", *DENSE, output=values(1, 4), weightsFormat=0, version=4),
    one("MEAN", IMAGE, integers(1, 2), output=values(1, 4)),
    one("MEAN", IMAGE, integers(-1), output=values(1, 8, 8)),
    one("PAD", IMAGE, integers(0, 0, 1, 1, 1, 1, 0, 0), output=values(1, 10, 10, 4)),
    one("QUANTIZE", values(1, 8, dtype="UINT8"), output=values(1, 8)),
    one("PRELU", IMAGE, weights(1, 1, 4)),
    one("RESIZE_BILINEAR", IMAGE, integers(16, 16), output=values(1, 16, 16, 4), version=3),
    one("SPLIT", integers(3), IMAGE, output=values(1, 8, 8, 2)),
    one("STRIDED_SLICE", IMAGE, integers(0, 0, 0, 0), integers(1, 8, 8, 4), integers(1, 2, 2, 1),
        ellipsisMask=0, newAxisMask=0),
    one("SOFTMAX", values(1, 1001)),
    one("CONCATENATION", IMAGE, IMAGE, IMAGE, output=values(1, 8, 8, 12)),
    one("CONCATENATION", IMAGE, values(1, 8, 8, 1, data=np.full(64, -3, np.int8), zero=-3)),
    one("UNIDIRECTIONAL_SEQUENCE_LSTM", values(1, 28, 28), weights(20, 28),
        values(1, 20, variable=True), values(1, 20, dtype="INT16", variable=True), output=values(1, 28, 20)),
], ids=lambda graph: graph.operators[0].name)
def test_what_is_mapped(rules, graph):
    found = lint(graph, rules)
    assert [each.reason for each in found.left] == []
    assert found.mapped == found.total == 1


@pytest.mark.parametrize(("rule", "graph"), [
    ("unsupported", one("ARG_MAX", IMAGE, integers(3))),
    ("unsupported", one("HARD_SWISH", IMAGE)),
    ("unsupported", one("CUSTOM:TFLite_Detection_PostProcess", IMAGE)),
    ("data-type", one("QUANTIZE", values(1, 8, dtype="FLOAT32"), output=values(1, 8))),
    ("data-type", one("ADD", values(1, 8, dtype="INT16"), values(1, 8))),
    ("data-type", one("ADD", IMAGE, values(1, 8, 8, 4, dtype="FLOAT32", data=np.zeros(256, np.float32)))),
    ("constant-parameters", one("CONV_2D", IMAGE, values(4, 3, 3, 4), BIAS)),
    ("rank", one("ADD", values(2, 8, 8, 4), values(2, 8, 8, 4))),
    ("operator-version", one("FULLY_CONNECTED", *DENSE, output=values(1, 4), version=9)),
    ("operator-version", one("RESIZE_BILINEAR", IMAGE, integers(16, 16), version=4)),
    ("fused-activation", one("AVERAGE_POOL_2D", IMAGE, fusedActivationFunction=1)),
    ("weights-format", one("FULLY_CONNECTED", *DENSE, output=values(1, 4), weightsFormat=1)),
    ("masks", one("STRIDED_SLICE", IMAGE, integers(0), integers(1), integers(1), ellipsisMask=1)),
    ("masks", one("STRIDED_SLICE", IMAGE, integers(0), integers(1), integers(1), newAxisMask=1)),
    ("dilation", one("CONV_2D", IMAGE, FILTER, BIAS, dilationHFactor=1, dilationWFactor=2)),
    ("per-channel-weights", one("FULLY_CONNECTED", DENSE[0], weights(4, 8, scales=4), DENSE[2],
                                output=values(1, 4))),
    ("vector-output", one("FULLY_CONNECTED", *DENSE, output=values(2, 4))),
    ("vector-input", one("PRELU", IMAGE, weights(8, 8, 4))),
    ("zero-constant", one("CONCATENATION", IMAGE, weights(1, 8, 8, 4))),
    ("zero-constant", one("CONCATENATION", IMAGE, IMAGE, values(1, 8, 8, 4, data=np.zeros(256, np.int8)))),
    ("batch-axis", one("SUM", IMAGE, integers(0))),
    ("batch-axis", one("SPLIT", integers(-4), IMAGE)),
    ("batch-axis", one("PACK", values(8, 8, 4), output=values(1, 8, 8, 4), axis=0)),
    ("batch-axis", one("PAD", IMAGE, integers(0, 1, 0, 0, 0, 0, 0, 0))),
    ("channel-multiple", one("MEAN", values(1, 8, 8, 3), integers(3), output=values(1, 8, 8))),
    ("size", one("MEAN", values(1, 256, 128, 3), integers(1, 2), output=values(1, 3))),
    ("strides", one("STRIDED_SLICE", IMAGE, integers(0, 0, 0, 0), integers(1, 8, 8, 4),
                    integers(1, 1, 1, 2))),
    ("size", one("RESIZE_BILINEAR", values(1, 1, 1, 256), integers(33, 33), output=values(1, 33, 33, 256))),
    ("size", one("RESIZE_NEAREST_NEIGHBOR", IMAGE, integers(512, 512), output=values(1, 512, 512, 32))),
    ("size", one("TRANSPOSE", values(1, 224, 224, 4), integers(0, 3, 1, 2))),
    ("size", one("SOFTMAX", values(1, 16001))),
], ids=lambda each: each if isinstance(each, str) else each.operators[0].name)
def test_what_stays_and_by_which_rule(rules, rule, graph):
    found = lint(graph, rules)
    assert [each.rule for each in found.left] == [rule]
    assert found.mapped == 0
    assert found.refusals == ()
    assert found.left[0].reason
    assert found.left[0].hint


def test_the_hint_for_an_unsupported_operator_is_the_targets_own(rules):
    left = lint(one("LEAKY_RELU", IMAGE), rules).left[0]
    assert left.hint == rules.unsupported["LEAKY_RELU"]


def test_a_broken_rule_says_what_was_found_and_what_was_wanted(rules):
    reason = lint(one("SOFTMAX", values(1, 16001)), rules).left[0].reason
    assert "16001" in reason
    assert str(rules.operators["SOFTMAX"].max_innermost) in reason


@pytest.mark.parametrize(("rule", "message", "graph"), [
    ("unparsed-version", "reads it up to version 2", one("QUANTIZE", IMAGE, version=3)),
    ("unparsed-version", "reads it up to version 3",
     one("TRANSPOSE_CONV", integers(1, 8, 8, 4), FILTER, IMAGE, version=4, output=IMAGE)),
    ("unparsed-version", "reads it up to version 9", one("FULLY_CONNECTED", *DENSE, version=12)),
    ("unparsed-version", "knows no such operator", one("GELU", IMAGE)),
    ("unknown-custom", "'Atan'", one("CUSTOM:Atan", IMAGE)),
    ("already-compiled", "already", one("CUSTOM:edgetpu-custom-op", IMAGE)),
    ("dynamic-shapes", "at run time", one("RESHAPE", IMAGE, values(2, dtype="INT32"))),
    ("dynamic-shapes", "leaves dimensions open", one("RELU", values(1, 1, 1, 3, signature=(1, -1, -1, 3)))),
    ("not-quantized", "FLOAT32",
     one("RELU", values(1, 8, dtype="FLOAT32"), output=values(1, 8, dtype="FLOAT32"))),
])
def test_what_the_compiler_refuses_as_a_whole(rules, rule, message, graph):
    found = lint(graph, rules)
    assert [finding.rule for finding in found.refusals] == [rule]
    assert message in found.refusals[0].message
    assert found.mapped == 0
    assert (found.cached_bytes, found.streamed_bytes) == (0, 0)


def test_a_refused_file_keeps_the_reasons_of_its_operators(rules):
    sketch = Sketch()
    tensors = [sketch.tensor(1, 8) for _ in range(4)]
    for name, source, target in zip(("RELU", "GELU", "LOGISTIC"), tensors, tensors[1:], strict=False):
        sketch.operator(name, [source], [target])
    found = lint(sketch.graph(), rules)
    assert [each.rule for each in found.left] == ["compilation-refused", "unsupported", "compilation-refused"]


@pytest.mark.parametrize(("rule", "level", "graph"), [
    ("open-batch", "warning", one("RELU", values(1, 8, signature=(-1, 8)))),
    ("rank", "warning", one("RELU", values(30, 8, 8, 4))),
    ("constant-parameters", "warning", one("CONV_2D", IMAGE, values(4, 3, 3, 4), BIAS)),
    ("data-type", "warning", one("QUANTIZE", values(1, 8, dtype="FLOAT32"), output=values(1, 8))),
    ("per-channel-weights", "warning", one("FULLY_CONNECTED", DENSE[0], weights(4, 8, scales=4), DENSE[2],
                                           output=values(1, 4))),
])
def test_what_is_said_of_the_model(rules, rule, level, graph):
    found = lint(graph, rules)
    assert [(finding.rule, finding.level) for finding in found.findings] == [(rule, level)]


def test_only_the_main_graph_is_looked_at_and_that_is_said(rules):
    sketch = Sketch()
    sketch.operator("RELU", [sketch.tensor(1, 8)], [sketch.tensor(1, 8)])
    found = lint(sketch.graph(subgraphs=2), rules)
    assert [finding.rule for finding in found.findings] == ["several-subgraphs"]


def chain(*edges):
    """A graph whose operator i reads the tensors edges[i] and writes tensor i + 1; 0 is the input."""
    sketch = Sketch()
    for _ in range(len(edges) + 1):
        sketch.tensor(1, 8)
    for index, inputs in enumerate(edges):
        sketch.operator("ADD", inputs, [index + 1])
    return sketch.graph()


@pytest.mark.parametrize(("edges", "unsupported", "expected"), [
    ([[0], [1], [2]], set(), {0, 1, 2}),
    ([[0], [1], [2]], {1}, {0}),
    ([[0], [1], [2]], {2}, {0, 1}),
    ([[0], [1], [2]], {0}, {1, 2}),             # float QUANTIZE in front: the first piece is the CPU's
    ([[0], [1], [1], [2, 3]], {1}, {0, 2}),     # operator 2 runs after 1, and does not need it
    ([[0], [0], [1, 2]], {0}, {1, 2}),          # an unsupported operator on an input hinders nothing
    ([[0], [1], [2], [3], [4]], {1, 3}, {0}),   # of three pieces for the accelerator only the first
    ([[0], [1], [2], [3], [1], [5]], {1}, {0, 4, 5}),
    ([[0]], {0}, set()),
    ([], set(), set()),
    ([[2], [1]], set(), set()),                 # a ring, as only a damaged file has it
])
def test_partition(edges, unsupported, expected):
    graph = chain(*edges)
    supported = set(range(len(edges))) - unsupported
    assert mapped(pieces(graph, supported)) == expected


def test_what_keeps_an_operator_away():
    graph = chain([0], [1], [2], [3], [4])
    supported = {1, 3}
    cut = pieces(graph, supported)
    assert [(piece.accelerated, sorted(piece.operators)) for piece in cut] == [
        (False, [0]), (True, [1]), (False, [2]), (True, [3]), (False, [4])]
    assert blocked_by(graph, cut, supported) == {3: 2}


def test_followers_name_what_they_follow(rules):
    sketch = Sketch()
    tensors = [sketch.tensor(1, 8) for _ in range(4)]
    for name, source, target in zip(("RELU", "LEAKY_RELU", "RELU"), tensors, tensors[1:], strict=False):
        sketch.operator(name, [source], [target])
    found = lint(sketch.graph(), rules)
    assert [(each.rule, each.follows) for each in found.operators] == [
        ("", None), ("unsupported", None), ("follows-unmapped", 1)]
    assert "operator 1 LEAKY_RELU" in found.operators[2].reason
    assert found.left_by_type == {"LEAKY_RELU": 1, "RELU": 1}


@pytest.mark.parametrize(("count", "expected"), [
    (1, 16), (16, 16), (17, 32), (64, 64), (65, 128), (1001, 1024)])
def test_channels_are_rounded_up(rules, count, expected):
    assert channels(count, rules.parameters) == expected


def test_bytes_of_a_filter_on_paper(rules):
    assert filter_bytes(8, 9, 3, 4, rules.parameters) == 16 * (9 * 4 + 4)
    assert filter_bytes(100, 1, 10, 12, rules.parameters) == 128 * (12 + 12)


def test_what_does_not_fit_is_streamed():
    assert cached_and_streamed(100, 70) == (70, 30)
    assert cached_and_streamed(70, 70) == (70, 0)


def test_a_large_model_streams_and_says_that_it_is_uncertain(rules):
    graph = one("FULLY_CONNECTED", values(1, 8192), weights(1024, 8192), integers(*[0] * 1024),
                output=values(1, 1024))
    found = lint(graph, rules)
    assert found.cached_bytes == rules.parameters.usable_bytes
    assert found.cached_bytes + found.streamed_bytes == 1024 * (8192 + 4)
    assert [(finding.rule, finding.level) for finding in found.findings] == [("uncertain-memory", "note")]


@needs_bench
@pytest.mark.parametrize("row", PAIRS, ids=lambda row: Path(row["source"]).stem)
def test_real_models_are_placed_as_by_the_compiler(rules, row):
    file = Path(BENCH) / "models" / "coral_pairs" / f"{Path(row['source']).stem}__2021-07-26.tflite"
    found = lint(read(file), rules)
    assert (found.mapped, found.total) == (int(row["ops_mapped"]), int(row["src_ops"]))
    assert ";".join(f"{name}:{count}" for name, count in found.left_by_type.items()) == row["left_by_type"]
    assert found.refusals == ()


@needs_bench
@pytest.mark.parametrize(("name", "bytes_"), [
    ("deeplabv3_mnv2_dm05_pascal_quant", 766720),
    ("posenet_mobilenet_v1_075_353_481_16_quant_decoder", 1444608),
    ("mobilenet_v1_0.25_128_quant", 566912),
])
def test_real_models_keep_the_bytes_of_the_compiled_file(rules, name, bytes_):
    found = lint(read(Path(BENCH) / "models" / "coral_pairs" / f"{name}__2021-07-26.tflite"), rules)
    assert found.cached_bytes == pytest.approx(bytes_, rel=0.001)
    assert found.streamed_bytes == 0


@pytest.fixture
def partly(rules):
    sketch = Sketch()
    tensors = [sketch.tensor(1, 8, signature=(-1, 8)) for _ in range(4)]
    for name, source, target in zip(("RELU", "ARG_MAX", "RELU"), tensors, tensors[1:], strict=False):
        sketch.operator(name, [source], [target])
    return lint(sketch.graph(), rules)


def test_as_text(partly):
    text = as_text(partly, "a.tflite")
    assert text.splitlines()[0] == "a.tflite: 1 of 3 operators are mapped (estimated)"
    assert "operator 1 ARG_MAX: ARG_MAX is never mapped; behind it stay 1 RELU" in text
    assert "leaves its batch open" in text


def test_as_json(partly):
    found = json.loads(json.dumps(as_json(partly, "a.tflite", "edgetpu")))
    assert (found["model"], found["target"], found["source"]) == ("a.tflite", "edgetpu", "estimated")
    assert (found["mapped"], found["total"], found["refused"]) == (1, 3, False)
    assert [each["mapped"] for each in found["operators"]] == [True, False, False]
    assert {"index", "name", "mapped", "rule", "reason", "hint"} <= found["operators"][1].keys()
    assert found["findings"][0]["rule"] == "open-batch"


def test_as_sarif(partly):
    found = json.loads(json.dumps(as_sarif(partly, "mein Modell.tflite", "edgetpu")))
    run, = found["runs"]
    assert found["version"] == "2.1.0"
    assert {result["ruleId"] for result in run["results"]} == {
        rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert [result["level"] for result in run["results"]] == ["warning"] * 3
    location, = run["results"][1]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "mein%20Modell.tflite"
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "operators/1/ARG_MAX"
    assert "logicalLocations" not in run["results"][0]["locations"][0]


def test_the_rules_can_be_a_key(rules):
    assert json.loads(json.dumps(asdict(rules)))["model"]["compiled"] == "edgetpu-custom-op"
    assert asdict(Rules())["operators"] == {}


def test_every_rule_names_its_source_and_its_confidence(rules):
    content = OPERATORS.read_text(encoding="utf-8")
    assert all(f"  {letter}:" in content for letter in {each.confidence for each in rules.operators.values()})
    assert re.findall(r"^  \w+: (?!https://)\S+$", content.split("confidence:")[0], re.MULTILINE) == []


@pytest.mark.parametrize(("found", "replacement", "complaint"), [
    ("max_innermost:", "max_inermost:", "did you mean 'max_innermost'"),
    ("max_innermost: 16000", "max_innermost: many", "operators.SOFTMAX.max_innermost"),
    ("innermost_dimensions: 3", "inner: 3", "unknown key 'inner'"),
    ("  ADD: {", "  ADDD: {", "did you mean 'ADD'"),
    ("{confidence: B}", "{confidence: Z}", "confidence"),
    ("usable_bytes: ", "usable: ", "unknown key 'usable'"),
    ("unsupported:", "unsuported:", "did you mean 'unsupported'"),
])
def test_mistakes_in_the_rules_have_a_line(tmp_path, found, replacement, complaint):
    content = OPERATORS.read_text(encoding="utf-8")
    assert found in content
    file = tmp_path / "operators.yaml"
    file.write_text(content.replace(found, replacement, 1), encoding="utf-8")
    line = next(i for i, text in enumerate(content.splitlines(), 1) if found in text)
    rules, document = read_rules(file)
    assert rules is None
    assert any(complaint in problem for problem in document.problems)
    assert any(problem.startswith(f"{file}:{line}:") for problem in document.problems)


def test_all_mistakes_are_told_at_once(tmp_path):
    content = OPERATORS.read_text(encoding="utf-8")
    file = tmp_path / "operators.yaml"
    file.write_text(content.replace("max_reduced:", "max_red:").replace("narrow: 64", "narrow: wide"))
    assert len(read_rules(file)[1].problems) == 2


def test_a_missing_file_of_rules_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_rules(tmp_path / "operators.yaml")


def test_every_rule_has_advice():
    assert all(advice.meaning.endswith(".") and advice.hint for advice in ADVICE.values())
