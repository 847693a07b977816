"""A figure as the page shows it: number, unit, where it comes from, and on how many samples it stands.

The one rule: an estimate is marked by a sign and by its form, never by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from edgeq.html.reading import Rung, Verdict
from edgeq.measurement import METRICS, Value, in_group

ABOUT = "≈"
NONE = "—"
SHORT = {"measured": "meas", "simulated": "sim", "estimated": "est", "unavailable": NONE}
NAMES = {
    "accuracy": "accuracy", "baseline_accuracy": "baseline accuracy", "accuracy_drop": "accuracy drop",
    "worst_group_drop": "worst group's drop", "agreement": "agreement", "sqnr_db": "SQNR",
    "mse": "mean squared error", "cosine": "cosine similarity", "model_bytes": "model size",
    "flash_bytes": "flash", "ram_bytes": "RAM", "arena_bytes": "arena", "macs": "MACs",
    "instructions": "instructions", "cycles": "cycles", "latency_ms": "latency",
    "latency_p90_ms": "latency, 90th percentile", "energy_uj": "energy",
    "mapped_ops_ratio": "mapped operators", "cached_bytes": "cached parameters",
    "streamed_bytes": "streamed parameters",
}
SCALES: Mapping[str, Sequence[tuple[float, str]]] = {
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (0, "B")),
    "count": ((1e9, "G"), (1e6, "M"), (1e4, "k"), (0, "")),
    "ms": ((1e3, "s"), (0.1, "ms"), (0, "µs")),
    "uj": ((1e6, "J"), (1e3, "mJ"), (0.1, "µJ"), (0, "nJ")),
    "hz": ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz"), (0, "Hz")),
    "db": ((0, "dB"),), "value": ((0, ""),),
}
ONES: Mapping[str, float] = {"k": 1e3, "ms": 1, "µs": 1e-3, "µJ": 1, "nJ": 1e-3}  # where it is not the step


class Shown(NamedTuple):
    """A number and its unit as a person reads them, and both in full."""

    number: str
    unit: str
    full: str


def named(metric: str) -> str:
    """The metric in words, with its group."""
    name, group = in_group(metric)
    return f"{NAMES.get(name, name)} [{group}]" if group else NAMES.get(name, name)


def meaning(metric: str) -> str:
    """What the metric counts, in a sentence; nothing for a name of none."""
    found = METRICS.get(in_group(metric)[0])
    return found.meaning if found else ""


def unit_of(metric: str) -> str:
    """The unit of `metric`, `value` for a name of none."""
    found = METRICS.get(in_group(metric)[0])
    return found.unit if found else "value"


def figure(metric: str, value: Value) -> Shown:
    """The figure `value` of `metric`."""
    return shown(metric, value.value, value.unit)


def shown(metric: str, number: float | None, unit: str) -> Shown:
    """A `number` of `metric` in its `unit`, to four digits."""
    if number is None or not math.isfinite(number):
        return Shown(NONE, "", "")
    if unit == "ratio":
        return _share(metric, number)
    full = f"{number:,.12g} {'B' if unit == 'bytes' else unit}".removesuffix(" count").removesuffix(" value")
    if unit == "db":
        return Shown(_signed(f"{number:.1f}"), "dB", full)
    least, suffix = next(step for step in SCALES.get(unit, SCALES["value"]) if abs(number) >= step[0])
    scaled = number / ONES.get(suffix, least or 1)
    return Shown(_signed(_digits(scaled)), suffix, full)


def interval(metric: str, value: Value) -> str:
    """The interval of a figure as a person reads it; nothing where it has none."""
    if not value.interval:
        return ""
    low, high = (shown(metric, end, value.unit) for end in value.interval)
    return f"{low.number} … {high.number} {high.unit}".strip()


def stands_on(value: Value) -> str:
    """What a figure stands on beside its samples: aggregation, basis, rig, the paired test, the reason."""
    said = (_told("{}", value.reason), _told("{} of the n", value.aggregation),
            _told("after: {}", value.basis), _told("rig: {}", value.rig), _told("group {}", value.group),
            _told("p {:.2g}", value.p_value),
            _told("only the baseline right: {0[0]}, only the target: {0[1]}", value.discordant),
            _told("standard error {:.3g}", value.standard_error))
    return "; ".join(filter(None, said))


class Row(NamedTuple):
    """A metric over several rungs; `source` and `n` where all of its figures share them, else None."""

    cells: list[tuple[Shown, Value | None]]
    source: str | None
    n: int | None


def across(metric: str, rungs: Iterable[Rung]) -> Row:
    """The figures of `metric`, a cell a rung; a cell without a figure has no value."""
    cells = [_cell(metric, rung.metrics.get(metric)) for rung in rungs]
    stands = {(value.source, value.n) for _, value in cells if value}
    source, n = stands.pop() if len(stands) == 1 else (None, None)
    return Row(cells, source, n)


def limits(metric: str, low: float | None, high: float | None) -> str:
    """The limits of a gate as a person reads them."""
    said = [f"{sign} {each.number} {each.unit}".strip() for sign, limit in (("≥", low), ("≤", high))
            if limit is not None for each in [shown(metric, limit, unit_of(metric))]]
    return " and ".join(said)


def allowed(verdict: Verdict) -> str:
    """How much worse than its baseline a gate lets a figure be."""
    amount = verdict.max_regression or 0.0
    if verdict.relative:
        return f"{100 * amount:g} %"
    limit = shown(verdict.metric, amount, unit_of(verdict.metric))
    return f"{limit.number} {limit.unit}".strip()


def changed(verdict: Verdict) -> str:
    """How a figure went since its baseline, and what the bench repeats to."""
    kept, change = verdict.baseline or {}, verdict.change or {}
    old, share = kept.get("value"), change.get("relative")
    was = shown(verdict.metric, old if isinstance(old, float | int) else None, unit_of(verdict.metric))
    by = _signed(f"{100 * share:+.2g}") + " %" if isinstance(share, float) else ""
    said = (f"baseline {kept.get('name', '')}: {was.number} {was.unit}".rstrip(), by, change.get("outcome"),
            _told("the bench repeats to {}", change.get("noise")))
    return ", ".join(filter(None, said))


def used(value: float | None, high: float | None) -> float | None:
    """How much of a budget a figure takes, in percent; None where that says nothing."""
    if value is None or not high or value < 0 or high < 0:
        return None
    return min(100.0, 100 * value / high)


def _cell(metric: str, value: Value | None) -> tuple[Shown, Value | None]:
    if value is None or value.value is None:
        return Shown(NONE, "", ""), None
    return figure(metric, value), value


def _share(metric: str, number: float) -> Shown:
    """A ratio in percent, a difference of two in percentage points."""
    points = in_group(metric)[0].endswith("_drop")
    return Shown(_signed(f"{100 * number:.2f}"), "pp" if points else "%", f"{number:.12g}")


def _told(text: str, given: object) -> str:
    """`text` with what is given in it; nothing where nothing is."""
    return "" if given is None else text.format(given)


def _digits(number: float) -> str:
    if number == int(number) and abs(number) < 1e4:
        return f"{number:.0f}"
    if abs(number) >= 1000:
        return f"{number:,.0f}" if abs(number) < 1e7 else f"{number:.4g}"
    return f"{number:.4g}"


def _signed(text: str) -> str:
    """A real minus sign."""
    return text.replace("-", "−", 1) if text.startswith("-") else text
