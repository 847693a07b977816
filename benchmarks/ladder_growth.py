"""How long two recipes take for a larger network, and how that grows with the calibration samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.ladder_climb import Ground, climbed, laid_out
from benchmarks.ladder_models import MODELS, varied
from benchmarks.ladder_rows import GRANULARITIES, Row, Rung
from benchmarks.measuring import Figure

MODEL = "wake"
COUNTS = (100, 200, 400)
LIMITS_S = {"equalized-int8": 20, "adaround-int8": 120}
MOST_GB = 2.5
MOST_GROWTH = 4.5  # from 100 samples to 400


def figures(folder: Path, store: Path, recipes: Sequence[str]) -> Iterator[Figure]:
    """Seconds, growth and memory of the `recipes` that have limits; Absent without the network."""
    subject = MODELS[MODEL]()
    real = subject.calibration["x"]
    rungs = [Rung(name) for name in recipes if name in LIMITS_S]
    found: list[tuple[Row, ...]] = []
    for count in COUNTS if rungs else ():
        ground = Ground(folder / f"{MODEL}-{count}", store)
        more = replace(subject, calibration={"x": varied(real, count)})
        found.append(climbed(ground, laid_out(ground, MODEL, more), GRANULARITIES[0], rungs).rows)
    for rung, rows in zip(rungs, zip(*found, strict=True), strict=True):
        yield from _of(rung.recipe, rows, len(real))


def _of(recipe: str, rows: tuple[Row, ...], real: int) -> Iterator[Figure]:
    name, first, last = f"{MODEL}: {recipe}", rows[0], rows[-1]
    if failed := [row.reason for row in rows if not row.judged]:
        yield Figure(f"{name}, runs that failed", len(failed), failed[0], at_most=0)
        return
    times = _by_count(rows, lambda row: f"{row.seconds:.1f} s (CPU {row.cpu_s:.1f})")
    yield Figure(f"{name}, s with {COUNTS[0]} samples", first.seconds,
                 f"{times}; {real} real ones, the others shifted and mirrored", at_most=LIMITS_S[recipe])
    yield Figure(f"{name}, CPU time, {COUNTS[-1]} samples / {COUNTS[0]}", last.cpu_s / first.cpu_s,
                 times, at_most=MOST_GROWTH)
    yield Figure(f"{name}, GB", max(row.peak_mb for row in rows) / 1000,
                 _by_count(rows, lambda row: f"{row.peak_mb:.0f} MB"), at_most=MOST_GB)


def _by_count(rows: tuple[Row, ...], said: Callable[[Row], str]) -> str:
    return ", ".join(f"{count}: {said(row)}" for count, row in zip(COUNTS, rows, strict=True))
