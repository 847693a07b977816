"""The interval of a quantile, by order statistics: against tables, and against what it promises.

What an input takes at least: whatever holds inferences up for a while, it is not in the figure.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import repeats as repeating
from edgeq.repeats import each_least, interval, median_of, ranks, typical_of


@pytest.mark.parametrize(("n", "found"), [
    (5, None), (6, (1, 6)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15)), (50, (18, 33)), (100, (40, 61))])
def test_the_ranks_for_a_median_are_those_of_the_tables(n, found):
    assert ranks(n, 0.5, 0.95) == found  # Conover, Practical Nonparametric Statistics, 3.2


def test_a_high_percentile_takes_many_repeats():
    assert ranks(20, 0.9, 0.95) is None
    assert ranks(100, 0.9, 0.95) == (84, 96)


def test_the_interval_is_of_repeats_whatever_their_order():
    repeats = [3.0, 1.0, 6.0, 2.0, 5.0, 4.0]
    assert interval(repeats, 0.5) == (1.0, 6.0)
    value = median_of("latency_ms", repeats)
    assert (value.value, value.n, value.aggregation, value.interval) == (3.5, 6, "median", (1.0, 6.0))
    assert (value.unit, value.source) == ("ms", "measured")


def test_few_repeats_have_a_median_and_no_interval():
    assert median_of("latency_ms", [1.0, 9.0]).interval is None


def test_what_is_no_number_gives_none():
    assert interval([1.0] * 9 + [math.inf], 0.5) is None


@settings(deadline=None)
@given(st.integers(6, 400), st.floats(0.5, 0.99))
def test_the_median_itself_is_always_held(n, confidence):
    found = ranks(n, 0.5, confidence)
    if found:
        low, high = found
        assert 1 <= low <= (n + 1) / 2 <= high <= n
        assert low + high == n + 1  # the binomial of a fair coin is symmetric


@pytest.mark.parametrize("n", [6, 7, 30, 100, 333])
def test_it_holds_the_median_with_its_confidence_and_is_no_wider_than_that(n):
    low, high = ranks(n, 0.5, 0.95)

    def held(low: int, high: int) -> Fraction:
        return Fraction(sum(math.comb(n, count) for count in range(low, high)), 2**n)

    assert held(low, high) >= Fraction(95, 100)
    assert held(low + 1, high - 1) < Fraction(95, 100)


# What an input takes at least


def test_inputs_take_turns_in_whole_rounds():
    seen = []
    assert each_least(lambda each: seen.append(each) or each * 2.0, [1, 2, 3], 7, 0) == ([2.0, 4.0, 6.0], 9)
    assert seen == [1, 2, 3] * 3
    assert each_least(lambda each: each, [1.0, 2.0], 0, 0) == ([math.inf] * 2, 0)


def test_it_goes_on_until_it_has_had_its_seconds(monkeypatch):
    now = iter((10.0, 10.3, 10.6, 11.0))
    monkeypatch.setattr(repeating.time, "process_time", lambda: next(now))
    assert each_least(lambda each: each, [1.0, 2.0], 2, 1.0) == ([1.0, 2.0], 2 * 3)


def test_what_holds_inferences_up_for_a_while_is_not_in_the_figure():
    alone, held_up = [40.0, 41.0, 42.0, 43.0, 44.0, 45.0], 1.36
    spell = itertools.cycle([held_up] * 50 + [1.0] * 7)  # now and then a whole round has the core alone
    least, called = each_least(lambda each: each * next(spell), alone, 6 * 57, 0)
    value = typical_of("latency_ms", least, called)
    assert (value.value, value.n, value.interval) == (42.5, 342, (40.0, 45.0))
    assert (value.aggregation, value.source) == ("median of 6 inputs' least", "measured")
