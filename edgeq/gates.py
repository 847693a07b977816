"""Gates: a metric, a limit, and where it holds. A gate judges; it never raises.

The one rule: silence is no evidence. A metric that is unavailable, or comes from a source that
the gate does not allow, does not pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeq.measurement import METRICS, Measurement, Source, Value, unavailable

Reason = Literal["failed", "inconclusive", "invalid", "unavailable"]


@dataclass(frozen=True)
class Gate:
    """`metric` lies between `min` and `max`, in its own unit, on `targets` and for `models`.

    A gate that names no targets or models holds for all. `allow` says which sources satisfy it:
    an estimate does only where it is listed.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    targets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    allow: tuple[Source, ...] = ("measured", "simulated")

    def holds_for(self, model: str, target: str) -> bool:
        """Whether this gate judges `model` on `target`."""
        return (not self.targets or target in self.targets) and (
            not self.models or model in self.models)

    def judge(self, measurement: Measurement) -> Verdict:
        """The verdict on `measurement`."""
        found = measurement.get(self.metric) or unavailable(self.metric, "nothing measures it here")
        if found.value is None:
            return Verdict(self, found, "unavailable", found.reason or "")
        if found.source not in self.allow:
            return Verdict(self, found, "unavailable", f"it is {found.source}, and the gate allows "
                                                       f"only {', '.join(self.allow)}")
        if self.shortfall(found.value) > 0:
            return Verdict(self, found, "failed", f"wanted {self.limits()}")
        return Verdict(self, found, None, "")

    def shortfall(self, value: float) -> float:
        """By how much of the limit `value` misses it: 0 where it does not."""
        misses = [value - self.max] if self.max is not None else []
        misses += [self.min - value] if self.min is not None else []
        limit = max(abs(self.min or 0.0), abs(self.max or 0.0)) or 1.0
        return max(0.0, *misses) / limit if misses else 0.0

    def limits(self) -> str:
        """The limits as a person reads them."""
        unit = METRICS[self.metric].unit
        said = [f">= {shown(self.min, unit)}"] * (self.min is not None)
        said += [f"<= {shown(self.max, unit)}"] * (self.max is not None)
        return " and ".join(said)


@dataclass(frozen=True)
class Verdict:
    """How one gate judged one measurement; `reason` is None where it passed."""

    gate: Gate
    found: Value
    reason: Reason | None
    explanation: str

    @property
    def passed(self) -> bool:
        """Whether the gate was satisfied."""
        return self.reason is None

    @property
    def shortfall(self) -> float:
        """The relative shortfall; what is not there counts as a whole limit."""
        return 1.0 if self.found.value is None else self.gate.shortfall(self.found.value)


def rank(verdicts: Sequence[Verdict]) -> tuple[int, float]:
    """Less is better: the number of failed gates, then the summed relative shortfall."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    return len(failed), sum(verdict.shortfall for verdict in failed)


def shown(value: float | None, unit: str) -> str:
    """A figure as a person reads it, in its unit."""
    if value is None:
        return "—"
    if unit == "bytes":
        return f"{value / 1024:.1f} KiB" if abs(value) >= 1024 else f"{value:.0f} B"
    if unit == "count":
        return f"{value:,.0f}"
    return f"{value:.4g}" + {"ratio": "", "db": " dB", "ms": " ms", "uj": " uJ"}.get(unit, "")
