"""GPTQ on two weights by hand, and against the best of all roundings."""

from __future__ import annotations

import numpy as np
import pytest
from lessons import inputs, lesson, lost, near

from edgeq.recipes.gptq_int8 import gptq, rounded_in_turn, upper


def test_two_weights_by_hand():
    """H^-1 = [[2, 1], [1, 1]], so U = [[sqrt 2, 1 / sqrt 2], [0, 1 / sqrt 2]].

    0.7 goes to 1, e = -0.3 / sqrt 2, and the second weight becomes 0.6 + 0.3 / 2 = 0.75, so 1;
    -1.4 goes to -1, e = -0.4 / sqrt 2, and the second becomes 0.4 + 0.4 / 2 = 0.6, so 1 and not 0.
    """
    moments = np.linalg.inv(np.float64([[[2, 1], [1, 1]]]))
    factor = upper(moments.astype(np.float32))
    root = np.sqrt(0.5)
    np.testing.assert_allclose(factor, [[[2 * root, root], [0, root]]], atol=1e-6)
    found = rounded_in_turn(np.float32([[[0.7, -1.4], [0.6, 0.4]]]), np.float32([[[1, 1]]]), factor, 7)
    assert found.tolist() == [[[1, -1], [1, 1]]]


def test_a_scale_a_channel_is_taken_into_account():
    factor = upper(np.float32([[[1, 0], [0, 1]]]))
    found = rounded_in_turn(np.float32([[[0.7, 7.0], [0.2, -2.0]]]), np.float32([[[0.1, 1.0]]]), factor, 7)
    assert found.tolist() == [[[7, 7], [2, -2]]]


def test_what_is_too_large_is_clipped_and_the_others_make_up_for_it():
    factor = upper(np.linalg.inv(np.float32([[[2, 1.9], [1.9, 2]]])))
    found = rounded_in_turn(np.float32([[[9.0], [0.0]]]), np.float32([[[1.0]]]), factor, 7)
    assert found.reshape(-1).tolist() == [7, -2]


def test_each_group_has_a_factor_of_its_own():
    both = np.float32([[[1, 0.5], [0.5, 1]], [[4, 0], [0, 1]]])
    factor = upper(both)
    np.testing.assert_allclose(np.swapaxes(factor, 1, 2) @ factor, np.linalg.inv(both), atol=1e-6)
    assert (factor[:, 1, 0] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_inputs_that_do_not_hang_together_leave_every_weight_at_the_nearest(seed):
    chance = np.random.default_rng(seed)
    x = np.vstack([each * np.eye(4) for each in (3, -3)]).astype(np.float32)
    given = lesson(chance.normal(size=(4, 5)), x, x)
    np.testing.assert_array_equal(gptq(given).integers, given.start.integers)


def test_inputs_that_hang_together_gain_much_of_what_the_best_rounding_gains():
    gained, most = 0.0, 0.0
    for seed in range(16):
        x, z = inputs(4, seed)
        given = lesson(np.random.default_rng(seed + 100).normal(size=(4, 1)), x, z)
        nearest, found = (float(lost(each, given)[0]) for each in (given.start, gptq(given)))
        best = min(float(lost(each, given)[0]) for each in near(given))
        gained, most = gained + nearest - found, most + nearest - best
    assert gained > 0.5 * most > 0


def test_the_input_of_the_most_power_is_rounded_first_wherever_it_stands():
    x, z = inputs(4, 9)
    x[:, 2] *= 10
    z[:, 2] *= 10
    matrix = np.random.default_rng(10).normal(size=(4, 3))
    order = [2, 0, 3, 1]
    straight = gptq(lesson(matrix, x, z)).integers
    turned = gptq(lesson(matrix[order], x[:, order], z[:, order])).integers
    np.testing.assert_array_equal(straight[:, order], turned)
    assert straight[0, 2].tolist() == lesson(matrix, x, z).start.integers[0, 2].tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["dead", "constant", "nearly constant", "one sample", "twice the same"])
def test_inputs_of_little_to_go_by_are_no_trouble(kind):
    x, z = inputs(4, 11)
    if kind == "dead":
        x[:, 1] = z[:, 1] = 0
    elif kind == "constant":
        x[:], z[:] = 3, 3
    elif kind == "nearly constant":
        x[:], z[:] = 254.3, 254.3
        z[0, 0] = 254.31
    elif kind == "one sample":
        x, z = x[:1], z[:1]
    else:
        x[:, 1], z[:, 1] = x[:, 0], z[:, 0]
    given = lesson(np.random.default_rng(12).normal(size=(4, 3)), x, z)
    found = gptq(given)
    assert np.abs(found.integers).max() <= 7
    assert np.abs(found.real - given.matrix).max() < 4 * given.start.scales.max()
