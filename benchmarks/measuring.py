"""Whole processes, measured from outside: CPU and wall seconds, peak memory, medians of ratios."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EDGEQ = (sys.executable, "-m", "edgeq.cli")
SAMPLING_S = 0.05
os.environ["EDGEQ_HISTORY"] = "none"  # no benchmark writes into yours


@dataclass(frozen=True)
class Cost:
    """What one process took, its children among it; the peak is that of the largest of them."""

    cpu_s: float
    wall_s: float
    peak_mb: float


@dataclass(frozen=True)
class Figure:
    """One figure with its limit, and what it was computed from."""

    name: str
    value: float
    made_of: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the figure keeps its limit."""
        return ((self.at_most is None or self.value <= self.at_most)
                and (self.at_least is None or self.value >= self.at_least))

    def limit(self) -> str:
        """The limit as a person reads it."""
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"


def cost(command: Sequence[str | Path], cwd: Path = ROOT) -> Cost:
    """Run `command` to its end and say what it took; RuntimeError where it fails."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        start = time.perf_counter()
        process = subprocess.Popen(words, cwd=cwd, stdout=said, stderr=said,
                                   env={**os.environ, "PYTHONPATH": str(ROOT)})
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}: {said.read()[-2000:]}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The median of a / b over pairs that were measured one after the other."""
    return statistics.median(a / b for a, b in pairs)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a store, a pipeline and its results, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-") as folder:
        yield Path(folder)


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """The peak memory (MB) that any process of ours had in the block, sampled from /proc."""
    peak = [0.0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLING_S):
            peak[0] = max([peak[0], *_descendants_mb(os.getpid())])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def peak_mb(pid: int) -> float:
    """The peak memory (MB) that the process `pid` has had until now; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peaks[0]) / 1024 if peaks else 0.0


def _descendants_mb(pid: int) -> Iterator[float]:
    for child in _children(pid):
        yield peak_mb(child)
        yield from _descendants_mb(child)


def _children(pid: int) -> list[int]:
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []
