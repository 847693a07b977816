"""The table of all rungs: accuracy, drop, interval, sqnr_db, agreement, seconds and MB of each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.ladder_rows import Ladder, Row
from edgeq.judging.paired import mcnemar

COLUMNS = ("accuracy %", "drop, points", "interval, 95 %", "p, plain", "agreement %", "sqnr_db",
           "over plain", "s", "MB")


def show(ladders: Sequence[Ladder]) -> None:
    """Print a row for each rung that was scored, refused or failed, and why others were left out."""
    if not ladders:
        return
    table = Table(header_style="bold")
    for column in ("network", "rung"):
        table.add_column(column, no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for ladder in ladders:
        for place, row in enumerate(row for row in ladder.rows if row.state != "skipped"):
            name = str(ladder) if place == 0 else ""
            table.add_row(name, _called(row, ladder), *(_cells(row, ladder) if row.judged else _fate(row)))
        table.add_section()
    console = Console(width=160, highlight=False)
    console.print(table)
    console.print("=: the very same model; drop: float's accuracy less the rung's; "
                  "p, plain: McNemar's test against plain static-int8 (range minmax);")
    console.print("s: the quantize step alone; MB: the peak of its process")
    for ladder in ladders:
        for row in ladder.rows:
            if not row.judged:
                console.print(f"{ladder} {row.rung}: {row.state}: {row.reason}", markup=False)


def _called(row: Row, ladder: Ladder) -> str:
    twin = ladder.twin(row)
    return f"{row.rung} = {twin.rung}" if twin else str(row.rung)


def _fate(row: Row) -> tuple[str, ...]:
    return (row.state, *[""] * (len(COLUMNS) - 3), f"{row.seconds:.1f}", f"{row.peak_mb:.0f}")


def _cells(row: Row, ladder: Ladder) -> tuple[str, ...]:
    above = row.db - ladder.plain.db if ladder.plain else None
    return (*_against_labels(row, ladder), _number(row.value("agreement"), "{:.2f}", 100),
            f"{row.db:.2f}", _number(above, "{:+.2f}"), f"{row.seconds:.1f}", f"{row.peak_mb:.0f}")


def _against_labels(row: Row, ladder: Ladder) -> tuple[str, str, str, str]:
    lost = row.metrics.get("accuracy_drop")
    if lost is None:
        return ("", "", "", "")
    against = ladder.against_plain(row)
    low, high = lost.interval or (0.0, 0.0)
    return (_number(row.value("accuracy"), "{:.2f}", 100), f"{row.lost:+.2f}",
            f"{100 * low:+.2f} … {100 * high:+.2f}" if lost.interval else "",
            f"{mcnemar(against.lost, against.gained):.2g}" if against else "")


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "" if value is None else form.format(scale * value)
