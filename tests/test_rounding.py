"""The arithmetic of rounding a layer's weights, on numbers that fit on paper."""

from __future__ import annotations

import numpy as np
import pytest
from lessons import inputs, moments

from edgeq.ptq.rounding import (
    Means,
    Moments,
    Rounded,
    centred,
    corrected,
    damped,
    error,
    limit,
    nearest,
    objective,
    scales,
)

MATRIX = np.float32([[[1.0, -0.5], [-2.0, 0.25]]])  # one group, two inputs, two channels


def test_the_largest_integer_of_a_symmetric_weight():
    assert (limit(8), limit(4)) == (127, 7)


def test_a_scale_is_the_largest_weight_over_the_largest_integer():
    assert scales(MATRIX, "per_channel", 4).tolist() == np.float32([[[2 / 7, 0.5 / 7]]]).tolist()
    assert scales(MATRIX, "per_tensor", 8).tolist() == np.float32([[[2 / 127]]]).tolist()


def test_the_channels_of_groups_have_scales_of_their_own():
    matrix = np.float32([[[1], [2]], [[-8], [4]]])
    assert scales(matrix, "per_channel", 4).tolist() == np.float32([[[2 / 7]], [[8 / 7]]]).tolist()
    assert scales(matrix, "per_tensor", 4).shape == (1, 1, 1)


def test_a_channel_of_zeros_has_the_mean_scale_of_the_others():
    matrix = np.float32([[[1, 0, 3], [-1, 0, 2]]])
    assert scales(matrix, "per_channel", 4).reshape(-1).tolist() == np.float32([1 / 7, 2 / 7, 3 / 7]).tolist()
    assert scales(np.zeros((1, 2, 3), np.float32), "per_channel", 4).reshape(-1).tolist() == (
        np.float32([1 / 7] * 3).tolist())


def test_every_weight_goes_to_the_nearest_integer_and_no_further_than_the_largest():
    found = nearest(MATRIX, np.float32([[[0.5, 0.03]]]), 4)
    assert found.integers.tolist() == [[[2, -7], [-4, 7]]]
    np.testing.assert_allclose(found.real, [[[1.0, -0.21], [-2.0, 0.21]]], rtol=1e-6)


def test_covariances_are_what_is_left_when_the_means_are_taken_out():
    x, z = inputs(3, seed=0)
    own, crossed = centred(moments(x, z))
    np.testing.assert_allclose(own[0], np.cov(z.T, bias=True), atol=1e-5)
    both = (z - z.mean(axis=0)).T @ (x - x.mean(axis=0)) / len(x)
    np.testing.assert_allclose(crossed[0], both, atol=1e-5)


def test_the_error_is_that_of_the_outputs_up_to_a_constant_of_each_channel():
    x, z = inputs(2, seed=1)
    found = moments(x, z)
    differences = []
    for scale in (0.1, 0.3, 0.7):
        real = nearest(MATRIX, np.float32([[[scale]]]), 4).real
        outputs, wanted = z @ real[0], x @ MATRIX[0]
        measured = np.var(outputs - wanted, axis=0)
        differences.append(measured - error(real, MATRIX, found).reshape(-1))
    np.testing.assert_allclose(differences[1:], differences[:1] * 2, atol=1e-4)


def test_a_corrected_bias_makes_the_mean_of_every_output_that_of_the_float_layer():
    x, z = inputs(2, seed=2)
    real = nearest(MATRIX, np.float32([[[0.7]]]), 4).real
    bias = np.float32([[[0.5, -1]]])
    moved = corrected(bias, real, MATRIX, moments(x, z).means)
    wanted = (x @ MATRIX[0] + bias[0]).mean(axis=0)
    np.testing.assert_allclose((z @ real[0] + moved[0]).mean(axis=0), wanted, atol=1e-5)


def test_the_objective_is_least_at_the_float_weights_where_the_inputs_are_exact():
    x, _ = inputs(2, seed=3)
    own, target = objective(MATRIX, moments(x, x))
    np.testing.assert_allclose(np.linalg.solve(own, target), MATRIX, rtol=1e-4)


def test_differences_of_the_objective_are_differences_of_the_error_but_for_the_damping():
    x, z = inputs(2, seed=4)
    found = moments(x, z)
    own, target = objective(MATRIX, found)
    both = [nearest(MATRIX, np.float32([[[scale]]]), 4).real for scale in (0.1, 0.5)]
    form = [(real * (own @ real)).sum(axis=1) - 2 * (real * target).sum(axis=1) for real in both]
    straight = [error(real, MATRIX, found).reshape(1, -1) for real in both]
    np.testing.assert_allclose(form[1] - form[0], straight[1] - straight[0], rtol=0.05, atol=1e-3)


def flat(value: float, size: int = 3) -> Moments:
    """Those of inputs that are always `value`, in float32 as it was left."""
    ones = np.ones((1, size, size), np.float32)
    row = np.full((1, 1, size), value, np.float32)
    return Moments(np.float32(value**2) * ones, np.float32(value**2) * ones, Means(row, row))


@pytest.mark.parametrize("value", [0.0, 1.0, 254.3, 1e-6, 1e6])
def test_inputs_that_never_vary_leave_a_matrix_that_can_be_inverted(value):
    firm = damped(flat(value)).astype(np.float64)
    assert np.linalg.eigvalsh(firm[0]).min() > 0
    own, target = objective(MATRIX, flat(value, 2))
    np.testing.assert_allclose(np.linalg.solve(own, target), MATRIX, rtol=0.05)


def test_a_dead_input_leaves_a_matrix_that_can_be_inverted():
    x, z = inputs(3, seed=5)
    x[:, 1] = z[:, 1] = 0
    firm = damped(moments(x, z))
    assert np.linalg.eigvalsh(firm[0]).min() > 0
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(firm[0][off], centred(moments(x, z))[0][0][off])


def test_rounded_weights_are_integers_times_their_scales():
    found = Rounded(np.int8([[[2, -7], [-4, 7]]]), np.float32([[[0.5, 0.25]]]))
    assert found.real.tolist() == [[[1.0, -1.75], [-2.0, 1.75]]]
