"""What an instrument recorded: times and the energy up to each of them, a trigger, and what ailed it.

The one rule: a trace says all that could make its figures wrong (samples lost, a range left, a clock of its
own), and who recorded it; whether that is good enough is for arithmetic.unfit to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeq.arrays import Array
from edgeq.power.recording import Mark, Recording


@dataclass(frozen=True)
class Trace:
    """`times` (n, seconds) and the `energy` (n, joules) that was used from the first of them on.

    `trigger` (n, bool) is the digital input, where there is one; `beyond` (n, bool) the samples out of range.
    `rig` names the very instrument and its settings; a `stand_in` is none, and its figures are simulated.
    Where the instrument is clocked, `period_s` is the time from sample to sample as it says, and `drift`
    the share by which its clock is slow (above 0) or fast by the host's.

    Times are the host's (time.monotonic), within `slack_s` seconds, unless `own_clock`: they begin anywhere
    then. `marks` are always the host's.
    """

    times: Array
    energy: Array
    rig: str
    trigger: Array | None = None
    beyond: Array | None = None
    stand_in: bool = False
    period_s: float | None = None
    drift: float = 0.0
    own_clock: bool = False
    slack_s: float = 0.0
    marks: tuple[Mark, ...] = ()


class Instrument(Protocol):
    """A frozen dataclass, one a file; its fields are what the `instrument:` of a meter may set.

    `here`, a class constant or a field, says that it measures this very machine; the class constant `gpio`
    that it may have a trigger input.
    """

    def start(self) -> Recording[Trace]:
        """Begin to record; DeviceError where the instrument is missing, in use, or not itself."""


def cumulated(times: Sequence[float] | Array, power: Sequence[float] | Array) -> Array:
    """The energy (J) up to each of the `times` (s), by the trapezoid rule over the `power` (W) there.

    The times need not be evenly spaced: ((t1 - t0) * (p0 + p1) / 2 and so on), 0 at the first.
    """
    at, watts = np.asarray(times, np.float64), np.asarray(power, np.float64)
    steps = np.diff(at) * (watts[1:] + watts[:-1]) / 2
    return np.concatenate([np.zeros(min(1, at.size)), np.cumsum(steps)])
