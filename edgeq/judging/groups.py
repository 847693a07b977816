"""Scores by groups of samples: those that a gate names, and the one that loses most.

Groups are the user's own (a speaker, a camera, a sex): the array `group` has a name a sample. A
group that cannot be scored is never passed over in silence: it is named, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeq.arrays import Array, Floats, Integers
from edgeq.errors import ConfigError
from edgeq.measurement import GROUPED, WORST, Value, unavailable, unit_of

NAMED = 20  # how many groups are told apart in a report


@dataclass(frozen=True, eq=False)
class Judged:
    """What is scored, a sample a row: the outputs of target and baseline, labels or None, samples."""

    outputs: Floats
    baseline: Floats
    labels: Any
    samples: Array

    def part(self, chosen: Array) -> Judged:
        """Only the samples at the places `chosen` (k,)."""
        labels = None if self.labels is None else self.labels[chosen]
        return Judged(self.outputs[chosen], self.baseline[chosen], labels, self.samples[chosen])


Score = Callable[[Judged], dict[str, Value]]


def by_group(
    score: Score, given: Judged, groups: Array | None, asked: Sequence[str], min_samples: int
) -> dict[str, Value]:
    """The scores of the groups that are `asked` for, as `accuracy[GROUP]`; and worst_group_drop.

    `groups` (n,) has a name a sample. The worst is found among groups of at least `min_samples`,
    where that is not 0.
    """
    if groups is None:
        return unscored(
            asked, min_samples, "the evaluation data has no array `group`: add one, a name a sample")
    known = _places(groups)
    found: dict[str, Value] = {}
    for group in asked:
        found |= _of_group(score, given, group, known)
    return found | _worst(score, given, known, min_samples) if min_samples else found


def unscored(asked: Sequence[str], min_samples: int, reason: str) -> dict[str, Value]:
    """What is asked for, unavailable for this `reason`."""
    names = [_name(metric, group) for group in asked for metric in GROUPED]
    names += [WORST] if min_samples else []
    return {name: unavailable(name, reason) for name in names}


def _places(groups: Array) -> dict[str, Integers]:
    """Where the samples of each group are, by its name in alphabetical order."""
    names, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    places = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    return dict(zip(map(str, names), places, strict=True))


def _of_group(
    score: Score, given: Judged, group: str, known: Mapping[str, Integers]
) -> dict[str, Value]:
    if group not in known:
        reason = f"no sample is of the group {group!r}; the groups are {_listed(known)}"
    else:
        try:
            return {_name(metric, group): replace(value, group=group)
                    for metric, value in score(given.part(known[group])).items()}
        except ConfigError as error:
            reason = f"group {group!r}: {error.message}"
    return {name: unavailable(name, reason) for name in (_name(metric, group) for metric in GROUPED)}


def _worst(
    score: Score, given: Judged, known: Mapping[str, Integers], least: int
) -> dict[str, Value]:
    """worst_group_drop, and the scores behind it: of every group, or where they are many, of that."""
    sizes = {group: len(places) for group, places in known.items()}
    large = [group for group in known if sizes[group] >= least]
    scored = {group: _of_group(score, given, group, known) for group in large}
    drops = {group: values[_name("accuracy_drop", group)] for group, values in scored.items()}
    judged = _known(drops)
    left_out = _left_out(sizes, drops)
    if not judged:
        return {WORST: unavailable(WORST, f"no group can be judged by at least {least} samples: {left_out}")}
    worst = max(judged, key=lambda group: judged[group])  # of several, the first by name
    said = f"the worst of {len(judged)} groups of at least {least} samples"
    value = Value(judged[worst], unit_of(WORST), drops[worst].source, sizes[worst], group=worst,
                  aggregation=f"{said}; left out: {left_out}" if left_out else said)
    found = {WORST: value}
    for group in judged if len(judged) <= NAMED else [worst]:
        found |= scored[group]
    return found


def _known(drops: Mapping[str, Value]) -> dict[str, float]:
    """The groups whose drop is known, and how much it is."""
    return {group: drop.value for group, drop in drops.items() if drop.value is not None}


def _left_out(sizes: Mapping[str, int], drops: Mapping[str, Value]) -> str:
    """The groups that no drop speaks for, each with the reason."""
    reasons = [f"{group} ({size} samples)" for group, size in sizes.items() if group not in drops]
    reasons += [f"{group} ({drop.reason})" for group, drop in drops.items() if drop.value is None]
    more = len(reasons) - NAMED
    return "; ".join([*reasons[:NAMED], *([f"and {more} more"] if more > 0 else [])])


def _listed(known: Mapping[str, Integers]) -> str:
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join([*known][:NAMED]) + more


def _name(metric: str, group: str) -> str:
    return f"{metric}[{group}]"
