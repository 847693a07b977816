"""Constants of the fast requantization: the same as TFLite's arithmetic for every sum."""

import numpy as np
import pytest

from edgeq.firmware.arithmetic import multiplier
from edgeq.firmware.fit import Sums, fitted, reach


def drawn(seed, *, signed, low=-128, high=127, channels=6, small=0):
    """A layer as they come: weights of a few hundred inputs, outputs that use most of the grid."""
    chance = np.random.default_rng(seed)
    inputs = int(chance.choice([9, 27, 40, 64]))
    weights = np.clip(np.rint(chance.laplace(0, chance.uniform(5, 40), (channels, inputs))), -127, 127)
    weights[:, 0] = 127
    bias = chance.integers(-20000, 20000, channels)
    scale = chance.uniform(20, 120, channels) / np.sqrt((weights**2).sum(1)) / 60 * 2 ** chance.uniform(-2, 1)
    scale[:small] *= 2.0 ** -chance.integers(4, 20, small)
    both = np.array([multiplier(float(each)) for each in scale])
    zero = int(chance.integers(-60, 60)) if signed else low
    return Sums(both[:, 0], both[:, 1], bias, *reach(weights), zero, low, high)


def wrong(sums, fit):
    """How many of the sums that can be come out otherwise than TFLite's."""
    found = 0
    for channel in range(len(sums.bias)):
        alone = sums.of(np.array([channel]))
        raw = np.arange(alone.least[0], alone.most[0] + 1)[:, None]
        words = fit.add[channel] + (raw << fit.k)
        words = (words + 2**31) % 2**32 - 2**31
        words = words - (0 if fit.less is None else np.where(words < 0, fit.less[channel], 0))
        assert np.abs(words).max() <= 2**31
        product = (words * fit.factor[channel] >> 32) + fit.offset[channel]
        assert np.abs(product).max() <= 2**31
        outputs = np.clip(product >> fit.n, -128, 127)
        found += int((np.clip(outputs, sums.low, sums.high) != alone.outputs(raw)).sum())
    return found


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("nmax", [31, 16])
def test_every_sum_comes_out_as_tflite_has_it(signed, nmax):
    fits = {seed: fitted(drawn(seed, signed=signed, small=seed % 3), nmax) for seed in range(8)}
    assert sum(fit is None for fit in fits.values()) <= 1
    for seed, fit in fits.items():
        if fit:
            assert fit.n <= nmax
            assert (fit.less is not None) == signed
            assert wrong(drawn(seed, signed=signed, small=seed % 3), fit) == 0


@pytest.mark.parametrize(("low", "high"), [(-128, 90), (-20, 127), (-20, 60), (5, 6), (-128, -127)])
@pytest.mark.parametrize("signed", [False, True])
def test_other_clamps_are_left_to_the_kernel(low, high, signed):
    sums = drawn(3, signed=signed, low=low, high=high)
    fit = fitted(sums)
    assert fit is not None
    assert wrong(sums, fit) == 0


def test_channels_that_know_one_output():
    sums = drawn(1, signed=False, channels=4)
    bias = np.array([-(2**30), 2**30, int(sums.bias[2]), 0])
    sums = Sums(sums.mantissas * np.array([1, 1, 1, 0]), sums.shifts, bias, sums.least, sums.most, -128)
    fit = fitted(sums)
    assert wrong(sums, fit) == 0
    assert fit.outputs(np.zeros(4, int)).tolist()[:2] == [-128, 127]


def test_layer_of_constants():
    nothing = np.zeros(3, np.int64)
    sums = Sums(nothing, nothing, np.array([5, -5, 0]), nothing, nothing, 7)
    assert fitted(sums).outputs(nothing).tolist() == [7, 7, 7]


def test_step_far_from_the_bias():
    """A channel whose largest sum alone is seen: whatever its bias is, nothing overflows."""
    least, most = np.array([-40000]), np.array([40000])
    sums = Sums(*(np.array([each]) for each in multiplier(2.0**-9)), np.array([-40100]), least, most, -128)
    assert set(sums.outputs(np.arange(-40000, 40001)[:, None]).reshape(-1)) == {-128}
    nearly = Sums(sums.mantissas, sums.shifts, np.array([-39500]), least, most, -128)
    assert wrong(nearly, fitted(nearly)) == 0


def test_too_large_sums_have_no_fit():
    one = np.array([2**30])
    sums = Sums(one, np.array([-3]), one, -one * 3, one * 3, 0)
    assert fitted(sums) is None


def test_reach_is_met_by_the_worst_inputs():
    weights = np.array([[3, -2, 0], [0, 0, 0]])
    least, most = reach(weights)
    assert (least[0], most[0]) == (3 * -128 - 2 * 127, 3 * 127 + 2 * 128)
    assert (least[1], most[1]) == (0, 0)
