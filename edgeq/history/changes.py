"""How a figure went from run to run: what changed, and whether that says anything.

The one rule: a change within what the bench repeats, or between two benches, is told as such, and never as
progress; the judgement is the one of `edgeq compare`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.gates import shown
from edgeq.history.reading import Point
from edgeq.measurement import Value
from edgeq.regressions.change import Change, change
from edgeq.regressions.taken import Taken

NO_SPACE = 80  # letters of a reason in a table; --json has all of it


@dataclass(frozen=True)
class Step:
    """A figure, and how it changed since the run before; None where that has none to compare it with."""

    point: Point
    change: Change | None


def steps(series: Sequence[Point], benches: Mapping[str, str]) -> list[Step]:
    """The points of one series, the oldest first, each with its change; `benches` are identities as JSON."""
    taken = [_taken(point, benches) for point in series]
    return [Step(point, _changed(point["metric"], *pair))
            for point, *pair in zip(series, [None, *taken], taken, strict=False)]


def as_json(step: Step) -> dict[str, Any]:
    """A step for a machine: all of the point, and its `change`."""
    told = step.change and {"outcome": step.change.outcome, "absolute": step.change.absolute,
                            "relative": step.change.relative, "noise": step.change.noise or None,
                            "why": [*step.change.why]}
    return {**step.point, "change": told}


def cells(step: Step) -> tuple[str, ...]:
    """A step as a row for people: when, commit, branch, recipe, figure, verdict, change."""
    point = step.point
    commit = f"{(point['commit'] or '—')[:10]}{'+' if point['dirty'] else ''}"
    recipe = " ".join(str(each) for each in (point["recipe"], *point["options"].values()))
    return tuple(map(printable, (point["started"], commit, point["branch"] or "—", recipe, _figure(point),
                                 _verdict(point), _told(step.change))))


def printable(text: str) -> str:
    """`text` without what a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _changed(metric: str, there: Taken | None, here: Taken | None) -> Change | None:
    """How the figure changed; None where there was no run, or no figure, before."""
    if there is None or here is None or there.metrics[metric].value is None:
        return None
    return change(metric, there, here)


def _taken(point: Point, benches: Mapping[str, str]) -> Taken:
    ends = point["interval"]
    told = {name: point[name] for name in ("value", "source", "n", "aggregation", "reason", "basis", "rig")}
    value = Value(**told, unit=point["unit"] or "value", interval=(ends[0], ends[1]) if ends else None)
    return Taken(point["recipe"], bool(point["passed"]), {point["metric"]: value},
                 json.loads(benches.get(point["bench"], "{}")))


def _figure(point: Point) -> str:
    """The figure with its source, its samples, its interval and the rig, as far as it has them."""
    if point["value"] is None:
        return f"— ({point['source']}: {point['reason'] or 'nothing measures it'})"
    unit = point["unit"] or "value"
    about = "about " if point["source"] == "estimated" else ""
    said = [point["source"], *([f"n {point['n']}"] if point["n"] is not None else []),
            *([" … ".join(shown(end, unit) for end in point["interval"])] if point["interval"] else []),
            *([point["rig"]] if point["rig"] else [])]
    return f"{about}{shown(point['value'], unit)} ({', '.join(said)})"


def _verdict(point: Point) -> str:
    if point["passed"] is None:
        return ""
    limits = [f"{sign} {shown(point[name], point['unit'] or 'value')}"
              for sign, name in ((">=", "minimum"), ("<=", "maximum")) if point[name] is not None]
    state = "pass" if point["passed"] else f"FAIL {point['verdict'] or ''}".rstrip()
    return " ".join([state, " and ".join(limits)]).rstrip()


def _told(found: Change | None) -> str:
    if found is None:
        return ""
    if found.outcome == "not comparable":
        why = "; ".join(found.why)
        return f"not comparable: {why if len(why) <= NO_SPACE else f'{why[:NO_SPACE]}…'}"
    return " ".join(_amount(found))


def _amount(found: Change) -> Iterator[str]:
    if not found.absolute:
        yield "same"
        return
    unit = found.new.unit if found.new else "value"
    share = found.relative if unit != "ratio" else None
    yield f"{found.absolute:+.4g}" if share is None else f"{100 * share:+.2f} %"
    yield "within the noise" if found.outcome == "same" else found.outcome
    if found.noise:
        yield f"({found.noise})"
