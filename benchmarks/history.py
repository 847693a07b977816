"""The history with 100,000 results in it, in a SQLite file: what a question and a build's insert take."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import EDGEQ, Figure, cost, scratch
from edgeq.history.address import address
from edgeq.history.changes import cells, steps
from edgeq.history.connection import connected, insert
from edgeq.history.reading import Question, by_series, trends
from edgeq.history.reading import figures as asked
from edgeq.history.recording import BELOW, record
from edgeq.history.rows import rows

RUNS, JOBS, RUNGS = 12_500, 8, 2
REPEATS = 21
PROJECT = "demo"
METRICS = ("accuracy", "accuracy_drop", "agreement", "sqnr_db", "mse", "cosine", "model_bytes", "flash_bytes",
           "ram_bytes", "instructions", "cycles", "macs", "loads", "stores", "latency_ms")
QUESTION = Question(PROJECT, targets=("target-3",))
LIMIT_S, LIMIT_MS = 0.3, 50.0


def figures() -> Iterator[Figure]:
    """Medians over repeated questions, inserts and whole commands."""
    with scratch() as folder:
        file = folder / "history.sqlite"
        size = f"{RUNS * JOBS:,} results of {RUNS:,} runs, {fill(file) / 1e6:.0f} MB"
        yield _timed("seconds of `edgeq history` for one target: the question and its table",
                     lambda _: told(file), 1, size, LIMIT_S)
        yield _command(file, size)
        yield _timed("seconds of the trends of all jobs for the report's page",
                     lambda _: trends(str(file), PROJECT), 1, size, LIMIT_S)
        yield _timed("milliseconds of a build's insert", lambda number: record(
            str(file), report(number), run(RUNS + number)), 1000, f"{JOBS} jobs into {size}", LIMIT_MS)


def told(file: Path) -> list[tuple[str, ...]]:
    """The rows of the table that the command prints."""
    found, benches = asked(str(file), QUESTION)
    return [cells(step) for series in by_series(found).values() for step in steps(series, benches)]


def fill(file: Path) -> int:
    """Fill the history, all in one transaction; the bytes of its file."""
    record(str(file), report(0), run(0))
    below = rows(report(0), run(0))
    with connected(address(str(file)), writing=True) as connection:
        for number in range(1, RUNS):
            (row,) = rows({**report(number), "results": []}, run(number))["runs"]
            connection.fill(insert("runs", [row]), [row])
            for table in BELOW:
                given = [{**each, "run": number + 1} for each in below[table]]
                connection.fill(insert(table, given), given)
    return file.stat().st_size


def report(number: int) -> dict[str, Any]:
    """The report of a build of all jobs."""
    host = {"machine": "x86_64", "cpu": "any", "system": "Linux", "release": "6", "python": "3.11"}
    return {"schema": "edgeq-report/1", "edgeq": "0.1.0", "passed": True, "host": host,
            "tools": {f"tool-{place}": "1.0" for place in range(10)},
            "results": [_result(place, number, host) for place in range(JOBS)]}


def run(number: int) -> dict[str, Any]:
    """The run of that number, some an hour."""
    day, hour = divmod(number // 4, 24)
    return {"schema": "edgeq-run/1", "id": f"{number:08}", "seconds": 9.0, "project": PROJECT,
            "started": f"{2020 + day // 336}-{1 + day % 336 // 28:02}-{1 + day % 28:02}T{hour:02}:00:00Z",
            "commit": f"{number:08x}" * 5, "branch": "main", "dirty": False}


def _result(place: int, number: int, host: dict[str, str]) -> dict[str, Any]:
    metrics = {name: {"value": 1000.0 + number, "unit": "count", "source": "simulated", "n": 2000,
                      "interval": [999.0, 1001.0 + number]} for name in METRICS}
    verdicts = [{"metric": name, "max": 1e9, "value": 1000.0 + number, "passed": True, "reason": None}
                for name in METRICS[:4]]
    rung = {"recipe": "static-int8", "options": {}, "state": "passed", "reason": None, "notes": [],
            "metrics": metrics, "verdicts": verdicts, "digests": {}}
    return {**rung, "model": "fashion", "target": f"target-{place}", "passed": True, "error": None,
            "evaluation": "2000 samples", "notice": None,
            "identity": {"runner": {"name": "host"}, "host": host, "tools": {}, "data": {"evaluation": "a"}},
            "artifacts": [{"path": f"target-{place}/{each}", "bytes": 1, "sha256": "0" * 64}
                          for each in range(5)],
            "rungs": [{**rung, "recipe": f"other-{each}", "state": "failed"}
                      for each in range(RUNGS - 1)] + [rung]}


def _timed(name: str, carry_out: Callable[[int], object], scale: float, size: str, limit: float) -> Figure:
    taken = []
    for number in range(REPEATS):
        start = time.perf_counter()
        carry_out(number)
        taken.append(scale * (time.perf_counter() - start))
    return Figure(name, statistics.median(taken), f"{REPEATS} times, at most {max(taken):.3g}; {size}", limit)


def _command(file: Path, size: str) -> Figure:
    words = (*EDGEQ, "history", "--history", str(file), "--project", PROJECT, "--target", QUESTION.targets[0])
    whole = [cost(words) for _ in range(REPEATS)]
    start = statistics.median(cost((sys.executable, "-c", "pass")).cpu_s for _ in range(REPEATS))
    wall = statistics.median(each.wall_s for each in whole)
    return Figure("CPU seconds of the whole command, the start of Python among them",
                  statistics.median(each.cpu_s for each in whole),
                  f"{REPEATS} times, wall {wall:.2f} s, Python alone {start:.2f} s; {size}", LIMIT_S)
