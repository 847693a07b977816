"""Intervals and paired tests against published numbers, and what must hold of any of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.judging.paired import (
    Loss,
    Normal,
    Share,
    deviate,
    evidence_of,
    interval,
    mcnemar,
    needed,
    supported,
)
from edgeq.measurement import unavailable, value_of

COUNTS = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 3000)).map(
    lambda counts: Loss(counts[0], counts[1], max(1, sum(counts))))
SHARES = st.tuples(st.integers(0, 500), st.integers(1, 500)).map(
    lambda counts: Share(min(counts), max(counts)))
EVIDENCE = COUNTS | SHARES


# Published numbers


@pytest.mark.parametrize(("successes", "n", "ends"), [
    (81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)),  # Newcombe 1998, Stat. Med. 17, 857, table I
    (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))])
def test_wilsons_intervals_are_those_of_newcombes_table(successes, n, ends):
    assert interval(Share(successes, n), 0.95) == pytest.approx(ends, abs=0.00005)


@pytest.mark.parametrize(("lost", "gained", "n", "confidence", "ends"), [
    (1, 7, 21, 0.95, (-0.517, -0.026)),         # Fagerland et al. 2014, airways before and after a transplant
    (28, 25, 618, 0.90, (-0.0148, 0.0247)),     # R's PropCIs::scoreci.mp(25, 28, 618, 0.90)
])
def test_tangos_intervals_are_the_published_ones(lost, gained, n, confidence, ends):
    assert interval(Loss(lost, gained, n), confidence) == pytest.approx(ends, abs=0.0005)


@pytest.mark.parametrize(("lost", "gained", "p"), [
    (1, 7, 0.0703),    # Fagerland et al. 2013, exact conditional test
    (6, 16, 0.0525),   # the same, complete response to a therapy
    (0, 5, 2 / 32), (2, 2, 1.0), (0, 0, 1.0), (0, 1, 1.0),
    (0, 24, 2 / 2**24),
])
def test_few_discordant_pairs_are_judged_by_the_exact_test(lost, gained, p):
    assert mcnemar(lost, gained) == pytest.approx(p, abs=0.00005)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_the_mid_p_test_takes_half_of_what_was_seen():
    # 2 P(X < 10) + P(X = 10) of 30 fair coins; of 15 and 15: 1 - P(X = 15) / 2
    coins = [math.comb(30, count) / 2**30 for count in range(31)]
    assert mcnemar(10, 20) == pytest.approx(2 * sum(coins[:10]) + coins[10])
    assert mcnemar(15, 15) == pytest.approx(1 - coins[15] / 2)


def test_many_discordant_pairs_come_to_mcnemars_chi_square():
    # Agresti, Categorical Data Analysis, 10.1: approval by 1,600 voters, 150 and 86 changed: z = -4.17
    assert Loss(86, 150, 1600).above(0) == pytest.approx(-4.17, abs=0.005)
    assert mcnemar(86, 150) == pytest.approx(math.erfc(4.166 / math.sqrt(2)), rel=0.1)
    assert interval(Loss(150, 86, 1600), 0.95) == pytest.approx((0.02, 0.06), abs=0.0015)


def test_a_hundred_thousand_discordant_pairs_are_no_trouble():
    assert mcnemar(100_000, 100_600) == pytest.approx(math.erfc(600 / math.sqrt(200_600 * 2)), rel=0.01)
    assert mcnemar(0, 100_000) == 0


def test_a_normal_interval_is_so_many_standard_errors_wide_and_ends_at_the_span():
    assert interval(Normal(0.88, 0.01, 240, (0, 1)), 0.95) == pytest.approx((0.8604, 0.8996))
    assert interval(Normal(0.99, 0.01, 240, (0, 1)), 0.95) == pytest.approx((0.9704, 1))
    assert interval(Normal(0.88, 0.01, 240, (0, 1)), 0.6827) == pytest.approx((0.87, 0.89), abs=1e-5)


@pytest.mark.parametrize(("confidence", "z"), [(0.95, 1.959964), (0.99, 2.575829), (0.6827, 1.0)])
def test_a_confidence_is_a_number_of_standard_errors(confidence, z):
    assert deviate(confidence) == pytest.approx(z, abs=1e-4)


# What must hold of any


@given(EVIDENCE)
def test_an_interval_holds_its_estimate_and_stays_within_the_span(evidence):
    low, high = interval(evidence, 0.95)
    least, most = evidence.span
    assert least <= low <= evidence.estimate + 1e-11
    assert evidence.estimate - 1e-11 <= high <= most
    assert low < high, "no number of samples makes certain"


@given(EVIDENCE)
def test_more_confidence_makes_a_wider_interval(evidence):
    narrow, wide = interval(evidence, 0.9), interval(evidence, 0.99)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


@given(COUNTS)
def test_what_is_lost_one_way_is_gained_the_other(evidence):
    low, high = interval(evidence, 0.95)
    turned = interval(Loss(evidence.gained, evidence.lost, evidence.n), 0.95)
    assert turned == pytest.approx((-high, -low), abs=1e-9)


@given(EVIDENCE)
def test_the_ends_of_an_interval_are_where_the_test_stops_rejecting(evidence):
    z = deviate(0.95)
    for end, sign in zip(interval(evidence, 0.95), (1, -1), strict=True):
        if end not in evidence.span:
            assert evidence.above(end) == pytest.approx(sign * z, rel=1e-4)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    chance = np.random.default_rng(0)
    tables = chance.multinomial(300, [0.06, 0.03, 0.91], size=1000)
    ends = [interval(Loss(int(lost), int(gained), 300), 0.95) for lost, gained, _ in tables]
    held = np.mean([low <= 0.03 <= high for low, high in ends])
    assert 0.93 <= held <= 0.97


def test_mcnemars_test_is_wrong_no_more_often_than_it_says():
    chance = np.random.default_rng(1)
    for pairs in (12, 40):
        lost = chance.binomial(pairs, 0.5, size=2000)
        rejected = np.mean([mcnemar(int(each), pairs - int(each)) < 0.05 for each in lost])
        assert rejected <= 0.06


# How many samples would decide


def scaled(evidence: Loss | Share, times: int) -> Loss | Share:
    """As many times the samples, in the same shares."""
    if isinstance(evidence, Loss):
        return Loss(evidence.lost * times, evidence.gained * times, evidence.n * times)
    return Share(evidence.successes * times, evidence.n * times)


def apart(evidence: Loss | Share, limit: float) -> bool:
    low, high = interval(evidence, 0.95)
    return not low <= limit <= high


@pytest.mark.parametrize(("evidence", "limit"), [
    (Loss(12, 5, 900), 0.01), (Loss(3, 3, 200), 0.01), (Loss(0, 0, 100), 0.01), (Share(93, 100), 0.9),
    (Share(1, 100), 0.02), (Loss(30, 9, 900), 0.02)])
def test_so_many_samples_decide_and_fewer_do_not(evidence, limit):
    wanted = needed(evidence, limit, 0.95)
    times = wanted / evidence.n
    assert times > 1
    assert apart(scaled(evidence, math.ceil(times)), limit)
    assert not apart(scaled(evidence, math.floor(times)), limit)


def test_the_number_for_a_share_is_that_of_cochrans_formula():
    # 1.96² 0.9 · 0.1 / (0.93 - 0.9)²
    assert needed(Share(93, 100), 0.9, 0.95) == math.ceil(1.959964**2 * 0.09 / 0.03**2) == 385


def test_nearer_limits_take_more_samples():
    wanted = [needed(Loss(12, 5, 2000), limit, 0.95) for limit in (0.02, 0.01, 0.006, 0.004, 0.0036)]
    assert wanted == sorted(wanted)
    assert len(set(wanted)) == len(wanted)


def test_more_confidence_takes_more_samples():
    wanted = [needed(Loss(12, 5, 2000), 0.01, confidence) for confidence in (0.8, 0.9, 0.95, 0.99)]
    assert wanted == sorted(wanted)


@pytest.mark.parametrize(("evidence", "limit"), [
    (Loss(20, 0, 2000), 0.01), (Loss(3, 3, 50), 0), (Share(100, 100), 1), (Loss(7, 0, 100), 7 * 0.01)])
def test_no_number_of_samples_tells_a_figure_from_itself(evidence, limit):
    assert needed(evidence, limit, 0.95) is None


# Into a report and out of it


@pytest.mark.parametrize(("metric", "evidence"), [
    ("accuracy", Share(1829, 2000)), ("agreement", Share(7, 9)), ("accuracy_drop", Loss(12, 5, 2000)),
    ("accuracy_drop[dim light]", Loss(0, 0, 7)), ("accuracy", Normal(0.88, 0.013, 240, (0.0, 1.0))),
    ("accuracy_drop", Normal(0.002, 0.004, 240, (-1.0, 1.0)))])
def test_a_value_keeps_what_any_interval_is_made_from(metric, evidence):
    value = supported(metric, value_of(metric, evidence.estimate, "simulated", n=evidence.n), evidence)
    assert value.interval == interval(evidence, 0.95)
    assert evidence_of(metric, value) == evidence


def test_a_drop_has_the_p_value_of_its_paired_test():
    drop = value_of("accuracy_drop", 0.0035, "simulated", n=2000)
    found = supported("accuracy_drop", drop, Loss(12, 5, 2000))
    assert (found.discordant, found.p_value) == ((12, 5), mcnemar(12, 5))
    by_rank = supported("accuracy_drop", drop, Normal(0.0035, 0.0035 / 1.959964, 240, (-1, 1)))
    assert by_rank.p_value == pytest.approx(0.05, abs=1e-5)


def test_what_has_no_interval_has_no_evidence():
    assert evidence_of("accuracy", value_of("accuracy", 0.9, "simulated", n=10)) is None
    assert evidence_of("accuracy", unavailable("accuracy", "no labels")) is None
