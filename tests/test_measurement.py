"""Figures: their units, where they come from, and the way through a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import pytest

from edgeq import measurement
from edgeq.measurement import (
    METRICS,
    SCALES,
    Unit,
    Value,
    in_group,
    quantity,
    to_json,
    unavailable,
    unit_of,
    value_of,
)


@pytest.mark.parametrize(("text", "unit", "value"), [
    ("128KiB", "bytes", 131072), ("1.5 MiB", "bytes", 1572864), ("2GiB", "bytes", 2147483648),
    ("128kB", "bytes", 128000), ("128KB", "bytes", 128000), ("7 B", "bytes", 7), ("7", "bytes", 7),
    ("5M", "count", 5e6), ("500k", "count", 5e5), ("2G", "count", 2e9),
    ("1 %", "ratio", 0.01), ("100%", "ratio", 1), ("0.25", "ratio", 0.25),
    ("10ms", "ms", 10), ("250 us", "ms", 0.25), ("2s", "ms", 2000),
    ("3 mJ", "uj", 3000), ("1J", "uj", 1e6), ("40dB", "db", 40), ("-1e-3", "value", -0.001),
])
def test_a_quantity_comes_in_the_unit_of_its_metric(text: str, unit: Unit, value: float) -> None:
    assert quantity(text, unit) == pytest.approx(value)


def test_a_plain_number_is_in_the_metrics_own_unit() -> None:
    assert quantity(131072, "bytes") == quantity("128KiB", "bytes")


@pytest.mark.parametrize(("text", "unit", "units"), [
    ("10 parsecs", "bytes", "B, kB, KB, MB, GB, KiB, MiB, GiB"), ("10ms", "bytes", "B, kB"),
    ("128KiB", "ms", "ms, us, s"), ("5M", "value", "none, a plain number"),
    ("1m", "count", "k, K, M, G"),  # a thousandth or a million? neither
])
def test_an_unknown_unit_is_answered_with_those_that_would_do(text: str, unit: Unit, units: str) -> None:
    with pytest.raises(ValueError, match="unknown unit") as error:
        quantity(text, unit)
    assert units in str(error.value)
    assert text in str(error.value)


@pytest.mark.parametrize("text", ["", "much", "KiB", "1..2", "1,5", "nan", "inf", "1 000", "5 M B", "0x10"])
def test_what_is_no_number_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number with a unit"):
        quantity(text, "bytes")


def test_a_number_beyond_all_bounds_is_told() -> None:
    with pytest.raises(ValueError, match="too large"):
        quantity("1e300 GiB", "bytes")


def test_every_unit_of_a_metric_has_its_scales() -> None:
    assert {metric.unit for metric in METRICS.values()} <= SCALES.keys() == set(get_args(Unit))


def test_a_figure_carries_the_unit_of_its_metric() -> None:
    assert value_of("model_bytes", 7, "measured") == Value(7.0, "bytes", "measured")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_no_figures(number: float) -> None:
    found = value_of("cycles", number, "simulated")
    assert (found.value, found.source) == (None, "unavailable")
    assert str(number) in found.reason


def test_a_measurement_comes_back_from_its_file(tmp_path: Path) -> None:
    taken = {
        "accuracy": value_of("accuracy", 0.9145, "simulated", n=2000),
        "latency_ms": value_of("latency_ms", 0.1, "measured", n=100, aggregation="median"),
        "cycles": unavailable("cycles", "an operator runs on the CPU"),
        "accuracy_drop[night]": Value(0.01, "ratio", "simulated", 300, interval=(-0.0025, 0.03),
                                      p_value=0.25, discordant=(5, 2), group="night"),
        "worst_group_drop": Value(0.01, "ratio", "simulated", 300, standard_error=0.002),
    }
    measurement.write(tmp_path / "costs.json", taken)
    assert measurement.read(tmp_path / "costs.json") == taken


def test_json_has_a_value_always_and_else_only_what_says_something() -> None:
    taken = {"model_bytes": value_of("model_bytes", 7, "measured"), "cycles": unavailable("cycles", "none")}
    assert to_json(taken) == {
        "model_bytes": {"value": 7.0, "unit": "bytes", "source": "measured"},
        "cycles": {"value": None, "unit": "count", "source": "unavailable", "reason": "none"},
    }


@pytest.mark.parametrize(("metric", "parts"), [
    ("accuracy[night]", ("accuracy", "night")), ("accuracy_drop[a]b[c]]", ("accuracy_drop", "a]b[c]")),
    ("baseline_accuracy[dim\nlight]", ("baseline_accuracy", "dim\nlight")), ("accuracy", ("accuracy", "")),
    ("cycles[night]", ("cycles[night]", "")), ("accuracy[]", ("accuracy[]", ""))])
def test_a_metric_may_be_of_a_group(metric: str, parts: tuple[str, str]) -> None:
    assert in_group(metric) == parts


def test_a_metric_of_a_group_has_the_unit_of_all() -> None:
    assert unit_of("accuracy_drop[night]") == unit_of("worst_group_drop") == "ratio"
    assert value_of("accuracy[night]", 0.5, "simulated").unit == "ratio"
    for unknown in ("cycles[night]", "accuracy[]", "acuracy"):
        with pytest.raises(KeyError):
            unit_of(unknown)


def test_an_interval_is_a_list_in_json() -> None:
    drop = Value(0.01, "ratio", "simulated", 300, interval=(-0.0025, 0.03), discordant=(5, 2))
    assert to_json({"accuracy_drop": drop})["accuracy_drop"] == {
        "value": 0.01, "unit": "ratio", "source": "simulated", "n": 300, "interval": [-0.0025, 0.03],
        "discordant": [5, 2]}


def test_what_is_written_is_plain_json(tmp_path: Path) -> None:
    measurement.write(tmp_path / "costs.json", {"mse": value_of("mse", math.nan, "simulated")})
    json.loads((tmp_path / "costs.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
