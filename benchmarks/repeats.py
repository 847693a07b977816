"""How well this machine repeats a latency, in one build after the other.

The limit is the floor that a comparison takes for a host that it knows nothing of (regressions/floors.py).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import EDGEQ, Figure, cost, scratch
from edgeq.regressions.floors import HOST

BUILDS = 10
SHARE = 0.9  # of the pairs of builds


def figures() -> Iterator[Figure]:
    """By how many percent two builds differ, at most, in nine of ten pairs."""
    with scratch() as folder:
        times = [_latency_ms(folder) for _ in range(BUILDS)]
    apart = sorted(max(pair) / min(pair) - 1 for pair in itertools.combinations(times, 2))
    told = ", ".join(f"{time:.4f}" for time in times)
    yield Figure("host latency, builds apart, %", 100 * apart[int(SHARE * len(apart))], f"{told} ms",
                 at_most=100 * HOST.share)


def _latency_ms(folder: Path) -> float:
    cost([*EDGEQ, "build", "--target", "host", "--measure", "--history", "none", "--store", folder / "store",
          "--output-dir", folder / "build"])
    result = json.loads((folder / "build/report.json").read_text(encoding="utf-8"))["results"][0]
    return float(result["metrics"]["latency_ms"]["value"])
