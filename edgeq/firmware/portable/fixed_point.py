"""gemmlowp's fixed-point functions on int32 arrays (github.com/google/gemmlowp, fixedpoint/fixedpoint.h).

The one rule: values are raw integers in int64 arrays; `Qm` says that they have m integer bits, so that
the real number is raw / 2^(31 - m). All are pure, and what TensorFlow Lite Micro computes to the bit.
"""

from __future__ import annotations

import numpy as np

from edgeq.arrays import Array, Integers

LEAST, MOST = -(2**31), 2**31 - 1
ONE = MOST  # in Q0
# (exponent, exp(-2^exponent) in Q0) for the bits of the exponent above a quarter
BITS = ((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401),
        (4, 242))


def product(first: Array | int, second: Array | int) -> Integers:
    """The product of two Q0, rounded half up; of Qm and Qn it is one of Q(m + n)."""
    both = np.asarray(first, np.int64) * np.asarray(second, np.int64)
    found: Integers = np.minimum((both + (1 << 30)) >> 31, MOST)
    return found


def halved(values: Array, exponent: int) -> Integers:
    """The values / 2^exponent, rounded half away from zero."""
    raw = np.asarray(values, np.int64)
    mask = (1 << exponent) - 1
    found: Integers = (raw >> exponent) + ((raw & mask) > (mask >> 1) + (raw < 0))
    return found


def doubled(values: Array, exponent: int) -> Integers:
    """The values * 2^exponent, saturated."""
    found: Integers = np.clip(np.asarray(values, np.int64) << exponent, LEAST, MOST)
    return found


def exponential(values: Array, bits: int) -> Integers:
    """The exponential of values <= 0 in Q`bits`, as Q0."""
    raw, fraction = np.asarray(values, np.int64), 31 - bits
    quarter = 1 << (fraction - 2)
    within = (raw & (quarter - 1)) - quarter
    found = _near_zero(doubled(within, bits))
    rest = within - raw
    for exponent, factor in BITS:
        if bits > exponent:
            set_ = (rest & (1 << (fraction + exponent))) != 0
            found = np.where(set_, product(found, factor), found)
    whole: Integers = np.where(raw == 0, ONE, found)
    return whole


def logistic(values: Array, bits: int) -> Integers:
    """1 / (1 + exp(-x)) of values in Q`bits`, as Q0."""
    raw = np.asarray(values, np.int64)
    positive = doubled(_reciprocal_of_half_sum(exponential(-np.abs(raw), bits)), 1)
    found: Integers = np.where(raw == 0, 1 << 30, np.where(raw > 0, positive, ONE - positive))
    return found


def hyperbolic_tangent(values: Array, bits: int) -> Integers:
    """Tanh of values in Q`bits`, as Q0."""
    raw = np.asarray(values, np.int64)
    positive = doubled(_reciprocal_of_half_sum(exponential(-np.abs(raw), bits + 1)) - (1 << 29), 2)
    found: Integers = np.where(raw == 0, 0, np.where(raw < 0, -positive, positive))
    return found


def _near_zero(values: Integers) -> Integers:
    """The exponential of values in [-1/4, 0), Q0: a series around -1/8."""
    at, third = 1895147668, 715827883  # exp(-1/8), 1/3
    x = values + (1 << 28)
    square = product(x, x)
    fourth = halved(product(square, square), 2)
    tail = halved(product(fourth + product(square, x), third) + square, 1)
    return at + product(at, x + tail)


def _reciprocal_of_half_sum(values: Integers) -> Integers:
    """2 / (1 + x) of x in [0, 1), Q0: in Q2, by three steps of Newton's method."""
    total = values + ONE
    half = (total + 1) >> 1
    found = 1515870810 + product(half, -1010580540)  # 48/17, -32/17
    for _ in range(3):
        found = found + doubled(product(found, (1 << 29) - product(half, found)), 2)
    return found
