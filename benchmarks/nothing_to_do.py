"""A build with nothing to do, beside the import of the libraries that any such tool has."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from benchmarks.measuring import EDGEQ, Figure, cost, median_ratio, scratch

IMPORTS = (sys.executable, "-c", "import pydantic, typer, rich, yaml, numpy")
RUNS = 11


def figures() -> Iterator[Figure]:
    """CPU time of `edgeq build --frozen` over that of the imports, the median of paired runs."""
    with scratch() as folder:
        build = (*EDGEQ, "build", "--store", folder / "store", "--output-dir", folder / "build",
                 "--history", folder / "history.sqlite")
        cost(build)
        pairs = [(cost((*build, "--frozen")).cpu_s, cost(IMPORTS).cpu_s) for _ in range(RUNS)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    yield Figure("CPU time / that of importing pydantic, typer, rich, yaml, numpy",
                 median_ratio(pairs), f"{ours:.2f} s / {theirs:.2f} s, {RUNS} pairs", at_most=2)
