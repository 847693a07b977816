"""What integer models are held against: float scores, flattened gently."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Net
from outputs import float_outputs, integer_outputs

from edgeq.graph import parse
from edgeq.ptq import quantizer
from edgeq.ptq.aims import Aim, aim, entered, integer_scores
from edgeq.ptq.calibration import proposals
from edgeq.quantization import Static


def classifier(last: str = "SOFTMAX", width: int = 3) -> bytes:
    net = Net((1, 6))
    logits = net.dense("in", 2 * net.drawn(width, 6))
    if last:
        options = {"beta": 1.0} if last == "SOFTMAX" else {}
        net.add(last, net.reshape(logits, (1, width)), (1, width), **options)
    return net.file()


def samples(count: int = 20) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 6)).astype(np.float32)


def in_integers(content: bytes) -> bytes:
    found = proposals(content, samples(), ("minmax",))["minmax"]
    return quantizer.static(content, found, Static(8, "per_channel", {}, ("int8", "int8")))


@pytest.mark.parametrize(("last", "activation", "place"), [
    ("SOFTMAX", "SOFTMAX", 1), ("LOGISTIC", "LOGISTIC", 1), ("TANH", "", 2), ("", "", 0)])
def test_the_scores_are_what_a_last_softmax_or_sigmoid_reads(last, activation, place):
    content = classifier(last)
    graph = parse(content, "x")
    assert graph.scores == (graph.tensors[graph.operators[place].outputs[0]], activation)
    found = aim(content, samples())
    assert (found.scores.shape, found.activation) == ((20, 1, 3), activation)


def test_scores_of_an_integer_model_are_floats_on_their_own_grid():
    content = in_integers(classifier())
    scores, wanted = integer_scores(content, samples()), aim(classifier(), samples()).scores
    grid = parse(content, "x").scores[0].grid
    steps = scores / grid.scales[0]
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert np.abs(scores - wanted).max() < 4 * grid.scales[0]
    outputs = integer_outputs(content, samples())
    np.testing.assert_allclose(outputs, float_outputs(classifier(), samples()), atol=0.03)
    assert entered(content, samples()).dtype == np.int8


def test_scores_that_nothing_flattens_are_compared_as_they_are():
    goal = Aim(np.float32([[1, 2]]), "")
    assert goal.distance(np.float32([[1, 4]])) == 2
    assert goal.distance(np.float32([[1, np.nan]])) == np.inf


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_the_scale_of_the_scores_is_no_matter_to_the_distance(scale):
    chance = np.random.default_rng(0)
    scores, other = chance.normal(size=(2, 50, 4))
    expected = Aim(scores, "SOFTMAX").distance(other)
    assert Aim(scale * scores, "SOFTMAX").distance(scale * other) == pytest.approx(expected)


def test_a_softmax_is_taken_at_the_spread_of_the_scores():
    scores, other = np.array([[3.0, -3.0], [-3.0, 3.0]]), np.array([[0.0, 0.0], [-3.0, 3.0]])
    sure = 1 / (1 + np.exp(-2))  # the spread is 3
    assert Aim(scores, "SOFTMAX").distance(other) == pytest.approx(((sure - 0.5) ** 2) / 2)
    assert Aim(scores, "SOFTMAX").distance(np.add(scores, [[7.0], [9.0]])) == pytest.approx(0, abs=1e-12)


def test_a_sigmoid_is_taken_around_the_middle_of_the_scores():
    scores = np.array([[7.0], [9.0]])
    sure = 1 / (1 + np.exp(-1))  # the middle is 8, the spread 1
    assert Aim(scores, "LOGISTIC").distance(np.array([[8.0], [9.0]])) == pytest.approx((sure - 0.5) ** 2 / 2)


def test_one_sample_far_off_does_not_decide():
    """A score that is cut at its largest value costs little, noise on all of them costs more."""
    scores = np.random.default_rng(1).normal(size=(40, 5))
    scores[0, 2] = 60
    noisy, cut = scores + np.random.default_rng(2).normal(size=scores.shape), scores.clip(max=30)
    assert np.square(cut - scores).mean() > np.square(noisy - scores).mean()
    assert Aim(scores, "SOFTMAX").distance(cut) < Aim(scores, "SOFTMAX").distance(noisy)


@pytest.mark.parametrize("activation", ["SOFTMAX", "LOGISTIC"])
def test_scores_that_never_vary_are_still_told_from_worse_ones(activation):
    flat, near, far = (np.float32(each) * np.eye(4, 3, dtype=np.float32) for each in (0, 0.1, 0.2))
    goal = Aim(flat, activation)
    assert 0 == goal.distance(flat) < goal.distance(near) < goal.distance(far)


def test_a_score_however_far_off_is_a_number():
    scores = np.float32([[0], [1e-3], [2e-3]])
    assert Aim(scores, "LOGISTIC").distance(scores - 1e6) <= 1
