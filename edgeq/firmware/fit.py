"""Constants that requantize a layer's sums in a few instructions, bit for bit what TFLite computes.

The one rule: what is answered is proved, in integers, for every sum that the layer's weights can give.
TFLite scales a sum by a product that it rounds twice. The result is one of 256, so it is a staircase of
at most 255 steps; a product without rounding climbs the same one where its constants meet every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.arithmetic import scaled

WIDEST = 14  # more fractional bits of a sum than these were never needed
LIMIT = 1 << 31
FAR = 1 << 40  # beyond every 32-bit accumulator
AT_ONCE = 16  # channels of a search: bounds its memory

# Changes of the natural offset and of the natural factor, to be tried each with each.
_Changes = tuple[tuple[int, ...], tuple[int, ...]]
ONE: _Changes = ((0,), (0,))
FEW: _Changes = ((0, -1, 1, -2, 2, -3, 3), (0, 1, -1, 2, -2, 4, -4, 8, -8))
MANY: _Changes = (tuple(sorted(range(-12, 13), key=abs)), tuple(sorted(range(-60, 61), key=abs)))


@dataclass(frozen=True, eq=False)
class Sums:
    """What the raw sums R of a layer (weights times int8 inputs, nothing else) shall become, a channel each.

    The accumulator is R + `bias`, where `bias` has -(zero point of the input) * sum(weights) in it; the
    output is the accumulator scaled by `mantissas` and `shifts` (see arithmetic.multiplier), plus
    `zero_point`, within `low` .. `high`. R lies within `least` .. `most` (see reach).
    """

    mantissas: Integers
    shifts: Integers
    bias: Integers
    least: Integers
    most: Integers
    zero_point: int
    low: int = -128
    high: int = 127

    def outputs(self, raw: Array) -> Integers:
        """The reference: what raw sums (…, channels) become."""
        outputs = self.unclamped(np.asarray(raw, np.int64) + self.bias)
        clamped: Integers = np.clip(outputs, self.low, self.high)
        return clamped

    def unclamped(self, accumulators: Array) -> Integers:
        """Accumulators (…, channels) scaled, with the zero point, not clamped yet."""
        return scaled(accumulators, self.mantissas, self.shifts) + self.zero_point

    def of(self, channels: Array) -> Sums:
        """Those of some channels alone."""
        return replace(self, **{name: getattr(self, name)[channels]
                                for name in ("mantissas", "shifts", "bias", "least", "most")})


@dataclass(frozen=True, eq=False)
class Fit:
    """Constants of the fast form, a channel each; `k` and `n` are the layer's.

        a = add + (R << k)                          modulo 2^32
        a = a - less          where a < 0           only if `less` is not None
        output = SAT8(((a * factor >> 32) + offset) >> n)

    No step but the first overflows. Outputs within the layer's low .. high are exact; what should be
    clamped to low (high) comes out as that or beyond it: other limits than -128 and 127 are the kernel's
    to keep.
    """

    k: int
    n: int
    add: Integers
    factor: Integers
    offset: Integers
    less: Integers | None

    def outputs(self, raw: Array) -> Integers:
        """What a machine makes of raw sums (…, channels)."""
        sums = _wrapped(self.add + (np.asarray(raw, np.int64) << self.k))
        if self.less is not None:
            sums = sums - np.where(sums < 0, self.less, 0)
        outputs: Integers = np.clip(((sums * self.factor >> 32) + self.offset) >> self.n, -128, 127)
        return outputs


def reach(weights: Array) -> tuple[Integers, Integers]:
    """The least and the most that sums of `weights` (channels, …) times int8 values can be."""
    flat = np.asarray(weights, np.int64).reshape(len(weights), -1)
    up, down = np.maximum(flat, 0).sum(1), np.minimum(flat, 0).sum(1)
    return -128 * up + 127 * down, 127 * up - 128 * down


def fitted(sums: Sums, nmax: int = 31, kmax: int = WIDEST) -> Fit | None:
    """Constants of the fast form with n <= `nmax` and k <= `kmax`.

    None where the search finds none: with the widest, of about 1 % of layers.
    """
    live = np.nonzero(sums.outputs(sums.least) != sums.outputs(sums.most))[0]
    stair = _stair(sums.of(live))
    shape = _shape(stair, nmax, kmax)
    if shape is None:
        return None
    k, n = shape
    found = _searched(stair, (k, n), (ONE, FEW))
    for down, less in ((down, less) for down in range(4) for less in (0, 1)):
        if found is None and k >= less and n > down:
            k, n = shape[0] - less, shape[1] - down
            found = _searched(stair, (k, n), (ONE, FEW, MANY))
    return None if found is None else _spread(sums, live, (found, stair.centre), (k, n))


@dataclass(frozen=True, eq=False)
class _Stair:
    """What some channels shall do: the accumulators at which the output climbs to low + 1, low + 2, ….

    All are less `centre`, and matter within `first` .. `last`; a step that is reached nowhere is at
    last + 1, one that is reached everywhere at first.
    """

    sums: Sums
    centre: Integers
    steps: Integers
    first: Integers
    last: Integers

    @property
    def signed(self) -> bool:
        """Whether outputs below the zero point are seen: there, halves are rounded the other way."""
        return self.sums.low < self.sums.zero_point

    @property
    def scale(self) -> Array:
        """Output per accumulator, a channel each."""
        scale: Array = self.sums.mantissas * 2.0 ** (self.sums.shifts - 31)
        return scale

    def of(self, channels: Array) -> _Stair:
        """That of some channels alone, which may be named more than once."""
        return _Stair(self.sums.of(channels), self.centre[channels], self.steps[channels],
                      self.first[channels], self.last[channels])


def _stair(sums: Sums) -> _Stair:
    """The steps, by bisection, from the centre that the fast form is best at: zero, if the sign counts."""
    wanted = np.arange(sums.low + 1, sums.high + 1)[None, :]
    first, last = sums.least + sums.bias, sums.most + sums.bias
    down, up = (np.repeat(end[:, None], wanted.shape[1], 1) for end in (first, last + 1))
    while (down < up).any():
        middle = (down + up) >> 1
        enough = scaled(middle, sums.mantissas[:, None], sums.shifts[:, None]) + sums.zero_point >= wanted
        up, down = np.where(enough, middle, up), np.where(enough, down, np.minimum(middle + 1, up))
    reached = np.where((down > first[:, None]) & (down <= last[:, None]), down, last[:, None])
    lowest = reached.min(1, initial=LIMIT)
    highest = np.where(reached < last[:, None], reached, lowest[:, None]).max(1, initial=-LIMIT)
    centre = np.clip(sums.bias, lowest, np.maximum(lowest, highest))
    if sums.low < sums.zero_point:
        centre = np.zeros_like(centre)
    return _Stair(sums, centre, down - centre[:, None], first - centre, last - centre)


def _shape(stair: _Stair, nmax: int, kmax: int) -> tuple[int, int] | None:
    """The largest k and n with which nothing overflows; None where even the smallest do."""
    if not stair.first.size:
        return min(kmax, WIDEST), min(nmax, 16)
    far = np.maximum(np.abs(stair.first), np.abs(stair.last)).max() + 4
    k = min(kmax, _bits((LIMIT - 2) / far))
    ends = np.stack([stair.first, stair.last]) + stair.centre
    outputs = np.abs(stair.sums.unclamped(ends)).max()
    n = min(nmax, _bits((LIMIT - 64) / (stair.scale.max() * 2.0 ** (32 - k))),
            _bits((LIMIT - 2) / (outputs + 131.0)))
    return (k, n) if k >= 0 and n >= 1 else None


def _bits(ratio: float) -> int:
    return math.floor(math.log2(ratio))


def _searched(stair: _Stair, shape: tuple[int, int], efforts: Iterable[_Changes]) -> Integers | None:
    """Rows of add (to what is centred), factor, offset, less, a column a channel; None if one has none."""
    found = np.zeros((4, stair.first.size), np.int64)
    left = np.arange(stair.first.size)
    for changes in efforts:
        unsolved = []
        at_once = 1 if changes is MANY else AT_ONCE  # it is given up at the first that has none
        for channels in (left[start:start + at_once] for start in range(0, left.size, at_once)):
            solved, found[:, channels] = _tried(stair.of(channels), shape, changes)
            unsolved += [*channels[~solved]]
            if changes is MANY and unsolved:
                return None
        left = np.array(unsolved, np.int64)
    return None if left.size else found


def _tried(stair: _Stair, shape: tuple[int, int], changes: _Changes) -> tuple[Array, Integers]:
    """Which channels a small change of the natural factor and offset solves, and the constants."""
    k, n = shape
    count, factors = stair.first.size, len(changes[1])
    natural = np.maximum(np.rint(stair.scale * 2.0 ** (32 + n - k)), 1).astype(np.int64)
    height = np.floor((stair.centre * stair.scale + stair.sums.zero_point + 0.5) * 2.0**n).astype(np.int64)
    solved, constants = np.zeros(count, bool), np.zeros((4, count), np.int64)
    channels = np.repeat(np.arange(count), factors)
    tried = np.clip(natural[channels] + np.tile(changes[1], count), 1, LIMIT - 1)
    for change in changes[0]:
        trial = _trial(stair.of(channels), shape, tried, height[channels] + change)
        won, first = np.unique(channels[trial.good], return_index=True)
        solved[won], constants[:, won] = True, trial.constants[:, trial.good][:, first]
        left = trial.hopeful & ~solved[channels]
        channels, tried = channels[left], tried[left]
        if not channels.size:
            break
    return solved, constants


@dataclass(frozen=True, eq=False)
class _Trial:
    """Whether a factor and an offset a channel will do, whether another offset might, and the constants."""

    good: Array
    hopeful: Array
    constants: Integers


def _trial(stair: _Stair, shape: tuple[int, int], factor: Array, offset: Array) -> _Trial:
    """What becomes of a factor and an offset a channel; what is `good` is proved.

    An offset moves what may be added, and does not widen it: where there is nothing between the least
    and the most by more than they are rounded, no offset helps.
    """
    k, _ = shape
    if stair.signed:  # what is added must leave the sign of the accumulator alone
        upper = _additions(stair, shape, (factor, offset), (np.maximum(stair.first, 0), stair.last))
        lower = _additions(stair, shape, (factor, offset), (stair.first, np.minimum(stair.last, -1)))
        hopeful = (upper[0] - upper[1] <= 2) & (lower[0] - lower[1] <= 2)
        upper = np.maximum(upper[0], 0), np.minimum(upper[1], (1 << k) - 1)
        lower = np.maximum(lower[0], -4 << k), np.minimum(lower[1], 4 << k)
    else:
        upper = lower = _additions(stair, shape, (factor, offset), (stair.first, stair.last))
        hopeful = upper[0] - upper[1] <= 2
    add, below = upper[0] + upper[1] >> 1, lower[0] + lower[1] >> 1
    good = (upper[0] <= upper[1]) & (lower[0] <= lower[1])
    for end in (stair.first, stair.last):
        sums = (end << k) + np.where(end < 0, below, add)
        good &= np.abs(sums) + 2 * np.abs(add - below) < LIMIT
        good &= np.abs((np.clip(sums, -LIMIT, LIMIT) * factor >> 32) + offset) < LIMIT
    return _Trial(good, hopeful, np.stack([add, factor, offset, add - below]))


def _additions(
    stair: _Stair, shape: tuple[int, int], constants: tuple[Array, Array], ends: tuple[Array, Array]
) -> tuple[Integers, Integers]:
    """The least and the most that may be added for all accumulators within `ends` to come out right.

    The fast form climbs as the accumulator does, so it is right everywhere if it is right at each
    step and just below it.
    """
    k, n = shape
    factor, offset = constants
    first, last = ends[0][:, None], ends[1][:, None]
    steps = np.clip(stair.steps, np.minimum(first, last + 1), last + 1)
    outputs = np.arange(stair.sums.low + 1, stair.sums.high + 1)[None, :]
    needed = _quotients((outputs << n) - offset[:, None], factor[:, None])
    least = np.where(steps <= last, needed - (steps << k), -FAR)
    most = np.where((steps > first) & (first <= last), needed - 1 - ((steps - 1) << k), FAR)
    return least.max(1), most.min(1)


def _quotients(offsets: Array, factor: Array) -> Integers:
    """Offsets * 2^32 / factor, rounded up: exact where it is within 62 bits, and beyond 32 bits elsewhere."""
    whole = np.clip(offsets // factor, -(1 << 30), 1 << 30)
    quotients: Integers = (whole << 32) - (-((offsets % factor) << 32) // factor)
    return quotients


def _spread(
    sums: Sums, live: Array, solution: tuple[Integers, Integers], shape: tuple[int, int]
) -> Fit:
    """The constants of all channels; those that know but one output give it whatever their sum is."""
    (k, n), (found, centre) = shape, solution
    constants = np.zeros((4, sums.bias.size), np.int64)
    constants[2] = (2 * sums.outputs(sums.least) + 1) << n >> 1
    constants[:, live] = found
    add = np.zeros_like(sums.bias)
    add[live] = found[0] + ((sums.bias[live] - centre) << k)
    signed = sums.low < sums.zero_point
    return Fit(k, n, _wrapped(add), constants[1], constants[2], constants[3] if signed else None)


def _wrapped(values: Array) -> Integers:
    """Values modulo 2^32, as signed words."""
    words: Integers = (np.asarray(values, np.int64) + LIMIT) % (2 * LIMIT) - LIMIT
    return words
