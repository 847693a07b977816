"""What two figures were taken with, held against each other: the differences that forbid a comparison.

The one rule: a difference is named with what was there and what is here, so that a person can judge it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.measurement import Value
from edgeq.regressions.taken import Taken
from edgeq.regressions.traits import DEPENDS, Kind, Part

SHORT = 12  # digits of a digest
LONG = 60  # letters of anything else
# What no figure depends on: how long edgeq waits, and by which way it reaches a device.
ADMINISTRATIVE = frozenset(("timeout_s", "hottest_c", "known_hosts", "folder", "identity", "python", "ndk"))
# What decides how outputs are computed, and by how many instructions; the rest tells how they are timed.
COMPUTING = frozenset(("name", "board", "core", "kernels", "stand_in", "accelerator", "nnapi_accelerator",
                       "samples"))
DEVICES = ("adb", "ssh", "serial")  # runners whose figures are another machine's
READERS = frozenset(("pillow", "adbutils", "adb"))  # what they read has its own digest
INSTRUMENTS = frozenset(("ppk2-api", "pyjoulescope-driver", "pyjoulescope_driver", "pyserial"))
EMULATORS = ("qemu-", "rp2040js", "node")
LIVE: Collection[Kind] = ("time", "energy")


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides, in words."""

    part: Part
    told: str


@dataclass(frozen=True)
class Figure:
    """One figure with the job that it belongs to, and of what kind it is."""

    kind: Kind
    value: Value
    job: Taken


def between(there: Figure, here: Figure) -> tuple[Difference, ...]:
    """What forbids a comparison of the two, as far as their kind of figure depends on it."""
    parts = DEPENDS[here.kind]
    found = {"source": _source, "data": _data, "runner": _runner, "meters": _meters, "tools": _tools,
             "host": _host, "rig": _rig}
    return tuple(Difference(part, told) for part in parts for told in found[part](there, here))


def _source(there: Figure, here: Figure) -> Iterator[str]:
    if there.value.source != here.value.source:
        yield f"{there.value.source} there, {here.value.source} here"


def _data(there: Figure, here: Figure) -> Iterator[str]:
    for key, name in (("evaluation", "evaluation data"), ("metric", "code of the metric")):
        yield from _apart(name, *(each.job.identity.get("data", {}).get(key) for each in (there, here)))


def _runner(there: Figure, here: Figure) -> Iterator[str]:
    yield from _fields("runner", here.kind, *(each.job.identity.get("runner", {}) for each in (there, here)))


def _meters(there: Figure, here: Figure) -> Iterator[str]:
    if here.value.source != "measured":
        return
    meters = [{str(meter.get("name", "")): meter for meter in each.job.identity.get("meters", ())}
              for each in (there, here)]
    for name in sorted(meters[0].keys() | meters[1].keys()):
        yield from _fields(f"meter {name}", here.kind, *(each.get(name) or {} for each in meters))


def _tools(there: Figure, here: Figure) -> Iterator[str]:
    old, new = (each.job.identity.get("tools", {}) for each in (there, here))
    for name in sorted(old.keys() | new.keys()):
        if _matters(name, here.kind):
            yield from _apart(name, old.get(name), new.get(name))


def _matters(tool: str, kind: Kind) -> bool:
    if tool in READERS:
        return False
    if tool.startswith(EMULATORS):
        return kind not in ("size", "memory")
    return tool not in INSTRUMENTS or kind in LIVE


def _host(there: Figure, here: Figure) -> Iterator[str]:
    """The architecture, and for what this machine times, all of it; nothing of what a device measured."""
    whole, measured = here.kind in LIVE, here.value.source == "measured"
    if (measured and _elsewhere(here)) or (whole and not measured):
        return
    old, new = (each.job.identity.get("host", {}) for each in (there, here))
    for key in ("machine", *(("cpu", "system", "release", "python") if whole else ())):
        yield from _apart(f"host's {key}", old.get(key), new.get(key))


def _elsewhere(figure: Figure) -> bool:
    runner = figure.job.identity.get("runner", {})
    return bool(runner.get("address")) or runner.get("name") in DEVICES


def _rig(there: Figure, here: Figure) -> Iterator[str]:
    if here.value.source != "measured":
        return
    yield from _apart("rig", there.value.rig, here.value.rig)
    if here.kind == "energy" and not (there.value.rig or here.value.rig):
        yield "rig: neither side says with which board and instrument it was measured"


def _fields(name: str, kind: Kind, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        if key not in ADMINISTRATIVE and (kind in LIVE or key in COMPUTING):
            yield from _apart(name if key == "name" else f"{name}'s {key}", old.get(key), new.get(key))


def _apart(name: str, old: Any, new: Any) -> Iterator[str]:
    """That `old` and `new` differ, as JSON has them; nothing where they do not."""
    before, now = (json.dumps(each, sort_keys=True) for each in (old, new))
    if before != now:
        yield f"{name}: {_told(old)} there, {_told(new)} here"


def _told(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    digest = text.removeprefix("sha256:")
    if len(digest) == 64 and all(letter in "0123456789abcdef" for letter in digest):
        return f"{digest[:SHORT]}…"
    return text if len(text) <= LONG else f"{text[:LONG]}…"
