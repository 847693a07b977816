"""Ranges of weights: what is clipped so that the rest is finer, against a search."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Net
from outputs import integer_outputs

from edgeq.graph import layers, parse
from edgeq.ptq import clipping, quantizer
from edgeq.ptq.aims import aim
from edgeq.ptq.calibration import proposals
from edgeq.ptq.clipping import CLIPS, clipped, mse, octav, percentile
from edgeq.ptq.layerwise import rounded_in
from edgeq.ptq.rounding import nearest, scales
from edgeq.quantization import Static

CHANCE = np.random.default_rng(0)
MATRICES = {"normal": CHANCE.normal(size=(1, 2000, 3)), "laplace": CHANCE.laplace(size=(1, 2000, 3)),
            "heavy tail": CHANCE.standard_t(4, size=(1, 2000, 3))}


def lost(matrix, scale, bits: int) -> np.ndarray:
    """The squared error of each channel, or of all."""
    wrong = np.square(nearest(matrix, scale, bits).real - matrix)
    return wrong.sum(axis=1).reshape(-1) if scale.size > 1 else wrong.sum().reshape(1)


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("clip", [mse, octav])
def test_a_clip_is_as_good_as_the_best_that_a_search_finds(clip, name, bits, granularity):
    matrix = MATRICES[name].astype(np.float32)
    widest = scales(matrix, granularity, bits)
    shares = np.linspace(0.3, 1, 141, dtype=np.float32)
    best = np.min([lost(matrix, widest * share, bits) for share in shares], axis=0)
    found = clip(matrix, widest, bits)
    assert (found <= widest).all()
    assert (lost(matrix, found, bits) <= 1.06 * best).all()


def test_the_percentile_clips_one_weight_in_ten_thousand():
    matrix = np.concatenate([np.linspace(-1, 1, 99_999), [50]]).astype(np.float32).reshape(1, -1, 1)
    assert percentile(matrix, scales(matrix, "per_channel", 8), 8).item() == pytest.approx(1 / 127, rel=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("clip", CLIPS.values())
@pytest.mark.parametrize("matrix", [np.zeros((1, 4, 2)), np.full((2, 3, 1), 0.5), np.full((1, 2, 2), 1e20),
                                    np.full((1, 2, 2), 1e-30), np.array([[[0.0, 1], [0, -1]]])])
def test_odd_weights_have_a_scale_by_every_method(clip, matrix, granularity):
    matrix = matrix.astype(np.float32)
    widest = scales(matrix, granularity, 8)
    found = clip(matrix, widest, 8)
    assert found.shape == widest.shape
    assert ((found > 0) & (found <= widest * 1.000001)).all()


def network() -> tuple[bytes, np.ndarray]:
    """A dense layer whose largest weight reads an input that is nearly always zero, and another layer."""
    net = Net((1, 8))
    weights = net.drawn(6, 8)
    weights[:, 0] = 20
    net.dense(net.dense("in", weights, activation="relu"), net.drawn(3, 6))
    samples = np.random.default_rng(1).normal(size=(24, 8)).astype(np.float32)
    samples[:, 0] *= 1e-4
    return net.file(), samples


def quantized(content: bytes, samples) -> bytes:
    ranges = proposals(content, samples, ("minmax",))["minmax"]
    return quantizer.static(content, ranges, Static(8, "per_channel", {}, ("int8", "int8")))


def weight_scales(content: bytes) -> np.ndarray:
    return np.concatenate([rounded_in(layer).scales.reshape(-1) for layer in layers(parse(content, "x"))])


@pytest.mark.parametrize("choice", ["minmax", "average", "entropy"])
def test_a_choice_that_clips_no_weights_leaves_the_model_as_it_is(choice):
    content, samples = network()
    made = quantized(content, samples)
    after = clipped(content, made, samples, choice)
    np.testing.assert_allclose(weight_scales(after), weight_scales(made), rtol=1e-6)
    np.testing.assert_array_equal(integer_outputs(after, samples), integer_outputs(made, samples))


@pytest.mark.parametrize("choice", CLIPS)
def test_a_choice_that_clips_weights_does_so_in_every_layer(choice):
    content, samples = network()
    made = quantized(content, samples)
    after = clipped(content, made, samples, choice)
    for ours, theirs in zip(layers(parse(content, "x")), layers(parse(after, "x")), strict=True):
        matrix = ours.matrix(np.asarray(ours.weights.data).view(np.float32).reshape(ours.weights.shape))
        expected = CLIPS[choice](matrix, scales(matrix, "per_channel", 8), 8)
        np.testing.assert_allclose(rounded_in(theirs).scales, expected, rtol=0.03)


def test_auto_clips_where_that_moves_the_outputs_least():
    content, samples = network()
    made = quantized(content, samples)
    goal = aim(content, samples)

    def off(choice: str) -> float:
        return goal.loss(clipped(content, made, samples, choice), samples)

    assert off("auto") <= 1.02 * min(off(choice) for choice in ("minmax", *CLIPS))


def test_auto_leaves_the_weights_where_nothing_is_affordable(monkeypatch):
    monkeypatch.setattr(clipping, "FEWEST", 1000)
    content, samples = network()
    made = quantized(content, samples)
    np.testing.assert_allclose(weight_scales(clipped(content, made, samples, "auto")), weight_scales(made),
                               rtol=1e-6)


@pytest.mark.parametrize("choice", ["minmax", "average", "entropy", "mse", "octav", "percentile", "auto"])
def test_a_dead_channel_keeps_its_bias_by_every_choice(choice):
    """The quantizer gives its zeros a scale so small that no integer holds the bias."""
    net = Net((1, 8))
    weights = net.drawn(4, 8)
    weights[1] = 0
    net.dense("in", weights, np.float32([0.1, 0.8, -0.3, 0]))
    samples = np.random.default_rng(1).normal(size=(12, 8)).astype(np.float32)
    after = clipped(net.file(), quantized(net.file(), samples), samples, choice)
    np.testing.assert_allclose(integer_outputs(after, samples)[:, 0, 1], 0.8, atol=0.03)
