"""The same work by a script as people write it: convert, quantize and evaluate, target by target."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.measuring import EDGEQ, ROOT, Figure, cost, median_ratio, scratch

SCRIPT = ROOT / "benchmarks/scripts/by_hand.py"
RUNS = 3


def figures() -> Iterator[Figure]:
    """Wall time over that of the script, for one target and for two."""
    for targets, limit in ((("host",), 1.1), (("host", "tflm"), 1.0)):
        pairs = []
        for _ in range(RUNS):
            with scratch() as folder:
                chosen = [word for target in targets for word in ("--target", target)]
                ours = cost((*EDGEQ, "build", ROOT / "pipeline.yaml", "--store", folder / "store",
                             "--output-dir", folder / "build", *chosen))
            pairs.append((ours.wall_s, sum(cost((sys.executable, SCRIPT, target)).wall_s
                                           for target in targets)))
        yield Figure(f"wall time / script by hand, {' + '.join(targets)}", median_ratio(pairs),
                     f"{pairs[-1][0]:.1f} s / {pairs[-1][1]:.1f} s the last of {RUNS} pairs",
                     at_most=limit)
