"""One figure then and now: how much it changed, what of that is noise, and whether it is for the worse.

The one rule: no verdict is finer than what stands behind the figures. Two scores on the same samples are told
apart by the samples that came out otherwise, two medians by their intervals, and nothing that is live by less
than its bench repeats; what the emulator counts, or a file holds, is exact.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from edgeq.judging.paired import CONFIDENCE
from edgeq.measurement import SCALES, Unit, Value, quantity, rounded, unit_of
from edgeq.regressions.apart import Ends, apart
from edgeq.regressions.differences import Difference, Figure, between
from edgeq.regressions.floors import floor_of, width
from edgeq.regressions.taken import Taken
from edgeq.regressions.traits import Part, sign_of, trait_of

Outcome = Literal["better", "worse", "same", "not comparable"]
SHARE = "%"


@dataclass(frozen=True)
class Allowance:
    """How much worse a figure may become: in its unit, or where `relative`, as a share of the older one."""

    amount: float = 0.0
    relative: bool = True

    def of(self, older: float) -> float:
        """The allowance in the figure's own unit."""
        return self.amount * abs(older) if self.relative else self.amount

    def shown(self, unit: Unit) -> str:
        """As a person reads it, of a figure in `unit`."""
        if self.relative:
            return f"{100 * self.amount:.6g} %"
        return f"{self.amount:.6g}" + ("" if unit in ("ratio", "count", "value") else f" {unit}")


@dataclass(frozen=True)
class Change:
    """How a metric went from `old` to `new`.

    `interval` holds new minus old with the confidence asked for, and is never finer than the bench: then
    `noise` says what widened it. `why` says what is not comparable; `despite` are differences that were let
    pass.
    """

    metric: str
    old: Value | None
    new: Value | None
    outcome: Outcome
    why: tuple[str, ...] = ()
    despite: tuple[str, ...] = ()
    interval: Ends | None = None
    noise: str = ""

    @property
    def older(self) -> float:
        """The older figure; 0 where there is none."""
        return (self.old.value if self.old else None) or 0.0

    @property
    def absolute(self) -> float | None:
        """New minus old, in the metric's unit."""
        if self.interval is None or self.old is None or self.new is None:
            return None
        return rounded((self.new.value or 0.0) - (self.old.value or 0.0))

    @property
    def relative(self) -> float | None:
        """The same as a share of the older figure; None where that is 0."""
        if self.absolute is None or self.old is None or not self.old.value:
            return None
        return rounded(self.absolute / abs(self.old.value))

    @property
    def worsening(self) -> tuple[float, Ends]:
        """By how much it became worse, and the ends of what that may be: below 0 is better."""
        sign, ends = sign_of(self.metric), self.interval or (0.0, 0.0)
        low, high = sorted(sign * end for end in ends)
        return sign * (self.absolute or 0.0), (low, high)

    def excess(self, allowance: Allowance) -> float:
        """By how much a change for the worse is more than what is allowed; 0 where it is not, or is noise."""
        beyond = self.worsening[0] - allowance.of(self.older)
        return beyond if self.outcome == "worse" and beyond > 1e-9 * abs(self.older) else 0.0


def change(
    metric: str, there: Taken, here: Taken, let: Collection[Part] = (), confidence: float = CONFIDENCE
) -> Change:
    """How `metric` went from the job `there` to the same job `here`; differences in `let` are let pass."""
    missing, trait = _missing(there, here, metric), trait_of(metric)
    old, new = there.metrics.get(metric), here.metrics.get(metric)
    if missing or old is None or new is None or trait is None:
        return Change(metric, old, new, "not comparable", (missing or f"{metric} is better neither way",))
    before = Figure(trait.kind, old, there)
    refused, despite = _split(between(before, Figure(trait.kind, new, here)), let)
    if refused:
        return Change(metric, old, new, "not comparable", refused, despite)
    found = apart(metric, there, here, confidence)
    wide, noise = _widened(found, (new.value or 0.0) - (old.value or 0.0), before, metric)
    return Change(metric, old, new, _outcome(metric, wide), (), despite, wide, noise)


def allowance(metric: str, said: str | float) -> Allowance:
    """What `said` allows of `metric`: `2 %` is a share of the older figure, and of a ratio two points.

    With any other unit, or none, it is in the metric's own. ValueError where it is neither, or below 0.
    """
    unit, text = unit_of(metric), str(said).strip()
    relative = text.endswith(SHARE) and SHARE not in SCALES[unit]
    if relative and unit == "db":
        raise ValueError(f"a share of decibels says little: give {metric} a number of dB, not {text!r}")
    amount = quantity(said, "ratio" if relative else unit)
    if amount < 0:
        raise ValueError(f"at least 0, not {text!r}")
    if unit == "ratio" and amount > 1:
        raise ValueError(f"{metric} goes from 0 to 1, and {text!r} is more: 2 points are written 2 %")
    return Allowance(amount, relative)


def _missing(there: Taken, here: Taken, metric: str) -> str:
    """Why there is nothing to compare; empty where there is."""
    for job, where in ((there, "there"), (here, "here")):
        found = job.metrics.get(metric)
        if job.error:
            return f"the job was stopped {where}: {job.error.partition(chr(10))[0]}"
        if found is None:
            return f"nothing measured it {where}"
        if found.value is None:
            return f"there is no figure {where}: {found.reason or found.source}"
        if not job.identity:
            return f"no identity {where}: that edgeq did not yet say what it took figures with"
    return ""


def _outcome(metric: str, ends: Ends) -> Outcome:
    low, high = sorted(sign_of(metric) * end for end in ends)
    if low > 0:
        return "worse"
    return "better" if high < 0 else "same"


def _split(
    found: Collection[Difference], let: Collection[Part]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What forbids a comparison, and what is let pass."""
    return (tuple(each.told for each in found if each.part not in let),
            tuple(each.told for each in found if each.part in let))


def _widened(ends: Ends, difference: float, there: Figure, metric: str) -> tuple[Ends, str]:
    """`ends`, with at least the bench's floor to either side of the difference; and what widened them."""
    floor = floor_of(there)
    aside = width(metric, there, floor)
    if not aside:
        return ends, ""
    wide = rounded(min(ends[0], difference - aside)), rounded(max(ends[1], difference + aside))
    return wide, floor.source if wide != ends else ""
