"""Which groups are scored, and what is said of those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import ConfigError
from edgeq.judging.groups import Judged, by_group
from edgeq.measurement import Value, value_of


def score(given: Judged) -> dict[str, Value]:
    """The mean of the outputs against that of the baseline; no sample may be negative."""
    if (given.outputs < 0).any():
        raise ConfigError("a sample is negative")
    now, before, n = given.outputs.mean(), given.baseline.mean(), len(given.outputs)
    return {"accuracy": value_of("accuracy", now, "simulated", n=n),
            "baseline_accuracy": value_of("baseline_accuracy", before, "simulated", n=n),
            "accuracy_drop": value_of("accuracy_drop", before - now, "simulated", n=n)}


def scored(drops: dict[str, list[float]], asked=(), min_samples=0) -> dict[str, Value]:
    """The scores of groups with these outputs, where the baseline has 1 throughout."""
    outputs = np.array([1 - drop for each in drops.values() for drop in each])
    groups = np.array([name for name, each in drops.items() for _ in each])
    given = Judged(outputs, np.ones_like(outputs), None, np.zeros(len(outputs)))
    return by_group(score, given, groups, asked, min_samples)


def test_nothing_is_scored_unasked():
    assert scored({"a": [0.1], "b": [0.2]}) == {}


def test_a_group_that_is_asked_for_has_its_three_scores():
    found = scored({"a": [0.1, 0.3], "b": [0.2]}, asked=("a",))
    assert {name: value.value for name, value in found.items()} == {
        "accuracy[a]": 0.8, "baseline_accuracy[a]": 1, "accuracy_drop[a]": 0.2}
    assert {value.group for value in found.values()} == {"a"}


def test_a_group_that_is_not_there_is_answered_with_those_that_are():
    found = scored({"a": [0.1], "b": [0.2]}, asked=("c",))
    assert found["accuracy[c]"].reason == "no sample is of the group 'c'; the groups are a, b"
    many = scored({f"speaker {i:03}": [0.0] for i in range(200)}, asked=("c",))
    assert many["accuracy[c]"].reason.endswith("speaker 019 and 180 more")


def test_the_worst_group_loses_most():
    worst = scored({"a": [0.1] * 3, "b": [0.4] * 3, "c": [-0.2] * 3}, min_samples=3)["worst_group_drop"]
    assert (worst.value, worst.group, worst.n) == (pytest.approx(0.4), "b", 3)
    assert worst.aggregation == "the worst of 3 groups of at least 3 samples"


def test_the_worst_drop_may_be_a_gain():
    assert scored({"a": [-0.1], "b": [-0.2]}, min_samples=1)["worst_group_drop"].value == pytest.approx(-0.1)


def test_of_groups_that_lose_as_much_the_first_by_name_is_the_worst():
    assert scored({"b": [0.5], "a": [0.5]}, min_samples=1)["worst_group_drop"].group == "a"


def test_groups_that_are_too_small_are_left_out_by_name():
    worst = scored({"a": [0.1] * 3, "b": [0.9] * 2}, min_samples=3)["worst_group_drop"]
    assert worst.group == "a"
    assert worst.aggregation.endswith("left out: b (2 samples)")


def test_where_no_group_is_large_enough_there_is_no_worst():
    worst = scored({"a": [0.1] * 3, "b": [0.9] * 2}, min_samples=4)["worst_group_drop"]
    assert worst.value is None
    assert worst.reason == "no group can be judged by at least 4 samples: a (3 samples); b (2 samples)"


def test_a_group_that_cannot_be_scored_is_left_out_with_the_reason():
    worst = scored({"a": [0.1], "b": [2.0]}, min_samples=1)["worst_group_drop"]
    assert worst.group == "a"
    assert "b (group 'b': a sample is negative)" in worst.aggregation


def test_of_many_groups_the_report_has_the_worst_alone():
    drops = {f"g{i:02}": [i / 100] for i in range(21)}
    assert set(scored(drops, min_samples=1)) == {
        "worst_group_drop", "accuracy[g20]", "baseline_accuracy[g20]", "accuracy_drop[g20]"}
    drops.pop("g00")
    assert len(scored(drops, min_samples=1)) == 1 + 3 * 20


@pytest.mark.parametrize("name", ["a]b", "[a]", "dim\nlight", "день", " "])
def test_any_name_will_do(name):
    assert scored({name: [0.25]}, asked=(name,))[f"accuracy[{name}]"].value == 0.75
