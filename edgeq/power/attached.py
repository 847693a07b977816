"""Instruments that are attached here, for `edgeq doctor`: what a target.yaml may name.

The one rule: looking changes nothing: no instrument is opened, and a driver that is not installed finds none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from edgeq.power.instruments import hwmon, joulescope, ppk2, rapl

Row = tuple[str, str]


def attached() -> list[Row]:
    """Each instrument that is found, and what it is."""
    found: list[Row] = []
    for look in (_ppk2, _joulescopes, _sensors, _counters):
        found.extend(_seen(look))
    return found


def _seen(look: Callable[[], Iterator[Row]]) -> list[Row]:
    """What `look` finds; nothing where its driver is missing or fails."""
    with suppress(ImportError, OSError, RuntimeError):
        return list(look())
    return []


def _ppk2() -> Iterator[Row]:
    return ((port, "a power meter, ppk2") for port in ppk2.attached())


def _joulescopes() -> Iterator[Row]:
    return ((path.rpartition("/")[2], f"a power meter, joulescope ({path.split('/')[1].upper()})")
            for path in joulescope.attached())


def _sensors() -> Iterator[Row]:
    return ((hwmon.named(each), f"a sensor of power, hwmon ({each.name})")
            for each in hwmon.found(Path(hwmon.ROOT)))


def _counters() -> Iterator[Row]:
    return ((domain, "a counter of energy, rapl") for domain in rapl.found(Path(rapl.ROOT)))
