"""Time and energy that nothing measured: cycles over a clock, at a published power, or by instructions.

The one rule: what comes out is `estimated`, and its basis names where each figure is from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeq.errors import ConfigError
from edgeq.measurement import Value, quantity, value_of

NEEDED = ("instruction", "load", "store")
PICO = 1e-6  # of a microjoule


def hertz(clock: float | str) -> float:
    """The clock of target.yaml; ConfigError where it is none that cycles could be timed with."""
    try:
        found = quantity(clock, "hz")
    except ValueError as error:
        raise ConfigError(f"clock: {error}", "correct it in target.yaml") from error
    if found <= 0:
        raise ConfigError("clock: cycles are no time without it", "set it in target.yaml, as in 1.5GHz")
    return found


def estimated(metric: str, value: float, basis: str) -> Value:
    """A figure for `metric` that came out of a formula; `basis` is where the formula's figures are from."""
    return replace(value_of(metric, value, "estimated"), basis=basis)


def latency(cycles: float, clock: float | str, basis: str) -> Value:
    """The time (ms) of so many cycles."""
    return estimated("latency_ms", 1000 * cycles / hertz(clock), basis)


def energy(time: Value, power_mw: float, source: str) -> Value:
    """The energy (uJ) of a device that takes `power_mw` for the `time` (ms) of an inference.

    Raises ConfigError where no `source` says who published the power, or it is no power.
    """
    _sourced("power_mw", power_mw, "power_source", source)
    basis = "; ".join(filter(None, (time.basis, f"power: {source}")))
    return estimated("energy_uj", (time.value or 0.0) * power_mw, basis)


def energy_of(counts: Mapping[str, int], energy_pj: Mapping[str, float], source: str) -> Value:
    """The energy (uJ) of `counts` (NEEDED: loads and stores are not among the instructions).

    `energy_pj` is what one of each takes, in picojoules. Raises ConfigError where one is missing, unknown or
    no energy, or no `source` says who published them.
    """
    if missing := sorted(set(NEEDED) ^ energy_pj.keys()):
        raise ConfigError(f"energy_pj: {missing[0]!r} is missing or unknown", f"give {', '.join(NEEDED)}")
    _sourced("energy_pj", min(energy_pj.values()), "energy_source", source)
    spent = sum(counts[name] * energy_pj[name] for name in NEEDED)
    return estimated("energy_uj", spent * PICO, f"energies of instructions: {source}")


def _sourced(what: str, least: float, place: str, source: str) -> None:
    """Raise ConfigError for a figure that nobody published, or that cannot be."""
    if not source:
        raise ConfigError(f"{what}: an estimate needs a figure that somebody published, and nobody is named",
                          f"name the publication in {place}, or leave {what} out")
    if least <= 0:
        raise ConfigError(f"{what}: {least:g} is no figure that could be", "correct it in target.yaml")
