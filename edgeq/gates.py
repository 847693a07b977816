"""Gates: a metric, a limit, and where it holds. A gate judges; it never raises.

The one rule: silence is no evidence. A metric that is unavailable or invalid, or comes from a source
that the gate does not allow, does not pass; nor does one that too few samples stand behind, where the
gate asks for a confidence; nor, where it is a gate on change, one that is not comparable with its baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgeq.judging.paired import CONFIDENCE, Evidence, evidence_of, interval, needed
from edgeq.measurement import WORST, Measurement, Source, Value, unavailable, unit_of
from edgeq.regressions.change import Allowance, Change, change
from edgeq.regressions.taken import Job, Taken

Reason = Literal["failed", "inconclusive", "incomparable", "invalid", "unavailable"]
MIN_SAMPLES = 30  # what a group must have to be judged, where a gate does not say
WHOLE = 1e4  # from where on no digits behind the point are shown
UNKNOWN: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Gate:
    """`metric` lies between `min` and `max`, in its own unit, on `targets` and for `models`.

    A gate that names no targets or models holds for all. `allow` says which sources satisfy it:
    an estimate does only where it is listed. With a `confidence` the whole interval that holds the
    figure with it must lie between the limits. `min_samples` is for worst_group_drop: what a group
    must have to be judged. With `max_regression` the figure may be so much worse than that of the same job
    in the `baseline`: `kept` is all of that, and `against` the one job that `of` takes of it.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    targets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    allow: tuple[Source, ...] = ("measured", "simulated")
    confidence: float | None = None
    min_samples: int = MIN_SAMPLES
    max_regression: Allowance | None = None
    baseline: str = ""
    kept: Mapping[Job, Taken] = field(default_factory=dict)
    against: Taken | None = None

    def holds_for(self, model: str, target: str) -> bool:
        """Whether this gate judges `model` on `target`."""
        return (not self.targets or target in self.targets) and (
            not self.models or model in self.models)

    def of(self, model: str, target: str) -> Gate:
        """The gate for one job: of its baseline it knows that job alone."""
        return replace(self, kept={}, against=self.kept.get((model, target)))

    def judge(self, measurement: Measurement, identity: Mapping[str, Any] = UNKNOWN) -> Verdict:
        """The verdict on `measurement`, which was taken with what `identity` says (identity.py)."""
        verdict = self._limited(measurement)
        if self.max_regression is None or not verdict.passed:
            return verdict
        here = Taken(recipe=None, passed=True, metrics=measurement, identity=identity)
        return self._held(verdict, here, self.max_regression)

    def _limited(self, measurement: Measurement) -> Verdict:
        """The verdict by `min` and `max`."""
        found = measurement.get(self.metric) or unavailable(self.metric, "nothing measures it here")
        if found.value is None:
            return Verdict(self, found, "invalid" if found.invalid else "unavailable", found.reason or "")
        if found.source not in self.allow:
            return Verdict(self, found, "unavailable", f"it is {found.source}, and the gate allows "
                                                       f"only {', '.join(self.allow)}")
        if self.confidence is not None:
            return self._weighed(found, self.confidence)
        if self.shortfall(found.value) > 0:
            whose = f", for group {found.group}" if self.metric == WORST else ""
            return Verdict(self, found, "failed", f"wanted {self.limits()}{whose}")
        return Verdict(self, found, None, "")

    def shortfall(self, value: float) -> float:
        """By how much of the limit `value` misses it: 0 where it does not."""
        misses = [value - self.max] if self.max is not None else []
        misses += [self.min - value] if self.min is not None else []
        limit = max(abs(self.min or 0.0), abs(self.max or 0.0)) or 1.0
        return max(0.0, *misses) / limit if misses else 0.0

    def limits(self) -> str:
        """The limits as a person reads them."""
        unit = unit_of(self.metric)
        said = [f">= {shown(self.min, unit)}"] * (self.min is not None)
        said += [f"<= {shown(self.max, unit)}"] * (self.max is not None)
        said += [self._at_most()] * (self.max_regression is not None)
        return " and ".join(said) + (f" at {percent(self.confidence)}" if self.confidence else "")

    def _at_most(self) -> str:
        allowed = self.max_regression or Allowance()
        if not allowed.amount:
            return f"no worse than {self.baseline}"
        return f"at most {allowed.shown(unit_of(self.metric))} worse than {self.baseline}"

    def _held(self, verdict: Verdict, here: Taken, allowed: Allowance) -> Verdict:
        """The verdict on a figure within the limits, by how it changed since the baseline."""
        if self.against is None:
            return replace(verdict, reason="incomparable", explanation=f"baseline {self.baseline} has "
                           f"nothing of this job: `edgeq baseline set {self.baseline}` adds it")
        moved = change(self.metric, self.against, here, confidence=self.confidence or CONFIDENCE)
        verdict = replace(verdict, change=moved)
        if moved.outcome == "not comparable":
            return replace(verdict, reason="incomparable", explanation="; ".join(moved.why))
        if self.confidence is None:
            beyond = moved.excess(allowed) > 0
            return replace(verdict, reason="failed", explanation=self._told(moved)) if beyond else verdict
        least, most = (end - allowed.of(moved.older) for end in moved.worsening[1])
        if most <= 0:
            return verdict
        return replace(verdict, reason="failed" if least > 0 else "inconclusive",
                       explanation=self._told(moved))

    def _told(self, moved: Change) -> str:
        """How the figure changed, beside what was wanted."""
        unit = unit_of(self.metric)
        by = f", {100 * moved.relative:+.2g} %" if moved.relative is not None and unit != "ratio" else ""
        noise = f"; this bench repeats to {moved.noise}" if moved.noise else ""
        return f"wanted {self.limits()}, where it was {shown(moved.older, unit)}{by}{noise}"

    def _weighed(self, found: Value, confidence: float) -> Verdict:
        """The verdict on a figure by all that it could be, as far as its samples tell."""
        evidence = evidence_of(self.metric, found)
        if evidence is None:
            return Verdict(self, found, "unavailable", "the gate asks for confidence, and this figure "
                                                       "has no interval")
        low, high = ends = interval(evidence, confidence)
        if not self.shortfall(low) and not self.shortfall(high):
            return Verdict(self, found, None, "", ends)
        open_ = [limit for limit in (self.min, self.max) if limit is not None and low <= limit <= high]
        if not open_:
            return Verdict(self, found, "failed", f"wanted {self.limits()}, and it is {between(ends)}", ends)
        enough = _enough(evidence, open_, confidence)
        told = (f"about {rough(enough)} samples would decide" if enough else
                "it is on the limit, and no number of samples would decide")
        return Verdict(self, found, "inconclusive", f"it is {between(ends)} at {percent(confidence)}; {told}",
                       ends, enough)


@dataclass(frozen=True)
class Verdict:
    """How one gate judged one measurement; `reason` is None where it passed.

    Where the gate asks for a confidence, `interval` holds the figure with it, and `needed` is about
    how many samples would decide what these leave open; None where none would. `change` is what happened
    since the baseline, where the gate has one.
    """

    gate: Gate
    found: Value
    reason: Reason | None
    explanation: str
    interval: tuple[float, float] | None = None
    needed: int | None = None
    change: Change | None = None

    @property
    def passed(self) -> bool:
        """Whether the gate was satisfied."""
        return self.reason is None

    @property
    def shortfall(self) -> float:
        """The relative shortfall, of an interval's worse end; what is not there is a whole limit."""
        if self.found.value is None or self.reason == "incomparable":
            return 1.0
        missed = max(self.gate.shortfall(end) for end in self.interval or (self.found.value,))
        return missed + self._regressed()

    def _regressed(self) -> float:
        """By how much of the baseline's figure it is worse than the gate lets pass."""
        if self.change is None or self.passed:
            return 0.0
        allowed = self.gate.max_regression or Allowance()
        worse = self.change.worsening[1][1] if self.reason == "inconclusive" else self.change.worsening[0]
        return max(0.0, worse - allowed.of(self.change.older)) / (abs(self.change.older) or 1.0)


def rank(verdicts: Sequence[Verdict]) -> tuple[int, float]:
    """Less is better: the number of failed gates, then the summed relative shortfall."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    return len(failed), sum(verdict.shortfall for verdict in failed)


def between(ends: tuple[float, float]) -> str:
    """An interval of a ratio as a person reads it."""
    return " … ".join(f"{end:.4f}" for end in ends)


def percent(confidence: float) -> str:
    """A confidence as a person reads it."""
    return f"{confidence * 100:.6g} %"


def rough(count: int) -> str:
    """A number of samples in two digits, rounded up: more would claim too much."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // step) * step:,}"


def shown(value: float | None, unit: str) -> str:
    """A figure as a person reads it, in its unit."""
    if value is None:
        return "—"
    if unit == "bytes":
        return f"{value / 1024:.1f} KiB" if abs(value) >= 1024 else f"{value:.0f} B"
    if unit == "count":
        return f"{value:,.0f}"
    digits = f"{value:,.0f}" if abs(value) >= WHOLE else f"{value:.4g}"
    return digits + {"ratio": "", "db": " dB", "ms": " ms", "uj": " uJ"}.get(unit, "")


def _enough(evidence: Evidence, limits: Sequence[float], confidence: float) -> int | None:
    """About how many samples would tell the figure from all `limits`."""
    sizes = [needed(evidence, limit, confidence) for limit in limits]
    return None if None in sizes else max(size for size in sizes if size is not None)
