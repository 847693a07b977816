"""Reading, counting and writing .tflite graphs; what is no such file is said to be none."""

from __future__ import annotations

import contextlib
import random

import graphs
import numpy as np
import pytest
from graphs import operator, tensor, written

from edgeq.baseline import write_baseline
from edgeq.errors import ConfigError
from edgeq.graph import macs, not_integer, parse, read, settled, with_static_batch
from edgeq.interpret import run_litert, run_tflm

NONE = r"damaged|not a \.tflite|empty"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.fixture
def small() -> bytes:
    """A dense layer of four inputs and three outputs."""
    return graphs.dense(np.arange(12).reshape(3, 4), np.arange(3))


def spoilt(change) -> bytes:
    """The file of the dense layer, its ModelT changed beforehand."""
    made = graphs.schema.ModelT.InitFromPackedBuf(graphs.dense(np.ones((3, 4)), np.ones(3)), 0)
    change(made)
    return graphs.packed(made)


def test_the_demo_baseline_has_the_operators_of_a_mobilenet(baseline):
    graph = read(baseline / "baseline.tflite")
    names = [op.name for op in graph.operators]
    assert (names.count("CONV_2D"), names.count("DEPTHWISE_CONV_2D")) == (6, 5)
    assert names[-3:] == ["MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert graph.tensors[graph.inputs[0]].shape == (1, 28, 28, 1)
    assert graph.tensors[graph.outputs[0]].shape == (1, 10)
    assert graph.subgraphs == 1
    assert not any(each.dynamic for each in graph.tensors)


def test_every_model_of_the_bench_can_be_read(bench):
    files = sorted(bench.rglob("*.tflite"))
    assert len(files) > 20
    for file in files:
        graph = read(file)
        assert graph.operators, file
        assert graph.inputs, file
        assert graph.outputs, file


def test_reading_what_a_tensor_is():
    graph = parse(written(
        [tensor("in", (1, 4), "INT8", scale=0.5, zero=3, open_batch=True),
         tensor("by channel", (2,), "INT32", scale=[1, 2], data=np.array([7, 8], np.int32)),
         tensor("out", (1, 4), "INT8", scale=0.5, zero=3)],
        [operator("RELU", "in", "out")]), "x")
    entry, constant, _ = graph.tensors
    assert (entry.name, entry.shape, entry.signature, entry.dtype) == ("in", (1, 4), (-1, 4), "INT8")
    assert (entry.dynamic, entry.constant, entry.elements, entry.variable) == (True, False, 4, False)
    assert (entry.quantization.scales, entry.quantization.zero_points) == ([0.5], [3])
    assert (entry.quantization.per_channel, constant.quantization.per_channel) == (False, True)
    assert constant.data.view(np.int32).tolist() == [7, 8]


def test_an_absent_input_is_none(small):
    graph = parse(written(
        [tensor("in", (1, 4)), tensor("weights", (3, 4), data=np.ones((3, 4), np.float32)),
         tensor("out", (1, 3))],
        [operator("FULLY_CONNECTED", "in weights none", "out")]), "x")
    only = graph.operators[0]
    assert [each and each.name for each in graph.inputs_of(only)] == ["in", "weights", None]
    assert [each.name for each in graph.present_inputs_of(only)] == ["in", "weights"]


def test_who_writes_and_who_reads_a_tensor():
    graph = parse(written(
        [tensor(name, (1, 4)) for name in ("in", "mid", "out")],
        [operator("RELU", "in", "mid"), operator("ADD", "mid mid", "out")]), "x")
    assert {i: op.name for i, op in graph.producers().items()} == {1: "RELU", 2: "ADD"}
    assert {i: [op.name for op in ops] for i, ops in graph.consumers().items()} == {
        0: ["RELU"], 1: ["ADD"]}
    assert [each.name for each in graph.activations()] == ["in", "mid", "out"]


def test_a_file_cut_at_any_length_is_a_configuration_error(small, tmp_path):
    for length in range(len(small)):
        with pytest.raises(ConfigError, match=NONE):
            write_baseline(tmp_path, small[:length], "model.tflite")


def test_the_demo_cut_at_many_lengths_is_a_configuration_error(baseline):
    content = (baseline / "baseline.tflite").read_bytes()
    for length in range(0, len(content), 3001):
        with pytest.raises(ConfigError, match=NONE):
            parse(content[:length], "model.tflite")


def test_no_byte_that_is_changed_leads_to_anything_but_a_configuration_error(small, tmp_path):
    chance = random.Random(0)
    for _ in range(400):
        changed = bytearray(small)
        for place in chance.sample(range(8, len(small)), 3):
            changed[place] = chance.randrange(256)
        with contextlib.suppress(ConfigError):
            write_baseline(tmp_path, bytes(changed), "model.tflite")


@pytest.mark.parametrize(("content", "found"), [
    (b"", "is empty"), (PNG, "is not a .tflite file"), (b"text, and more of it", "is not a .tflite file"),
])
def test_a_foreign_file_is_said_to_be_none(content, found):
    with pytest.raises(ConfigError, match=f"model.tflite {found}") as raised:
        parse(content, "model.tflite")
    assert "TFL3" in raised.value.hint


def test_a_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.tflite: No such file"):
        read(tmp_path / "nowhere.tflite")


@pytest.mark.parametrize("change", [
    lambda made: setattr(made, "subgraphs", []),
    lambda made: setattr(made, "buffers", []),
    lambda made: setattr(made.subgraphs[0], "tensors", []),
    lambda made: setattr(made.subgraphs[0], "inputs", np.array([99], np.int32)),
    lambda made: setattr(made.subgraphs[0], "inputs", np.array([-1], np.int32)),
    lambda made: setattr(made.subgraphs[0].operators[0], "inputs", np.array([0, 99], np.int32)),
    lambda made: setattr(made.subgraphs[0].operators[0], "outputs", np.array([-1], np.int32)),
    lambda made: setattr(made.subgraphs[0].operators[0], "opcodeIndex", 7),
    lambda made: setattr(made.subgraphs[0].tensors[0], "type", 99),
    lambda made: setattr(made.operatorCodes[0], "builtinCode", 9999),
    lambda made: vars(made.buffers[1]).update(data=None, offset=1 << 20, size=16),
])
def test_a_file_that_names_what_it_does_not_hold_is_damaged(change, tmp_path):
    with pytest.raises(ConfigError, match="is damaged or cut short"):
        write_baseline(tmp_path, spoilt(change), "model.tflite")


WEIGHTED = {  # operator -> its tensors' shapes; multiply-accumulates worked out by hand
    "CONV_2D": ({"in": (1, 4, 4, 3), "weights": (8, 3, 3, 3), "out": (1, 2, 2, 8)}, 2 * 2 * 8 * 27),
    "DEPTHWISE_CONV_2D": ({"in": (1, 4, 4, 6), "weights": (1, 3, 3, 6), "out": (1, 4, 4, 6)}, 96 * 9),
    "FULLY_CONNECTED": ({"in": (1, 7), "weights": (10, 7), "out": (1, 10)}, 70),
    "RELU": ({"in": (1, 7), "out": (1, 7)}, 0),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_the_multiply_accumulates_of_an_operator(name):
    shapes, count = WEIGHTED[name]
    taken = " ".join(each for each in shapes if each != "out")
    graph = parse(written([tensor(*each) for each in shapes.items()], [operator(name, taken, "out")]), "x")
    assert macs(graph) == count


def test_a_transposed_convolution_counts_from_its_input():
    graph = parse(written(
        [tensor("shape", (4,), "INT32"), tensor("weights", (5, 2, 2, 3)), tensor("in", (1, 2, 2, 3)),
         tensor("out", (1, 4, 4, 5))],
        [operator("TRANSPOSE_CONV", "shape weights in", "out")]), "x")
    assert macs(graph) == 2 * 2 * 3 * (5 * 2 * 2)


def test_multiply_accumulates_are_summed_over_the_graph_or_taken_of_one_operator():
    graph = parse(written(
        [tensor("in", (1, 7)), tensor("a", (10, 7)), tensor("mid", (1, 10)), tensor("b", (2, 10)),
         tensor("out", (1, 2))],
        [operator("FULLY_CONNECTED", "in a", "mid"), operator("FULLY_CONNECTED", "mid b", "out")]), "x")
    assert macs(graph) == 70 + 20
    assert macs(graph, graph.operators[1]) == 20


def test_an_open_batch_is_closed_and_the_file_runs_as_before(tmp_path):
    weights = np.linspace(-1, 1, 12).reshape(3, 4)
    opened = graphs.dense(weights, np.array([0.5, 0, -0.5]), open_batch=True)
    assert parse(opened, "x").tensors[0].signature == (-1, 4)
    closed = with_static_batch(opened, "x")
    assert not any(each.dynamic for each in parse(closed, "x").tensors)
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    before.write_bytes(opened)
    after.write_bytes(closed)
    samples = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = samples @ weights.T.astype(np.float32) + [0.5, 0, -0.5]
    for outputs in (run_litert(before, samples, "reference"), run_litert(after, samples, "reference"),
                    run_tflm(after, samples)[0]):
        np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_closing_the_batch_twice_changes_nothing():
    once = with_static_batch(graphs.dense(np.ones((3, 4)), np.ones(3), open_batch=True), "x")
    assert with_static_batch(once, "x") == once


def test_another_open_dimension_is_refused():
    entry = tensor("picture", (1, 8, 8, 3))
    entry.shapeSignature = np.array([-1, -1, 8, 3], np.int32)
    content = written([entry, tensor("out", (1, 8, 8, 3))], [operator("RELU", "picture", "out")], "picture")
    with pytest.raises(ConfigError, match=r"m.tflite: input 'picture' has an open shape \[-1, -1, 8, 3\]"):
        with_static_batch(content, "m.tflite")


def test_float_models_of_the_bench_run_the_same_with_their_batch_closed(bench, tmp_path):
    names = ("tflm/hello_world_float", "mlperf_tiny/image_classification/pretrainedResnet",
             "mlperf_tiny/anomaly_detection/ad01_fp32")
    for name in names:
        source, closed = bench / f"models/{name}.tflite", tmp_path / "closed.tflite"
        closed.write_bytes(with_static_batch(source.read_bytes(), name))
        shape = read(closed).tensors[read(closed).inputs[0]].shape[1:]
        samples = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
        expected = run_litert(source, samples, "reference")
        np.testing.assert_array_equal(run_litert(closed, samples, "reference"), expected)
        np.testing.assert_allclose(run_tflm(closed, samples)[0], expected, rtol=1e-4, atol=1e-4)


def test_operator_codes_of_old_files_are_read_and_spelled_out(small):
    def old(made):
        made.operatorCodes[0].builtinCode = 0

    content = spoilt(old)
    assert parse(content, "x").operators[0].name == "FULLY_CONNECTED"
    settled_codes = graphs.schema.ModelT.InitFromPackedBuf(settled(content, "x"), 0).operatorCodes
    assert settled_codes[0].builtinCode == graphs.schema.BuiltinOperator.FULLY_CONNECTED


def test_data_behind_the_flatbuffer_is_read_and_brought_inside():
    behind = np.arange(12, dtype=np.float32)

    def out(made):
        vars(made.buffers[1]).update(data=None, offset=place, size=behind.nbytes)

    place = 1 << 20
    place = len(spoilt(out))  # every offset takes eight bytes, so the length is that of the final file
    content = spoilt(out) + behind.tobytes()
    for each in (content, settled(content, "x")):
        weights = parse(each, "x").tensors[1]
        assert weights.constant
        assert weights.data.view(np.float32).tolist() == behind.tolist()
    assert graphs.schema.ModelT.InitFromPackedBuf(settled(content, "x"), 0).buffers[1].offset == 0


def integer(**changed):
    """A dense layer in integers, some of its tensors changed: name -> a tensor instead."""
    tensors = {
        "in": tensor("in", (1, 4), "INT8", scale=0.1),
        "weights": tensor("weights", (3, 4), "INT8", scale=0.1, data=np.ones((3, 4), np.int8)),
        "bias": tensor("bias", (3,), "INT32", scale=0.01, data=np.ones(3, np.int32)),
        "out": tensor("out", (1, 3), "INT8", scale=0.1)} | changed
    return parse(written([*tensors.values()], [operator("FULLY_CONNECTED", "in weights bias", "out")]), "x")


def test_a_graph_in_integers_gives_no_complaint():
    assert list(not_integer(integer(), "INT8", ("INT8", "INT8"))) == []


def test_weights_stay_in_int8_beside_activations_in_int16():
    wide = {name: tensor(name, shape, "INT16", scale=0.1) for name, shape in
            {"in": (1, 4), "out": (1, 3)}.items()}
    graph = integer(**wide, bias=tensor("bias", (3,), "INT64", scale=0.01, data=np.ones(3, np.int64)))
    assert list(not_integer(graph, "INT16", ("INT16", "INT16"))) == []
    assert list(not_integer(integer(), "INT16", ("INT8", "INT8"))) == [
        "operator 0 FULLY_CONNECTED has 'in' in INT8", "operator 0 FULLY_CONNECTED has 'out' in INT8"]


@pytest.mark.parametrize(("name", "instead", "complaint"), [
    ("weights", tensor("weights", (3, 4), data=np.ones((3, 4), np.float32)),
     "operator 0 FULLY_CONNECTED has 'weights' in FLOAT32 without a scale"),
    ("weights", tensor("weights", (3, 4), "INT8", data=np.ones((3, 4), np.int8)),
     "operator 0 FULLY_CONNECTED has 'weights' in INT8 without a scale"),
])
def test_what_stayed_in_float_is_named(name, instead, complaint):
    assert list(not_integer(integer(**{name: instead}), "INT8", ("INT8", "INT8"))) == [complaint]


def test_an_end_of_another_type_is_named():
    assert "'in', an end of the model, is INT8, not UINT8" in list(
        not_integer(integer(), "INT8", ("UINT8", "INT8")))


def test_a_quantize_at_the_border_may_touch_float_and_no_other_operator_may():
    ends = [tensor("in", (1, 4)), tensor("a", (1, 4), "INT8", scale=0.1),
            tensor("b", (1, 4), "INT8", scale=0.1), tensor("out", (1, 4))]

    def complaints(last):
        graph = parse(written(ends, [operator("QUANTIZE", "in", "a"), operator("RELU", "a", "b"),
                                     operator(last, "b", "out")]), "x")
        return list(not_integer(graph, "INT8", ("FLOAT32", "FLOAT32")))

    assert complaints("DEQUANTIZE") == []
    assert complaints("TANH") == ["operator 2 TANH has 'out' in FLOAT32 without a scale"]


