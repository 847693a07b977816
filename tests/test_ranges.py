"""Ranges of activations: each method against what it shall find, searched for the long way round."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeq.interpret import dequantize, quantize
from edgeq.ptq import ranges
from edgeq.ptq.ranges import (
    BINS,
    METHODS,
    average,
    ends_by,
    entropy,
    grid,
    histogram,
    minmax,
    mse,
    octav,
    on_grid,
    percentile,
    squared_error,
)

COUNT = 20_000
CHANCE = np.random.default_rng(0)
SHAPES = {
    "normal": CHANCE.normal(size=(10, COUNT // 10)),
    "laplace": CHANCE.laplace(size=(10, COUNT // 10)),
    "after a ReLU": np.maximum(CHANCE.normal(size=(10, COUNT // 10)), 0),
    "heavy tail after a ReLU": np.maximum(CHANCE.standard_t(3, size=(10, COUNT // 10)), 0),
    "exponential": CHANCE.exponential(size=(10, COUNT // 10)),
    "one-sided tail": np.where(CHANCE.random((10, COUNT // 10)) < 0.5, 1, -0.1) * CHANCE.exponential(
        size=(10, COUNT // 10)),
    "all below zero": -CHANCE.exponential(size=(10, COUNT // 10)),
}
FLOATS = {name: values.astype(np.float32) for name, values in SHAPES.items()}


def lost(values, ends) -> float:
    """The mean squared error of values on the int8 grid of a range."""
    return float(np.mean((on_grid(values, ends) - values) ** 2))


def least(values) -> float:
    """The least error of all ranges whose ends are hundredths of the largest values."""
    low, high = (min(0.0, float(values.min())), max(0.0, float(values.max())))
    lows, highs = (np.linspace(0.1, 1, 46) * end if end else [0.0] for end in (low, high))
    return min(lost(values, (a, b)) for a in lows for b in highs)


def test_minmax_is_from_the_least_to_the_largest():
    assert minmax(np.float32([[-3, 1], [2, 5]])) == (-3, 5)


def test_the_average_moves_by_a_twentieth_towards_each_samples_ends():
    values = np.float32([[0, 10], [-2, 20], [0, 10]])
    low = 0.95 * (0.95 * 0 + 0.05 * -2)
    high = 0.95 * (0.95 * 10 + 0.05 * 20) + 0.05 * 10
    assert average(values) == pytest.approx((low, high))


def test_the_average_of_one_sample_is_its_own_range():
    assert average(np.float32([[-3, 1, 7]])) == (-3, 7)


def test_the_percentile_leaves_out_one_value_in_ten_thousand_at_either_end():
    values = np.concatenate([np.linspace(-1, 1, 99_990), np.full(5, -50), np.full(5, 80)]).astype(np.float32)
    low, high = percentile(values[None])
    assert low == pytest.approx(-1, abs=0.1)
    assert high == pytest.approx(1, abs=0.1)


def test_the_percentile_keeps_what_more_than_one_value_in_ten_thousand_has():
    values = np.concatenate([np.linspace(-1, 1, 9_980), np.full(10, -50), np.full(10, 80)]).astype(np.float32)
    low, high = percentile(values[None])
    assert (low, high) == pytest.approx((-50, 80), abs=0.1)


@pytest.mark.parametrize("method", [mse, octav])
@pytest.mark.parametrize("name", FLOATS)
def test_a_range_of_least_squared_error_is_as_good_as_the_best_that_a_search_finds(method, name):
    values = FLOATS[name]
    assert lost(values, method(values)) <= 1.03 * least(values)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_octav_finds_the_optimal_clipping_of_a_normal_distribution(bits):
    """The best clip c is where c^2 * P(within) * 4^-B / 3 + E[(|x| - c)^2; beyond] is least."""
    def error(clip: float) -> float:
        beyond = math.erfc(clip / math.sqrt(2))
        clipped = (1 + clip**2) * beyond - clip * math.sqrt(2 / math.pi) * math.exp(-(clip**2) / 2)
        return clip**2 * (1 - beyond) * 4.0**-bits / 3 + clipped

    clip = min(np.arange(1, 6, 0.001), key=error)
    found = octav(np.random.default_rng(1).normal(size=(1, 1_000_000)).astype(np.float32), 2**bits)
    assert found == pytest.approx((-clip, clip), abs=0.06)


def test_fewer_levels_want_a_narrower_range():
    values = FLOATS["laplace"]
    widths = [[np.ptp(method(values, levels)) for levels in (8, 16, 64, 256)] for method in (mse, octav)]
    assert [sorted(each) for each in widths] == widths


def divergence(counts: np.ndarray, cut: int) -> float:
    """KL(P || Q) as Migacz's slides spell it out, bin by bin."""
    reference = [float(count) for count in counts[:cut]]
    reference[-1] += counts[cut:].sum()
    spread = [0.0] * cut
    for _, group in itertools.groupby(range(cut), lambda i: i * 128 // cut):
        bins = [*group]
        filled = [i for i in bins if reference[i] > 0]
        for i in filled:
            spread[i] = sum(counts[j] for j in bins) / len(filled)
    shares = zip(np.array(reference) / sum(reference), np.array(spread) / sum(spread), strict=True)
    unseen = 1e-4 / sum(reference)
    return sum(p * math.log(p / max(q, unseen)) for p, q in shares if p > 0)


@pytest.mark.parametrize("name", ["normal", "heavy tail after a ReLU"])
def test_entropy_finds_the_cut_of_the_least_divergence_among_all_it_tries(name):
    values = FLOATS[name]
    counts, edges = np.histogram(np.abs(values[values != 0]).astype(np.float64), BINS)
    cuts = [*range(128, BINS + 1, 16)]
    found = min(cuts, key=lambda cut: divergence(counts, cut))
    low, high = entropy(values)
    assert max(-low, high) == pytest.approx(min(edges[found], np.abs(values).max()), rel=1e-5)


def test_entropy_leaves_out_a_few_values_that_lie_far_off():
    values = np.concatenate([CHANCE.normal(size=100_000), [500.0, -300.0]]).astype(np.float32)
    low, high = entropy(values[None])
    assert -50 < low < -3
    assert 3 < high < 50
    assert lost(values[:-2], (low, high)) < 0.05 * lost(values[:-2], minmax(values))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FLOATS)
def test_no_range_is_wider_than_what_was_seen(method, name):
    low, high = ends_by(method, FLOATS[name])
    least_seen, most_seen = minmax(FLOATS[name])
    assert least_seen <= low < high <= most_seen


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-30, 1e30, -1e38])
def test_a_constant_has_no_width_by_any_method(method, value):
    assert ends_by(method, np.full((2, 5), value, np.float32)) == (np.float32(value), np.float32(value))


ODD = {
    "a step of float32 apart": [1, np.nextafter(np.float32(1), np.float32(2))],
    "large and a step apart": [1e30, np.nextafter(np.float32(1e30), np.float32(2e30))],
    "of the smallest that there are": [0, 1e-45, -1e-45, 1e-40],
    "nearly as large as floats go": [-3.4e38, 0, 3.4e38],
    "one value beside zeros": [0, 0, 0, 7],
    "two values": [-5, 5],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ODD)
def test_odd_values_have_a_range_by_every_method(method, name):
    values = np.float32([ODD[name]]).T
    low, high = ends_by(method, values)
    assert float(values.min()) <= low <= high <= float(values.max())


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)),
                     elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
       st.sampled_from([*METHODS]))
def test_any_values_have_a_range_by_every_method(values, method):
    low, high = ends_by(method, values)
    assert float(values.min()) <= low <= high <= float(values.max())


def test_a_histogram_counts_every_value_between_its_ends():
    seen = histogram(FLOATS["normal"])
    assert seen.counts.sum() == COUNT
    assert seen.ends == pytest.approx(minmax(FLOATS["normal"]), rel=1e-6)


def test_values_that_come_in_blocks_are_counted_as_those_that_come_at_once(monkeypatch):
    whole = histogram(FLOATS["normal"])
    monkeypatch.setattr(ranges, "BLOCK", 7)
    np.testing.assert_array_equal(histogram(FLOATS["normal"]).counts, whole.counts)


def test_the_error_of_a_histogram_is_nearly_that_of_the_values():
    values = FLOATS["normal"]
    for ends in [(-4.0, 4.0), (-2.0, 3.0)]:
        assert squared_error(histogram(values), ends) == pytest.approx(lost(values, ends), rel=0.05)


@pytest.mark.parametrize(("ends", "scale", "point"), [
    ((0.0, 255.0), 1.0, -128), ((-128.0, 127.0), 1.0, 0), ((-1.0, 1.0), 2 / 255, 0),
    ((0.0, 6.0), 6 / 255, -128), ((-6.0, 0.0), 6 / 255, 127),
    ((2.0, 6.0), 6 / 255, -128), ((-6.0, -2.0), 6 / 255, 127), ((0.0, 0.0), 1.0, -128)])
def test_the_grid_of_an_activation_is_that_of_the_specification(ends, scale, point):
    found = grid(ends)
    assert (float(found.scales[0]), int(found.zero_points[0])) == (pytest.approx(scale), point)


@pytest.mark.parametrize(("ends", "scale"), [
    ((-1.0, 2.0), 2 / 32767), ((-4.0, 2.0), 4 / 32767), ((0.0, 0.0), 1.0)])
def test_the_grid_of_sixteen_bits_is_symmetric(ends, scale):
    found = grid(ends, bits=16)
    assert (float(found.scales[0]), int(found.zero_points[0])) == (pytest.approx(scale), 0)


@given(st.floats(-1e30, 1e30), st.floats(0, 1e30))
def test_zero_is_on_every_grid_and_no_grid_is_without_a_scale(low, width):
    found = grid((low, low + width))
    assert np.isfinite(found.scales[0])
    assert found.scales[0] > 0
    assert -128 <= found.zero_points[0] <= 127


def test_values_on_a_grid_are_what_quantizing_and_back_gives():
    values = FLOATS["normal"]
    found = grid((-2.5, 3.0))
    expected = dequantize(quantize(values, "INT8", found), found)
    np.testing.assert_allclose(on_grid(values, (-2.5, 3.0)), expected, atol=1e-6)
