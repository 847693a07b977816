"""How far two figures are apart, as far as the samples behind them tell.

The one rule: where both sides counted what they lost against one float model, on the same samples, these
counts tell; else the intervals of both do; and a figure that has none is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeq.judging.paired import Loss, evidence_of, interval
from edgeq.measurement import WORST, Value, in_group, rounded
from edgeq.regressions.taken import Taken
from edgeq.regressions.traits import sign_of, trait_of

Ends = tuple[float, float]
Flips = tuple[int, int, int]


def apart(metric: str, there: Taken, here: Taken, confidence: float) -> Ends:
    """The interval of new minus old, of a metric that both jobs have."""
    pairs = _paired(metric, there, here)
    if pairs is not None:
        return interval(pairs, confidence)
    old, new = there.metrics[metric], here.metrics[metric]
    return mover(old.value or 0.0, _ends(metric, there, confidence),
                 new.value or 0.0, _ends(metric, here, confidence))


def mover(old: float, before: Ends, new: float, now: Ends) -> Ends:
    """The interval of new - old, from an interval of each (Zou and Donner, Stat. in Medicine 27, 2008, 1693).

    For shares with Wilson's intervals it is Newcombe's (17, 1998, 873). It takes the two to be independent;
    on the same samples they agree more than that, and the true interval is narrower.
    """
    difference = new - old
    low = difference - math.hypot(new - now[0], before[1] - old)
    high = difference + math.hypot(now[1] - new, old - before[0])
    return rounded(low), rounded(high)


def _paired(metric: str, there: Taken, here: Taken) -> Loss | None:
    """The samples whose outcome changed, at the most; None where the two sides do not share a baseline.

    Each side says how many samples it lost and gained against the float model. That the two lost different
    ones is the worst case, and makes the interval wider than it is; their balance is exact.
    """
    before, now = (_flips(metric, side.metrics) for side in (there, here))
    if before is None or now is None or not _one_baseline(there, here):
        return None
    lost, gained, n = now[0] + before[1], now[1] + before[0], now[2]
    if before[2] != n or lost + gained > n:
        return None
    return Loss(lost, gained, n) if sign_of(metric) > 0 else Loss(gained, lost, n)


def _flips(metric: str, metrics: Mapping[str, Value]) -> Flips | None:
    """How many of n samples went wrong, and right, against the float model; None where that is not known."""
    plain, group = in_group(metric)
    if plain == "agreement":
        return _disagreeing(metrics[metric])
    drop = metrics.get(f"accuracy_drop[{group}]" if group else "accuracy_drop")
    if plain not in ("accuracy", "accuracy_drop") or drop is None or not drop.discordant or not drop.n:
        return None
    return (*drop.discordant, drop.n)


def _disagreeing(agreement: Value) -> Flips | None:
    if agreement.value is None or not agreement.n:
        return None
    return round((1 - agreement.value) * agreement.n), 0, agreement.n


def _one_baseline(there: Taken, here: Taken) -> bool:
    """Whether both are of one source, and its float model has the same score on both sides."""
    sources = [side.identity.get("data", {}).get("source") for side in (there, here)]
    scores = [found.value if (found := side.metrics.get("baseline_accuracy")) else None
              for side in (there, here)]
    return sources[0] is not None and sources[0] == sources[1] and scores[0] == scores[1]


def _ends(metric: str, side: Taken, confidence: float) -> Ends:
    """The interval of one figure; the figure itself where it has none."""
    value = side.metrics[metric]
    if metric == WORST and value.group:
        value = side.metrics.get(f"accuracy_drop[{value.group}]", value)
    evidence = evidence_of(metric, value) if _is_score(metric) else None
    if evidence is not None:
        return interval(evidence, confidence)
    return value.interval or (value.value or 0.0, value.value or 0.0)


def _is_score(metric: str) -> bool:
    trait = trait_of(metric)
    return trait is not None and trait.kind == "score"
