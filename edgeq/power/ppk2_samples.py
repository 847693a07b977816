"""Samples of a PPK2 into amperes: the library's own arithmetic, in bulk.

The one rule: it gives what ppk2_api gives. That goes from sample to sample, 60,000 a second; only where the
range changes does one sample depend on others (its filter of spikes), and only there is it asked itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeq.arrays import Array

BEFORE, AFTER = 300, 4  # samples: what the filter's averages remember (0.94^300 = 1e-8), and what it changes
RANGES = 5
STATE = ("rolling_avg", "rolling_avg4", "prev_range")


def amperes(kit: Any, words: Array) -> Array:
    """The current (n, A) that the samples `words` (n, uint32) of `kit`, a PPK2_API, stand for."""
    ranges = np.minimum((words >> 14) & 7, RANGES - 1)
    found = _unfiltered(kit, ranges, (words & 0x3FFF).astype(np.float64) * 4)
    for first, last, kept in _spans(np.flatnonzero(np.diff(ranges.astype(np.int8))) + 1, words.size):
        for name in STATE:
            setattr(kit, name, None)
        kit.after_spike = kit.consecutive_range_samples = 0
        kit.remainder = {"sequence": b"", "len": 0}
        filtered = kit.get_samples(words[first:last].astype("<u4").tobytes())[0]
        found[kept:last] = np.asarray(filtered[kept - first:]) * 1e-6
    return found


def _unfiltered(kit: Any, ranges: Array, adc: Array) -> Array:
    """PPK2_API.get_adc_result without its filter: with the calibration of the range, at the voltage."""
    by = {name: np.asarray([float(kit.modifiers[name][str(index)]) for index in range(RANGES)])[ranges]
          for name in ("R", "GS", "GI", "O", "S", "I", "UG")}
    raw = (adc - by["O"]) * (kit.adc_mult / by["R"])
    offset = by["S"] * (kit.current_vdd / 1000) + by["I"]
    made: Array = by["UG"] * (raw * (by["GS"] * raw + by["GI"]) + offset)
    return made


def _spans(changes: Array, count: int) -> Iterator[tuple[int, int, int]]:
    """Stretches (from, to) round the changes of the range, and from where on the filter counts in each."""
    groups = np.split(changes, np.flatnonzero(np.diff(changes) > BEFORE) + 1) if changes.size else []
    for group in groups:
        first, last = int(group[0]), int(group[-1])
        yield max(0, first - BEFORE), min(count, last + AFTER), first
