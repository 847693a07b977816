"""Learned rounding against the best of all roundings, and the parts of its formula by hand."""

from __future__ import annotations

import numpy as np
import pytest
from lessons import inputs, lesson, lost, up_or_down

from edgeq.ptq.rounding import Rounded, limit, objective
from edgeq.recipes.adaround_int8 import adaround, inverse, pull, rectified

ITERATIONS = 400
TASKS = range(20)


def task(seed: int, channels: int = 1, **options):
    """Four inputs that hang together, and weights of 4 bits."""
    x, z = inputs(4, seed)
    return lesson(np.random.default_rng(seed + 100).normal(size=(4, channels)), x, z, **options)


def test_the_rounding_learned_is_mostly_the_best_of_all_sixteen_and_never_worse_than_the_nearest():
    gained, most, hits = 0.0, 0.0, 0
    for seed in TASKS:
        given = task(seed)
        best = min(float(lost(each, given)[0]) for each in up_or_down(given))
        found, nearest = (float(lost(each, given)[0]) for each in (adaround(given, ITERATIONS), given.start))
        assert best - 1e-6 <= found <= nearest
        gained, most, hits = gained + nearest - found, most + nearest - best, hits + (found <= best + 1e-6)
    assert gained > 0.4 * most > 0
    assert hits >= len(TASKS) / 2


@pytest.mark.parametrize("bits", [4, 8])
def test_many_roundings_learned_together_gain_more_than_those_that_are_changed_one_at_a_time(bits):
    x, z = inputs(36, 0, count=800)
    given = lesson(np.random.default_rng(1).normal(size=(36, 8)), x, z, bits=bits)
    nearest, found, descent = (lost(each, given).sum() for each in (
        given.start, adaround(given, ITERATIONS), one_at_a_time(given)))
    assert nearest - found > 0.98 * (nearest - descent) > 0


def one_at_a_time(given) -> Rounded:
    """Each weight in turn goes to the better of its two integers, until none moves any more."""
    own, target = objective(given.matrix, given.moments)
    scale, most = given.start.scales, limit(given.bits)
    floor = np.floor(given.matrix / scale)
    integers = given.start.integers.astype(np.float32)
    for k in 20 * [*range(integers.shape[1])]:
        slope = own[:, [k]] @ (integers * scale) - target[:, [k]]
        wanted = np.round(integers[:, [k]] - slope / (own[:, [k], [k]][:, None] * scale))
        integers[:, [k]] = np.clip(np.clip(wanted, floor[:, [k]], floor[:, [k]] + 1), -most, most)
    return Rounded(integers.astype(np.int8), scale)


def test_every_weight_stays_between_its_floor_and_its_ceiling():
    given = task(0, channels=5)
    found = adaround(given, ITERATIONS)
    floor = np.floor(given.matrix / given.start.scales)
    assert {*np.unique(found.integers - floor)} <= {-1, 0, 1}
    assert np.abs(found.integers).max() <= 7
    assert ((found.integers - floor >= 0) | (floor == 7)).all()


def test_the_scales_stay_as_they_are():
    given = task(1, channels=3)
    assert adaround(given, 10).scales is given.start.scales


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_channels_are_learned_each_for_itself(granularity):
    x, z = inputs(4, 3)
    matrix = np.random.default_rng(4).normal(size=(4, 3))
    together = adaround(lesson(matrix, x, z), ITERATIONS).integers
    for channel in range(3):
        alone = adaround(lesson(matrix[:, [channel]], x, z), ITERATIONS).integers
        np.testing.assert_array_equal(together[:, :, [channel]], alone)
    assert lost(adaround(lesson(matrix, x, z, granularity=granularity), ITERATIONS),
                lesson(matrix, x, z, granularity=granularity)).shape == (3,)


def test_without_iterations_every_weight_goes_to_the_nearest():
    given = task(2, channels=4)
    np.testing.assert_array_equal(adaround(given, 0).integers, given.start.integers)


def test_the_same_lesson_is_learned_the_same_way_again():
    given = task(5, channels=4)
    np.testing.assert_array_equal(adaround(given, 50).integers, adaround(given, 50).integers)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("matrix", [np.zeros((4, 2)), np.full((4, 2), 1e-12), np.full((4, 2), 1e6)])
def test_weights_of_any_size_can_be_learned(matrix):
    x, z = inputs(4, 6)
    assert np.abs(adaround(lesson(matrix, x, z), 50).integers).max() <= 7


def test_dead_inputs_leave_their_weights_at_the_nearest():
    x, z = inputs(4, 7)
    x[:, 2] = z[:, 2] = 0
    given = lesson(np.random.default_rng(8).normal(size=(4, 3)), x, z)
    np.testing.assert_array_equal(adaround(given, ITERATIONS).integers[:, 2], given.start.integers[:, 2])


def test_the_stretched_sigmoid_reaches_zero_and_one_and_its_slope_is_the_derivative():
    v = np.linspace(-3, 3, 61)
    h, slope = rectified(v)
    assert (h.min(), h.max()) == (0, 1)
    assert rectified(np.zeros(1))[0] == pytest.approx(0.5)
    ahead, behind = rectified(v + 1e-6)[0], rectified(v - 1e-6)[0]
    inner = (v > -2.3) & (v < 2.3)
    np.testing.assert_allclose(slope[inner], ((ahead - behind) / 2e-6)[inner], rtol=1e-5)
    assert (slope[(h == 0) | (h == 1)] == 0).all()


def test_the_start_is_the_fraction_that_a_weight_has():
    h = np.linspace(0, 0.99, 34)
    np.testing.assert_allclose(rectified(inverse(h))[0], h, atol=1e-5)


def test_the_pull_is_away_from_a_half_after_the_warm_up_and_sharper_at_the_ends_before():
    h = np.float32([0.1, 0.4, 0.5, 0.6, 0.9])
    assert pull(h, 0.1).tolist() == [0, 0, 0, 0, 0]
    early, late = pull(h, 0.25), pull(h, 1.0)
    assert np.sign(late).tolist() == [-1, -1, 0, 1, 1]
    assert np.abs(early[1]) < 1e-6 < np.abs(late[1])
    numeric = [(abs(2 * (each + 1e-4) - 1) ** 2 - abs(2 * (each - 1e-4) - 1) ** 2) / 2e-4 for each in h]
    np.testing.assert_allclose(late, 0.02 * np.array(numeric), rtol=1e-3, atol=1e-6)
