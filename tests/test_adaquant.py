"""Scales and rounding optimized together, against the best of all roundings and scales."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Net
from lessons import inputs, lesson, lost, near

from edgeq.ptq.rounding import Rounded, limit, objective
from edgeq.recipes.adaquant_int8 import SHARES, adaquant, descended, narrowed, rescaled


def task(seed: int, channels: int = 1, **options):
    """Four inputs that hang together, and weights of 4 bits."""
    x, z = inputs(4, seed)
    return lesson(np.random.default_rng(seed + 100).normal(size=(4, channels)), x, z, **options)


def form(rounded: Rounded, own, target) -> float:
    """wT H w - 2 wT t of the first channel."""
    w = rounded.real.astype(np.float64)
    return float(((w * (own @ w)).sum(axis=1) - 2 * (w * target).sum(axis=1))[0, 0])


@pytest.mark.parametrize("seed", range(6))
def test_no_change_of_a_single_integer_is_better_than_where_the_descent_ends(seed):
    given = task(seed)
    own, target = objective(given.matrix, given.moments)
    found = descended(given.start, own, target, limit(4))
    ended = form(found, own, target)
    assert ended <= form(given.start, own, target) + 1e-6
    for place in range(4):
        for move in (-1, 1):
            integers = found.integers.copy()
            integers[0, place] += move
            if np.abs(integers).max() <= 7:
                assert form(Rounded(integers, found.scales), own, target) >= ended - 1e-5


def test_the_descent_gains_most_of_what_the_best_rounding_gains():
    gained, most = 0.0, 0.0
    for seed in range(8):
        given = task(seed)
        own, target = objective(given.matrix, given.moments)
        best = min(form(each, own, target) for each in near(given))
        start, found = (form(each, own, target)
                        for each in (given.start, descended(given.start, own, target, limit(4))))
        gained, most = gained + start - found, most + start - best
    assert gained > 0.5 * most > 0


def test_the_scale_is_the_one_of_least_squares_by_hand():
    """s = (1*2 + 2*5) / (1*1 + 2*2) where H is 1 and t = (2, 5)."""
    own, target = np.eye(2, dtype=np.float32)[None], np.float32([[[2], [5]]])
    found = rescaled(Rounded(np.int8([[[1], [2]]]), np.float32([[[1]]])), own, target)
    assert found.scales.reshape(-1) == pytest.approx([12 / 5])
    assert found.integers.tolist() == [[[1], [2]]]


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_no_other_scale_is_better(granularity):
    given = task(3, channels=1, granularity=granularity)
    own, target = objective(given.matrix, given.moments)
    found = rescaled(given.start, own, target)
    best = form(found, own, target)
    assert all(form(Rounded(found.integers, found.scales * np.float32(factor)), own, target) >= best - 1e-6
               for factor in np.linspace(0.5, 2, 151))


def test_one_scale_for_all_channels_is_that_of_all_together():
    own = np.eye(1, dtype=np.float32)[None]
    start = Rounded(np.int8([[[1, 3]]]), np.float32([[[1]]]))
    found = rescaled(start, own, np.float32([[[2, 9]]]))
    assert found.scales.tolist() == [[[pytest.approx((2 + 27) / 10)]]]


def test_a_dead_channel_and_one_that_points_the_other_way_keep_their_scales():
    own, target = np.eye(1, dtype=np.float32)[None], np.float32([[[0, -4, 2]]])
    found = rescaled(Rounded(np.int8([[[0, 1, 1]]]), np.float32([[[0.5, 0.5, 0.5]]])), own, target)
    assert found.scales.reshape(-1).tolist() == [0.5, 0.5, 2]


@pytest.mark.parametrize("seed", range(6))
def test_all_together_are_at_least_as_good_as_the_best_rounding_on_the_old_scale(seed):
    given = task(seed)
    best = min(float(lost(each, given)[0]) for each in near(given))
    nearest, found = (float(lost(each, given)[0]) for each in (given.start, adaquant(given)))
    assert found <= nearest + 1e-6
    assert found - best <= 0.25 * (nearest - best) + 1e-5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["dead weights", "dead input", "constant", "one sample", "all zero"])
def test_lessons_of_little_to_go_by_are_no_trouble(kind):
    x, z = inputs(4, 11)
    matrix = np.random.default_rng(12).normal(size=(4, 3))
    if kind == "dead weights":
        matrix[:, 1] = 0
    elif kind == "dead input":
        x[:, 1] = z[:, 1] = 0
    elif kind == "constant":
        x[:], z[:] = 254.3, 254.3
    elif kind == "one sample":
        x, z = x[:1], z[:1]
    else:
        x[:], z[:] = 0, 0
    given = lesson(matrix, x, z)
    found = adaquant(given)
    assert np.abs(found.integers).max() <= 7
    assert (found.scales > 0).all()
    assert (found.scales < 2 * given.start.scales).all()
    assert np.abs(found.real - given.matrix).max() < 4 * given.start.scales.max()


def outlying() -> tuple[bytes, np.ndarray]:
    """A dense layer with a ReLU whose first input is far off once, and counts for little."""
    net = Net((1, 6))
    weights = net.drawn(4, 6)
    weights[:, 0] *= 1e-3
    net.dense("in", weights)
    samples = np.random.default_rng(0).uniform(0, 4, size=(32, 6)).astype(np.float32)
    samples[3, 0] = 8
    return net.file(), samples


def test_the_range_of_an_input_shrinks_where_what_is_clipped_counts_for_little():
    content, samples = outlying()
    assert narrowed(content, samples)["in"][1] == pytest.approx(min(SHARES) * 8)


def test_the_range_of_an_input_stays_where_everything_counts():
    net = Net((1, 2))
    net.dense("in", np.ones((1, 2)), np.zeros(1))
    samples = np.float32([[-1, -1], [1, 1]])
    assert narrowed(net.file(), samples) == {"in": (-1, 1)}


def test_each_input_of_layers_has_a_range_once():
    net = Net((1, 4, 4, 2))
    first = net.conv("in", net.drawn(3, 3, 3, 2), activation="relu")
    left, right = net.conv(first, net.drawn(3, 1, 1, 3)), net.conv(first, net.drawn(3, 1, 1, 3))
    net.dense(net.mean(net.add("ADD", f"{left} {right}", (1, 4, 4, 3))), net.drawn(2, 3))
    samples = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype(np.float32)
    assert [*narrowed(net.file(), samples)] == ["in", "value0", "value4"]
