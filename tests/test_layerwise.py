"""Learning layer by layer: each against its float layer, with the inputs that it really gets."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Net
from lessons import inputs, lesson, lost
from outputs import float_outputs, integer_outputs

from edgeq.graph import edited, layers, parse, values_of
from edgeq.interpret import dequantize
from edgeq.ptq import quantizer
from edgeq.ptq.aims import aim
from edgeq.ptq.calibration import proposals
from edgeq.ptq.layerwise import better, changes_for, held, learned, moments, rounded_in
from edgeq.ptq.rounding import Rounded
from edgeq.ptq.stepping import Steps
from edgeq.quantization import Static
from edgeq.recipes.adaquant_int8 import adaquant

GRANULARITIES = ["per_channel", "per_tensor"]


def quantized(content: bytes, samples, granularity: str = "per_channel", bits: int = 8) -> bytes:
    wanted = Static(8, granularity, {}, ("int8", "int8"), weight_bits=bits)
    return quantizer.static(content, proposals(content, samples, ("minmax",))["minmax"], wanted)


def nothing(task) -> Rounded:
    """Leave the weights as they are."""
    return task.start


def network() -> Net:
    net = Net((1, 6, 6, 3))
    value = net.conv("in", net.drawn(6, 3, 3, 3), activation="relu", stride=(2, 2))
    value = net.depthwise(value, net.drawn(1, 3, 3, 12), activation="relu", dilation=(1, 2))
    value = net.conv(value, net.drawn(4, 1, 1, 12), activation="relu")
    net.dense(net.mean(value), net.drawn(3, 4))
    return net


def seen(count: int = 20) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 6, 6, 3)).astype(np.float32)


def test_moments_are_those_of_all_patches_in_steps_of_the_inputs_grid():
    content, samples = network().file(), seen(9)
    made = quantized(content, samples)
    floats, integers = Steps(content, samples), Steps(made, samples)
    ours, theirs = layers(floats.graph)[1], layers(integers.graph)[1]
    grid = theirs.source.grid
    integers = np.random.default_rng(2).integers(-128, 128, (9, *theirs.source.shape)).astype(np.int8)
    values = np.random.default_rng(3).normal(size=(9, *ours.source.shape)).astype(np.float32)
    found = moments(ours, (values, integers), grid)
    x, z = (np.concatenate([ours.patches(each[i] / grid.scales[0]) for i in range(9)], axis=1)
            for each in (values, dequantize(integers, grid)))
    count = x.shape[1]
    np.testing.assert_allclose(found.quantized, np.swapaxes(z, 1, 2) @ z / count, rtol=1e-4)
    np.testing.assert_allclose(found.crossed, np.swapaxes(z, 1, 2) @ x / count, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(found.means.quantized[:, 0], z.mean(axis=1), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.means.floats[:, 0], x.mean(axis=1), rtol=1e-3, atol=1e-3)


def test_few_samples_teach_and_judge_at_once_and_of_many_every_fourth_judges():
    assert [each.tolist() for each in held(3)] == [[0, 1, 2], [0, 1, 2]]
    teaching, judging = held(20)
    assert judging.tolist() == [0, 4, 8, 12, 16]
    assert sorted([*teaching, *judging]) == [*range(20)]


def test_a_channel_takes_the_new_weights_only_where_they_are_better():
    x, z = inputs(4, 0)
    task = lesson(np.random.default_rng(1).normal(size=(4, 2)), x, z)
    finer = adaquant(task)
    worse = Rounded(np.concatenate([finer.integers[:, :, :1], np.zeros((1, 4, 1), np.int8)], axis=2),
                    finer.scales)
    found = better(worse, task.start, task.matrix, task.moments)
    np.testing.assert_array_equal(found.integers[:, :, 0], finer.integers[:, :, 0])
    np.testing.assert_array_equal(found.integers[:, :, 1], task.start.integers[:, :, 1])
    assert found.scales.reshape(-1).tolist() == [finer.scales[0, 0, 0], task.start.scales[0, 0, 1]]


def test_with_one_scale_for_all_the_channels_are_taken_together():
    x, z = inputs(4, 0)
    task = lesson(np.random.default_rng(1).normal(size=(4, 3)), x, z, granularity="per_tensor")
    other = Rounded(task.start.integers, task.start.scales * np.float32(1.5))
    assert better(other, task.start, task.matrix, task.moments) is task.start
    assert better(task.start, other, task.matrix, task.moments) is task.start
    same = Rounded(adaquant(task).integers, task.start.scales)
    mixed = better(same, task.start, task.matrix, task.moments)
    assert (lost(mixed, task) <= np.minimum(lost(same, task), lost(task.start, task)) + 1e-6).all()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_weights_written_as_they_are_leave_the_model_as_it_is(granularity):
    content, samples = network().file(), seen()
    made = quantized(content, samples, granularity)
    for ours, theirs in zip(layers(parse(content, "x")), layers(parse(made, "x")), strict=True):
        again = edited(made, changes_for(theirs, rounded_in(theirs), values_of(ours.bias)))
        before, after = parse(made, "x"), parse(again, "x")
        for a, b in zip(before.tensors, after.tensors, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
            if a.quantization:
                np.testing.assert_allclose(a.grid.scales, b.grid.scales, rtol=1e-6)
                assert a.grid.axis == b.grid.axis or not a.grid.per_channel


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_bias_that_is_too_large_for_its_scale_makes_the_weights_coarser(granularity):
    net = Net((1, 4))
    net.dense("in", net.drawn(2, 4))
    samples = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    made = quantized(net.file(), samples, granularity)
    (layer,) = layers(parse(made, "x"))
    start = rounded_in(layer)
    tiny = Rounded(start.integers, start.scales * np.float32(1e-9))
    bias = np.float32([100, 0.001])
    found = changes_for(layer, tiny, bias)
    weights, written = found[layer.weights.index], found[layer.bias.index]
    assert np.abs(written.values).max() <= 2**30 + 1
    np.testing.assert_allclose(written.values * written.grid.scales, bias, rtol=1e-3)
    np.testing.assert_allclose(written.grid.scales, layer.source.grid.scales * weights.grid.scales, rtol=1e-6)


def test_weights_that_another_layer_reads_stay_as_they_are():
    net = Net((1, 4))
    weights = net.drawn(4, 4)
    weights[1] = 0
    shared = net.constant(weights)
    net.dense(net.dense("in", shared, np.ones(4), activation="relu"), shared, np.ones(4))
    samples = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    made = quantized(net.file(), samples)
    after = learned(net.file(), made, samples, adaquant)
    for before, now in zip(layers(parse(made, "x")), layers(parse(after, "x")), strict=True):
        assert now.shared
        np.testing.assert_array_equal(values_of(now.weights), values_of(before.weights))
        np.testing.assert_array_equal(now.weights.grid.scales, before.weights.grid.scales)
        assert np.abs(values_of(now.bias).astype(np.int64)).max() <= 2**30


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_corrected_biases_give_every_channel_the_mean_of_the_float_model(granularity):
    content, samples = network().file(), seen(12)
    made = quantized(content, samples, granularity)
    after = learned(content, made, samples, nothing)
    assert layer_weights(after) == layer_weights(made)
    expected = float_outputs(content, samples).mean(axis=0)
    off = [np.abs(integer_outputs(each, samples).mean(axis=0) - expected).max() for each in (made, after)]
    step = parse(made, "x").tensors[parse(made, "x").outputs[0]].grid.scales[0]
    assert off[1] <= max(0.6 * step, 0.5 * off[0])


def layer_weights(content: bytes) -> list[bytes]:
    return [values_of(layer.weights).tobytes() for layer in layers(parse(content, "x"))]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_what_is_learnt_comes_closer_to_the_float_model(granularity):
    content, samples = network().file(), seen(40)
    made = quantized(content, samples, granularity, bits=4)
    after = learned(content, made, samples, adaquant)
    fresh = np.random.default_rng(9).normal(size=(40, 6, 6, 3)).astype(np.float32)
    for given in (samples, fresh):
        losses = [aim(content, given).loss(each, given) for each in (made, after)]
        assert losses[1] < 0.7 * losses[0]
    assert layer_weights(after) != layer_weights(made)
    assert learned(content, made, samples, adaquant) == after


def test_a_learner_that_does_harm_is_not_listened_to():
    content, samples = network().file(), seen(20)
    made = quantized(content, samples)
    after = learned(content, made, samples, lambda task: Rounded(0 * task.start.integers, task.start.scales))
    assert after == learned(content, made, samples, nothing)


def test_what_the_lessons_hold():
    content, samples = network().file(), seen(20)
    tasks = []
    learned(content, quantized(content, samples), samples, lambda task: tasks.append(task) or task.start)
    shapes = [(1, 27, 6), (6, 9, 2), (1, 12, 4), (1, 4, 3)]
    assert [task.matrix.shape for task in tasks] == shapes
    assert [task.start.integers.shape for task in tasks] == shapes
    assert [task.moments.crossed.shape for task in tasks] == [(g, k, k) for g, k, _ in shapes]
    assert {task.bits for task in tasks} == {8}
    for task in tasks:
        np.testing.assert_allclose(task.start.real, task.matrix, atol=task.start.scales.max())
