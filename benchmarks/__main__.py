"""Run the benchmarks, or the one that is named, and print each figure beside its limit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from benchmarks import (
    boards,
    by_hand,
    demo,
    executorch,
    firmware,
    history,
    ladder,
    linux,
    nothing_to_do,
    repeats,
    report_page,
    scoring,
    workers,
)
from benchmarks.measuring import Figure

BENCHMARKS: Mapping[str, Callable[[], Iterator[Figure]]] = {
    "nothing-to-do": nothing_to_do.figures,
    "demo": demo.figures,
    "by-hand": by_hand.figures,
    "scoring": scoring.figures,
    "workers": workers.figures,
    "ladder": ladder.figures,
    "firmware": firmware.figures,
    "boards": boards.figures,
    "history": history.figures,
    "repeats": repeats.figures,
    "report-page": report_page.figures,
    "linux": linux.figures,
    "executorch": executorch.figures,
}


def main(names: list[str]) -> int:
    """Print a table of all figures; 1 where one is beyond its limit, 2 for an unknown name."""
    if unknown := [name for name in names if name not in BENCHMARKS]:
        sys.stderr.write(f"unknown benchmark {unknown[0]}; known: {', '.join(BENCHMARKS)}\n")
        return 2
    table = Table("benchmark", "figure", "value", "limit", "", "made of", header_style="bold")
    reached = True
    for name in names or BENCHMARKS:
        for figure in BENCHMARKS[name]():
            reached &= figure.reached
            table.add_row(name, figure.name, f"{figure.value:.2f}", figure.limit(),
                          "ok" if figure.reached else "MISSED", figure.made_of)
    Console(width=150).print(table)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
