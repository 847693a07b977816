"""Reports and runs on paper, small enough to read, for the tests of the history."""

from __future__ import annotations

import copy
from typing import Any

Content = dict[str, Any]
IDENTITY = {"data": {"evaluation": "aa"}, "runner": {"name": "qemu-cortex-m", "board": "mps2-an386"},
            "meters": [], "tools": {"qemu-system-arm": "sha256:11"},
            "host": {"machine": "x86_64", "system": "Linux", "release": "6", "python": "3.11", "cpu": "A"}}
COUNT = {"value": 1000.0, "unit": "count", "source": "simulated", "n": 10}
SCORE = {"value": 0.9, "unit": "ratio", "source": "simulated", "n": 2000, "interval": [0.88, 0.92]}


def report(instructions: float | None = 1000.0, *, model: str = "kws", target: str = "cortex-m4",
           identity: Content | None = None, accuracy: Content | None = None) -> Content:
    """A report of one job with two rungs: the first failed its gate, and the second has these figures."""
    passed = instructions is not None and instructions <= 2000
    metrics = {"instructions": {**COUNT, "value": instructions}, "accuracy": accuracy or SCORE}
    verdicts = [{"metric": "instructions", "max": 2000, "value": instructions, "source": "simulated",
                 "passed": passed, "reason": None if passed else "failed", "explanation": None}]
    failed = {"recipe": "equalized-int8", "options": {}, "state": "failed", "reason": None, "notes": [],
              "metrics": {"instructions": {**COUNT, "value": 9999.0}}, "digests": {},
              "verdicts": [{**verdicts[0], "value": 9999.0, "passed": False, "reason": "failed"}]}
    best = {**failed, "recipe": "static-int8", "state": "passed" if passed else "failed",
            "metrics": metrics, "verdicts": verdicts}
    result = {"model": model, "target": target, "passed": passed, "recipe": "static-int8", "options": {},
              "evaluation": "10 samples", "error": None, "notice": None, "warnings": [], "audit": {},
              "identity": IDENTITY if identity is None else identity,
              "metrics": metrics, "verdicts": verdicts,
              "artifacts": [{"path": f"{target}/{model}/firmware.elf", "bytes": 7, "sha256": "ab"}],
              "rungs": [failed, best]}
    return copy.deepcopy({"schema": "edgeq-report/1", "edgeq": "0.1.0", "passed": passed,
                          "host": IDENTITY["host"], "tools": {"numpy": "2.4.6"}, "results": [result]})


def run(number: int, *, project: str = "demo", branch: str | None = "main",
        commit: str | None = None) -> Content:
    """The run of that number, a minute after the one before."""
    return {"schema": "edgeq-run/1", "id": f"run-{number:04}", "seconds": 1.5, "project": project,
            "started": f"2026-01-{1 + number // 1440:02}T{number // 60 % 24:02}:{number % 60:02}:00Z",
            "commit": commit or f"{number:040x}", "branch": branch, "dirty": False}
