"""What a number of samples can tell: intervals, the paired test, and how many samples would decide.

The one rule: an interval holds the limits that a test does not reject. Each kind of evidence says
by how many standard errors its estimate lies above a limit (the score test, its variance taken
under the limit where there is a formula for that); interval, verdict and the number of samples
that would decide all follow from this, so they cannot contradict one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Protocol

from edgeq.measurement import Value, in_group, rounded

CONFIDENCE = 0.95  # of the intervals that every report has
FEW = 25  # discordant pairs, below which the exact test is taken
STEPS = 200  # halvings: more than a float has bits


class Evidence(Protocol):
    """What is known of one figure from `n` samples; `span` holds all that it could be."""

    @property
    def n(self) -> int:
        """The number of samples."""

    @property
    def estimate(self) -> float:
        """The figure that they give."""

    @property
    def span(self) -> tuple[float, float]:
        """The least and the most that the figure could be."""

    def above(self, limit: float) -> float:
        """By how many standard errors the estimate lies above `limit`; it grows as √n."""


@dataclass(frozen=True)
class Share:
    """`successes` of `n` samples: its intervals are Wilson's (J. Am. Stat. Assoc. 22, 1927, 209)."""

    successes: int
    n: int

    @property
    def estimate(self) -> float:
        """The share."""
        return self.successes / self.n

    @property
    def span(self) -> tuple[float, float]:
        """0 to 1."""
        return 0.0, 1.0

    def above(self, limit: float) -> float:
        """(p - limit) / √(limit (1 - limit) / n)."""
        return _errors(self.estimate - limit, limit * (1 - limit) / self.n)


@dataclass(frozen=True)
class Loss:
    """Of `n` samples `lost` went from right to wrong and `gained` from wrong to right.

    Its intervals are Tango's (Statistics in Medicine 17, 1998, 891) for a difference of paired
    proportions, here (lost - gained) / n; at a limit of 0 the test is McNemar's.
    """

    lost: int
    gained: int
    n: int

    @property
    def estimate(self) -> float:
        """The share of the samples that were lost on balance."""
        return (self.lost - self.gained) / self.n

    @property
    def span(self) -> tuple[float, float]:
        """-1 to 1."""
        return -1.0, 1.0

    def above(self, limit: float) -> float:
        """(d - limit) / √((2 q + limit (1 - limit)) / n), q the likeliest share gained under `limit`."""
        gained, discordant = self.gained / self.n, (self.lost + self.gained) / self.n
        b = (2 - self.estimate) * limit - discordant
        root = math.sqrt(max(0.0, b * b + 8 * gained * limit * (1 - limit)))
        variance = (root - b) / 2 + limit * (1 - limit)
        return _errors(self.estimate - limit, variance / self.n)


@dataclass(frozen=True)
class Normal:
    """An estimate with its `standard_error`, taken to be normal."""

    estimate: float
    standard_error: float
    n: int
    span: tuple[float, float]

    def above(self, limit: float) -> float:
        """(estimate - limit) / standard_error."""
        return _errors(self.estimate - limit, self.standard_error**2)


def interval(evidence: Evidence, confidence: float) -> tuple[float, float]:
    """The least and the most that a two-sided test at 1 - `confidence` does not reject."""
    z = deviate(confidence)
    least, most = evidence.span
    low = _crossing(lambda limit: evidence.above(limit) <= z, least, evidence.estimate)
    high = _crossing(lambda limit: evidence.above(limit) < -z, evidence.estimate, most)
    return rounded(low), rounded(high)


def needed(evidence: Evidence, limit: float, confidence: float) -> int | None:
    """How many samples would tell the figure from `limit`, if its shares stayed as they are.

    The test's statistic t grows as √n, so that n (z / t)² samples bring it to z: for a share
    z² limit (1 - limit) / (p - limit)², the usual size of a sample for estimating a proportion
    (Cochran, Sampling Techniques, 1977, 4.4). None where the estimate is the limit itself.
    """
    if math.isclose(evidence.estimate, limit, rel_tol=0, abs_tol=1e-9):
        return None
    return math.ceil(evidence.n * (deviate(confidence) / evidence.above(limit)) ** 2)


def mcnemar(lost: int, gained: int) -> float:
    """The p-value of McNemar's paired test (Psychometrika 12, 1947, 153): as many lost as gained.

    Below 25 discordant pairs it is the exact two-sided binomial test; from there on its mid-p
    version, which wastes less power and has kept its level wherever it was tried (Fagerland,
    Lydersen, Laake, BMC Medical Research Methodology 13, 2013, 91).
    """
    pairs, fewer = lost + gained, min(lost, gained)
    log_of_point = math.lgamma(pairs + 1) - math.lgamma(fewer + 1) - math.lgamma(pairs - fewer + 1)
    point = math.exp(log_of_point - pairs * math.log(2))
    exact = min(1.0, 2 * point * _tail(fewer, pairs))
    if pairs < FEW:
        return rounded(exact)
    return rounded(1 - point / 2 if lost == gained else exact - point)


def deviate(confidence: float) -> float:
    """How many standard errors a normal estimate lies from the truth at most, so often."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def supported(metric: str, value: Value, evidence: Evidence) -> Value:
    """`value`, a figure of `metric`, with its interval and what other intervals can be made from."""
    if isinstance(evidence, Loss):
        value = replace(value, discordant=(evidence.lost, evidence.gained),
                        p_value=mcnemar(evidence.lost, evidence.gained))
    elif isinstance(evidence, Normal):
        value = replace(value, standard_error=rounded(evidence.standard_error))
        if metric == "accuracy_drop":
            value = replace(value, p_value=rounded(math.erfc(abs(evidence.above(0)) / math.sqrt(2))))
    return replace(value, interval=interval(evidence, CONFIDENCE))


def evidence_of(metric: str, value: Value) -> Evidence | None:
    """The evidence that `supported` put behind a figure of `metric`; None where there is none."""
    if value.value is None or value.interval is None or not value.n:
        return None
    if value.discordant is not None:
        return Loss(*value.discordant, value.n)
    if value.standard_error is not None:
        least = -1.0 if in_group(metric)[0] == "accuracy_drop" else 0.0
        return Normal(value.value, value.standard_error, value.n, (least, 1.0))
    return Share(round(value.value * value.n), value.n)


def _errors(distance: float, variance: float) -> float:
    if distance == 0:
        return 0.0
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


def _crossing(beyond: Callable[[float], bool], low: float, high: float) -> float:
    """Where `beyond` turns from false to true between `low` and `high`; an end where it does not."""
    if beyond(low):
        return low
    if not beyond(high):
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        if beyond(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _tail(fewer: int, pairs: int) -> float:
    """P(X <= fewer) / P(X = fewer) of the binomial distribution of `pairs` fair coins."""
    total = term = 1.0
    for count in range(fewer, 0, -1):
        term *= count / (pairs - count + 1)
        total += term
        if term < 1e-17 * total:
            break
    return total
