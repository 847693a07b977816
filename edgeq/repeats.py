"""What repeated measurements of one thing come to: a quantile of them, and the interval that holds it.

The one rule: nothing is taken to be normal. Times have a long tail, so the interval lies between two of the
repeats themselves: those that hold the true quantile with 95 %, whatever the distribution (Conover, Practical
Nonparametric Statistics, 3rd ed., 1999, 3.2). It is of independent repeats of one run; that the next run may
differ by more is the bench's repeatability, which regressions.floors knows.

On a machine that is shared, times are not independent either: whatever else is at work there, on another
machine that has the other thread of the same core among it, makes inference after inference slower, and none
faster. So there the least that an input takes is its time, as Chen and Revels have it (Robust benchmarking in
noisy environments, 2016, arXiv:1608.04295), and Python's timeit.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from edgeq.measurement import Source, Value, rounded, value_of

T = TypeVar("T")
CONFIDENCE = 0.95
INPUTS = 10  # enough for an interval; the more there are, the seldomer the least of each is met


def median_of(metric: str, repeats: Sequence[float], source: Source = "measured") -> Value:
    """The median of the `repeats`, in the metric's own unit, with n and the interval that they give.

    Below 6 repeats there is none: even the least and the greatest of 5 miss the median in 6 % of all cases.
    """
    value = value_of(metric, statistics.median(repeats), source, n=len(repeats), aggregation="median")
    return replace(value, interval=interval(repeats, 0.5))


def each_least(
    infer: Callable[[T], float], given: Collection[T], runs: int, seconds: float
) -> tuple[list[float], int]:
    """The least that `infer` told of each of `given`, and how often it was called in all.

    They take turns, in whole rounds, so that the calls of one are spread over the whole time: until there are
    `runs` in all, and until this process has had `seconds` of the processor.
    """
    least, called, end = [math.inf] * len(given), 0, time.process_time() + seconds
    while called < runs or time.process_time() < end:
        least = [min(before, infer(each)) for before, each in zip(least, given, strict=True)]
        called += len(given)
    return least, called


def typical_of(metric: str, least: Sequence[float], n: int) -> Value:
    """What a typical input takes: the median of what each took at least, of `n` measured values in all.

    The interval is that of the median of inputs; what all of them may have in common, it does not tell.
    """
    return replace(median_of(metric, least), n=n, aggregation=f"median of {len(least)} inputs' least")


def interval(
    repeats: Sequence[float], share: float, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """The two of the `repeats` that hold the quantile `share` (0..1) with at least `confidence`.

    None where there are too few of them, or where one is no number.
    """
    found = ranks(len(repeats), share, confidence)
    if found is None or not all(map(math.isfinite, repeats)):
        return None
    ordered = sorted(repeats)
    return rounded(ordered[found[0] - 1]), rounded(ordered[found[1] - 1])


def ranks(n: int, share: float, confidence: float) -> tuple[int, int] | None:
    """Which two of `n` ordered values, counted from 1, hold the quantile; None where none do.

    The number of values below the quantile is binomial (n, share), and each side may miss half of
    1 - confidence.
    """
    tail = (1 - confidence) / 2
    below, low, high = 0.0, 0, 0
    for count in range(n):
        below += _chance(count, n, share)  # that at most `count` values are below
        if below <= tail:
            low = count + 1
        if below >= 1 - tail:
            high = count + 1
            break
    return (low, high) if low and high else None


def _chance(count: int, n: int, share: float) -> float:
    """P(X = count) of the binomial distribution (n, share)."""
    ways = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
    return math.exp(ways + count * math.log(share) + (n - count) * math.log1p(-share))
