"""Volts, amperes, watts and seconds, as target.yaml and the export of an instrument have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from edgeq.decode import meant
from edgeq.errors import ConfigError
from edgeq.measurement import QUANTITY

Unit = Literal["V", "A", "W", "s"]
PREFIXES: Mapping[str, float] = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "": 1.0}


def scale(name: str, unit: Unit) -> float:
    """What one `name` is in `unit`: 0.001 for mA in A. ConfigError for any other word."""
    known = {f"{prefix}{unit}": factor for prefix, factor in PREFIXES.items()}
    if name not in known:
        raise ConfigError(f"{name!r} is no unit of {unit}{meant(name, known)}", "correct it in target.yaml")
    return known[name]


def quantity(field: str, given: float | str, unit: Unit) -> float:
    """`given`, a number or a text as `3300 mV`, in `unit`; ConfigError that names the `field` otherwise."""
    if isinstance(given, (int, float)):
        return float(given)
    match = QUANTITY.fullmatch(given)
    if not match:
        raise ConfigError(f"{field}: {given!r} is not a number with a unit of {unit}", f"as in 3.3 {unit}")
    return float(match[1]) * (scale(match[2], unit) if match[2] else 1.0)
