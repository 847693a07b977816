"""Results, and the report they make: report.json (edgeq-report/1) is a contract.

Within /1 fields are only added. A rung that came as far as its gates has its verdicts, a job that a
tool or the configuration stopped its error, and every figure its unit, number of samples and source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgeq.artifact import Artifact
from edgeq.errors import ConfigError, EdgeqError, ToolError
from edgeq.gates import Verdict, rank
from edgeq.identity import Identity
from edgeq.measurement import Measurement, to_json
from edgeq.run import Run

SCHEMA = "edgeq-report/1"
State = Literal["passed", "failed", "skipped", "refused", "error"]


@dataclass(frozen=True)
class Climbed:
    """How one rung ended; `made` is all that it left, `notes` what is to be said of it."""

    recipe: str
    options: Mapping[str, Any]
    state: State
    reason: str = ""
    metrics: Measurement = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    made: Mapping[str, Artifact] = field(default_factory=dict)
    notice: str = ""
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether it came as far as its gates."""
        return self.state in ("passed", "failed")


@dataclass(frozen=True)
class Result:
    """How one job ended: its rungs as they were climbed, and the error that stopped it, if any.

    `audit` is what was found of its calibration samples, `warnings` what of that should worry, and
    `identity` what its figures were taken with.
    """

    model: str
    target: str
    evaluation: str
    rungs: tuple[Climbed, ...]
    error: EdgeqError | None = None
    warnings: tuple[str, ...] = ()
    audit: Mapping[str, Any] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)

    @property
    def best(self) -> Climbed | None:
        """The first rung that passed, else the one that fell least short, else the earliest."""
        judged = [rung for rung in self.rungs if rung.judged]
        return min(judged, key=lambda rung: rank(rung.verdicts), default=None)

    @property
    def passed(self) -> bool:
        """Whether a rung passed all gates and nothing failed."""
        return self.error is None and self.best is not None and self.best.state == "passed"


@dataclass(frozen=True)
class Report:
    """All results of one build, in the order of the plan, and the run that it was.

    `faults` are what went wrong beside the jobs, and changes nothing of them: a history that is not reached.
    """

    results: tuple[Result, ...]
    version: str
    host: Mapping[str, str]
    tools: Mapping[str, str]
    run: Run
    faults: tuple[EdgeqError, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every job passed."""
        return all(result.passed for result in self.results)

    @property
    def exit_code(self) -> int:
        """2 for a wrong configuration, 3 for a tool that failed, 1 for a gate, else 0."""
        codes = {result.error.exit_code for result in self.results if result.error}
        return next((code for code in (ConfigError.exit_code, ToolError.exit_code) if code in codes),
                    0 if self.passed else 1)


def as_json(report: Report, files: Mapping[tuple[str, str], list[dict[str, Any]]]) -> dict[str, Any]:
    """The report as report.json has it; `files` are the delivered files by (target, model)."""
    return {
        "schema": SCHEMA,
        "edgeq": report.version,
        "passed": report.passed,
        "host": dict(report.host),
        "tools": dict(report.tools),
        "results": [_result(result, files.get((result.target, result.model), []))
                    for result in report.results],
    }


def _result(result: Result, files: list[dict[str, Any]]) -> dict[str, Any]:
    best = result.best
    return {
        "model": result.model,
        "target": result.target,
        "passed": result.passed,
        "recipe": best.recipe if best else None,
        "options": dict(best.options) if best else {},
        "evaluation": result.evaluation,
        "error": result.error and {"kind": result.error.kind, "message": result.error.message,
                                   "hint": result.error.hint},
        "notice": best.notice or None if best else None,
        "warnings": list(result.warnings),
        "audit": dict(result.audit),
        "identity": asdict(result.identity),
        "metrics": to_json(best.metrics) if best else {},
        "verdicts": [_verdict(verdict) for verdict in best.verdicts] if best else [],
        "artifacts": files,
        "rungs": [_rung(rung) for rung in result.rungs],
    }


def _rung(rung: Climbed) -> dict[str, Any]:
    return {
        "recipe": rung.recipe,
        "options": dict(rung.options),
        "state": rung.state,
        "reason": rung.reason or None,
        "notes": list(rung.notes),
        "metrics": to_json(rung.metrics),
        "verdicts": [_verdict(verdict) for verdict in rung.verdicts],
        "digests": {name: artifact.digest for name, artifact in rung.made.items()},
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    limits = {"min": verdict.gate.min, "max": verdict.gate.max}
    told = {"confidence": verdict.gate.confidence, "interval": verdict.interval and [*verdict.interval],
            "needed": verdict.needed}
    return {
        "metric": verdict.gate.metric,
        **{key: limit for key, limit in limits.items() if limit is not None},
        "value": verdict.found.value,
        "source": verdict.found.source,
        "passed": verdict.passed,
        "reason": verdict.reason,
        "explanation": verdict.explanation or None,
        **_change(verdict),
        **{key: each for key, each in told.items() if each is not None},
    }


def _change(verdict: Verdict) -> dict[str, Any]:
    """What a gate on change allows, which figure it is held against, and how far it went; else nothing."""
    allowed, moved = verdict.gate.max_regression, verdict.change
    if allowed is None:
        return {}
    kept, old = verdict.gate.against, moved.old if moved else None
    return {
        "max_regression": allowed.amount,
        "relative": allowed.relative,
        "baseline": {"name": verdict.gate.baseline, "value": old.value if old else None,
                     "commit": kept.commit if kept else None},
        "change": moved and {"absolute": moved.absolute, "relative": moved.relative,
                             "interval": moved.interval and [*moved.interval], "outcome": moved.outcome,
                             "noise": moved.noise or None},
    }
