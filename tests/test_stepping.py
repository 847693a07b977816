"""A graph run operator by operator gives what it gives as a whole, and can be changed on the way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from graphs import Net, noise, operator, tensor, written

from edgeq.errors import Refused
from edgeq.graph import Change, parse
from edgeq.interpret import run_litert
from edgeq.ptq.stepping import Steps

REAL = ["kws_ref_model", "ad01_fp32", "hello_world_int8", "str_ww_ref_model", "trained_lstm_int8",
        "keras_lstm_mnist_ptq__2021-07-26", "vww_96_float"]
FILES = [file for file in sorted(Path(os.environ.get("EDGEQ_BENCH", "nowhere"), "models").rglob("*.tflite"))
         if file.stem in REAL]
COUNT = 3


def branched() -> Net:
    """Two branches that are added, then a dense layer."""
    net = Net((1, 4, 4, 2))
    first = net.conv("in", net.drawn(3, 3, 3, 2), activation="relu")
    left, right = net.conv(first, net.drawn(3, 1, 1, 3)), net.depthwise(first, net.drawn(1, 3, 3, 3))
    net.dense(net.mean(net.add("ADD", f"{left} {right}", (1, 4, 4, 3))), net.drawn(2, 3))
    return net


@pytest.fixture
def content() -> bytes:
    return branched().file()


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(COUNT, 4, 4, 2)).astype(np.float32)


@pytest.fixture
def steps(content, samples) -> Steps:
    return Steps(content, samples)


@pytest.fixture
def whole(content, samples, tmp_path) -> np.ndarray:
    """The outputs by LiteRT, run as anybody runs it."""
    (tmp_path / "model.tflite").write_bytes(content)
    return run_litert(tmp_path / "model.tflite", samples, "reference")


def test_the_rest_gives_the_outputs_from_wherever_it_starts(steps, whole):
    for place in range(len(steps.graph.operators) + 1):
        steps.advance(place)
        np.testing.assert_allclose(steps.rest().reshape(whole.shape), whole, atol=1e-6)


def test_only_what_is_still_to_be_read_is_kept(steps):
    seen = []
    for place in range(len(steps.graph.operators) + 1):
        steps.advance(place)
        seen.append(sorted(steps.graph.tensors[i].name for i in steps.values))
    assert seen == [["in"], ["value0"], ["value0", "value1"], ["value1", "value2"], ["value3"], ["value4"],
                    ["value5"]]


def test_each_activation_is_handed_out_as_it_has_just_been_written(steps):
    found = [(each.name, by.name if by else None, steps.values[each.index].shape)
             for each, by in steps.written()]
    assert found == [
        ("in", None, (3, 1, 4, 4, 2)), ("value0", "CONV_2D", (3, 1, 4, 4, 3)),
        ("value1", "CONV_2D", (3, 1, 4, 4, 3)), ("value2", "DEPTHWISE_CONV_2D", (3, 1, 4, 4, 3)),
        ("value3", "ADD", (3, 1, 4, 4, 3)), ("value4", "MEAN", (3, 1, 3)),
        ("value5", "FULLY_CONNECTED", (3, 1, 2))]


def test_samples_may_come_with_the_batch_of_one_in_their_shape_or_without(content, samples):
    np.testing.assert_array_equal(Steps(content, samples).rest(), Steps(content, samples[:, None]).rest())


def test_other_values_instead_count_for_once_and_for_the_first_samples_alone(steps, whole):
    steps.advance(1)
    zeros = np.zeros((2, 1, 4, 4, 3), np.float32)
    first = steps.graph.operators[0].outputs[0]
    changed = steps.rest({first: zeros})
    assert changed.shape == (2, 1, 2)
    assert np.ptp(changed, axis=0).max() == 0
    np.testing.assert_allclose(steps.rest()[:, 0], whole, atol=1e-6)


def test_other_constants_count_for_once(steps, whole):
    bias = steps.graph.operators[-1].inputs[2]
    moved = steps.rest(changes={bias: Change(np.array([100.0, 0.0]))})
    assert moved[:, 0, 0].min() > 90
    np.testing.assert_allclose(steps.rest()[:, 0], whole, atol=1e-6)


def test_a_change_holds_for_all_that_is_still_to_run(steps):
    bias = steps.graph.operators[-1].inputs[2]
    expected = steps.rest(changes={bias: Change(np.array([100.0, 0.0]))})
    steps.change({bias: Change(np.array([100.0, 0.0]))})
    np.testing.assert_array_equal(steps.rest(), expected)
    steps.advance(len(steps.graph.operators))
    np.testing.assert_allclose(steps.rest(), expected, atol=1e-5)


def test_a_change_does_not_reach_back_to_what_has_run(steps, whole):
    steps.advance(1)
    weights = steps.graph.operators[0].inputs[1]
    steps.change({weights: Change(np.zeros((3, 3, 3, 2)))})
    np.testing.assert_allclose(steps.rest()[:, 0], whole, atol=1e-6)


def test_a_chain_of_operators_runs_from_the_values_as_they_stand(steps):
    steps.advance(4)
    mean, dense = steps.graph.operators[4:]
    means = steps.outputs(mean)[0]
    np.testing.assert_allclose(means, steps.values[mean.inputs[0]].mean(axis=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(steps.through([mean, dense]), steps.rest(), atol=1e-6)
    doubled = steps.through([mean], {mean.inputs[0]: 2 * steps.values[mean.inputs[0]]})
    np.testing.assert_allclose(doubled, 2 * means, rtol=1e-6)


def test_an_operator_may_write_several_tensors():
    content = written(
        [tensor("axis", (), "INT32", data=np.int32(1)), tensor("in", (1, 4)), tensor("a", (1, 2)),
         tensor("b", (1, 2)), tensor("out", (1, 2))],
        [operator("SPLIT", "axis in", "a b", numSplits=2), operator("SUB", "a b", "out")])
    steps = Steps(content, np.float32([[1, 2, 30, 40]]))
    assert [each.name for each, _ in steps.written()] == ["in", "a", "b", "out"]
    assert steps.rest().tolist() == [[[-29, -38]]]


def test_an_operator_may_read_constants_alone():
    net = Net((1, 2))
    computed = net.add("RELU", net.constant(np.float32([-1, 5])), (2,))
    net.add("ADD", f"in {computed}", (1, 2))
    steps = Steps(net.file(), np.zeros((COUNT, 2), np.float32))
    steps.advance(1)
    assert steps.rest().tolist() == COUNT * [[[0, 5]]]


def test_the_output_may_be_written_before_the_last_operator():
    net = Net((1, 2))
    result = net.add("RELU", "in", (1, 2))
    net.add("NEG", result, (1, 2))
    steps = Steps(net.file(result), np.float32([[-1, 5]]))
    for place in range(3):
        steps.advance(place)
        assert steps.rest().tolist() == [[[0, 5]]]


def test_a_state_is_new_for_each_sample():
    made = written(
        [tensor("in", (1, 1)), tensor("w", (1, 1), data=np.float32([[1]])),
         tensor("time", (1, 2), data=np.float32([[1, 1]])), tensor("state", (1, 2), variable=True),
         tensor("out", (1, 1))],
        [operator("SVDF", "in w time ? state", "out", rank=1)])
    assert Steps(made, np.float32([[1], [1], [2]])).rest().reshape(-1).tolist() == [1, 1, 2]


def test_an_operator_that_litert_has_not_is_refused_in_its_words():
    content = written([tensor("in", (1, 2)), tensor("out", (1, 2))], [operator("CUSTOM:mine", "in", "out")])
    with pytest.raises(Refused, match="operator by operator: Encountered unresolved custom op: mine"):
        Steps(content, np.zeros((1, 2), np.float32)).rest()


def test_a_shape_that_turns_out_otherwise_than_the_file_says_is_refused():
    content = written(
        [tensor("in", (1, 4)), tensor("size", (2,), "INT32"), tensor("flat", (1, 1)), tensor("out", (1, 1))],
        [operator("SHAPE", "in", "size", outType=2), operator("RESHAPE", "in size", "flat"),
         operator("RELU", "flat", "out")])
    steps = Steps(content, np.zeros((1, 4), np.float32))
    steps.advance(2)
    with pytest.raises(Refused, match="Dimension mismatch"):
        steps.advance(3)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_real_model_gives_step_by_step_what_it_gives_at_once(file):
    content = file.read_bytes()
    graph = parse(content, "x")
    entry = graph.tensors[graph.inputs[0]]
    steps = Steps(content, noise(entry.dtype.lower(), (2, *entry.shape)))
    at_once = steps.rest().astype(np.float64)
    steps.advance(len(graph.operators))
    step_by_step = steps.rest().astype(np.float64)
    apart = 1e-5 * np.abs(at_once).max() if entry.dtype == "FLOAT32" else 8  # XNNPACK is not exact
    assert np.abs(step_by_step - at_once).max() <= apart
