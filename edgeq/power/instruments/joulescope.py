"""A Joulescope (JS110, JS220) over USB, by Jetperch's own driver: power and general inputs, sample by sample.

The one rule: a sample's place is the number that the instrument gave it, so that what was lost is seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import ConfigError, DeviceError
from edgeq.power.clocks import drift, shift
from edgeq.power.recording import Mark, Recording
from edgeq.power.rig import STAND_IN
from edgeq.power.trace import Trace, cumulated

PAUSE_S, SILENT_S = 0.02, 2.0
RANGES = {"js110": "s/i/range/select"}  # what all others call s/i/range/mode
Pieces = list[tuple[float, Mapping[str, Any]]]


@dataclass(frozen=True)
class Joulescope:
    """The Joulescope with the number `serial`, else the only one; its input `channel` is the trigger.

    It samples `rate` times a second: its driver makes fewer of the million or two that it takes.
    """

    packages: ClassVar = ("pyjoulescope-driver",)
    gpio: ClassVar = True
    serial: str = ""
    channel: int = 0
    rate: int = 100_000

    def start(self) -> Recording[Trace]:
        """Record; DeviceError where there is none, or another program has it."""
        import pyjoulescope_driver

        if self.channel not in (0, 1, 2, 3, 7):
            raise ConfigError(f"a Joulescope has the inputs 0 to 3, and 7 its trigger, not {self.channel}",
                              "correct it in target.yaml")
        driver = pyjoulescope_driver.Driver()
        received: dict[str, Pieces] = {"power": [], "trigger": []}
        try:
            path = self._chosen(list(driver.device_paths()))
            self._begin(driver, path, received)
        except RuntimeError as error:
            driver.finalize()
            raise DeviceError(f"the Joulescope does not answer: {error}",
                              "end the program that uses it, or plug it in again") from error
        except DeviceError:
            driver.finalize()
            raise
        kind, number = path.split("/")[1:3]
        rig = f"{kind.upper()} {number}"
        return Recording(f"the Joulescope {number}", lambda ended: _watch(received["power"], number, ended),
                         lambda marks: _made(received, rig, marks), lambda: _let_go(driver, path))

    def _chosen(self, paths: list[str]) -> str:
        """The path of the one that is meant (u/js220/000415)."""
        fitting = [path for path in paths if not self.serial or path.endswith(f"/{self.serial}")]
        if len(fitting) != 1:
            raise DeviceError(
                f"of the Joulescopes attached ({', '.join(paths) or 'none'}), {len(fitting)} are meant",
                "plug it in, or name its `serial:` in target.yaml")
        return fitting[0]

    def _begin(self, driver: Any, path: str, received: dict[str, Pieces]) -> None:
        driver.open(path)
        driver.publish(f"{path}/{RANGES.get(path.split('/')[1], 's/i/range/mode')}", "auto")
        driver.publish(f"{path}/h/fs", self.rate)
        for name, topic in (("trigger", f"s/gpi/{self.channel}"), ("power", "s/p")):
            driver.subscribe(f"{path}/{topic}/!data", ["pub"],
                             lambda _, value, name=name: received[name].append((time.monotonic(), value)))
            driver.publish(f"{path}/{topic}/ctrl", 1)


def attached() -> list[str]:
    """The paths of those that are attached (u/js220/000415)."""
    import pyjoulescope_driver

    with pyjoulescope_driver.Driver() as driver:
        return list(driver.device_paths())


def _watch(pieces: Pieces, number: str, ended: threading.Event) -> None:
    """See that power comes until `ended`; the driver's own thread takes it."""
    begun = time.monotonic()
    while not ended.wait(PAUSE_S):
        heard = pieces[-1][0] if pieces else begun
        if time.monotonic() - heard > SILENT_S:
            raise DeviceError(f"the Joulescope {number} vanished in mid-run",
                              "see to its cable, and build again")


def _let_go(driver: Any, path: str) -> None:
    try:
        driver.close(path)
    except RuntimeError:
        pass  # it is gone
    finally:
        driver.finalize()


def _made(received: Mapping[str, Pieces], rig: str, marks: tuple[Mark, ...]) -> Trace:
    """The trace of what came; samples that are no number were lost on the way."""
    pieces = received["power"]
    if not pieces:
        return Trace(np.zeros(0), np.zeros(0), rig)
    period = pieces[0][1]["decimate_factor"] / pieces[0][1]["sample_rate"]
    index, power = _joined([(_first(value), np.asarray(value["data"], np.float64)) for _, value in pieces])
    arrived = np.asarray([at for at, _ in pieces])
    last = np.asarray([_first(value) + len(value["data"]) - 1 for _, value in pieces])
    begun, slack = shift(arrived, last * period)
    there = np.isfinite(power)
    times = begun + index[there] * period
    return Trace(times, cumulated(times, power[there]), rig, trigger=_high(received["trigger"], index[there]),
                 stand_in=STAND_IN in rig, period_s=period, drift=drift(arrived, last * period),
                 slack_s=slack, marks=marks)


def _first(value: Mapping[str, Any]) -> int:
    """The number of a piece's first sample, at the rate of its signal."""
    return int(value["sample_id"]) // int(value["decimate_factor"])


def _joined(pieces: list[tuple[int, Array]]) -> tuple[Array, Array]:
    """Numbers and values of all samples, one after the other."""
    return (np.concatenate([first + np.arange(data.size) for first, data in pieces]),
            np.concatenate([data for _, data in pieces]))


def _high(pieces: Pieces, index: Array) -> Array | None:
    """Whether the trigger was high at the samples `index`; its bits come eight to a byte."""
    if not pieces:
        return None
    bits = [(_first(value), np.unpackbits(np.asarray(value["data"], np.uint8), bitorder="little"))
            for _, value in pieces]
    numbers, levels = _joined(bits)
    at = np.clip(np.searchsorted(numbers, index), 0, numbers.size - 1)
    high: Array = (levels[at] == 1) & (numbers[at] == index)
    return high
