"""Any bench instrument that writes a file: columns of time, current, voltage, power and a trigger.

The one rule: a file that was not written during the run is no recording of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edgeq import tool
from edgeq.errors import ConfigError, DeviceError
from edgeq.power import table
from edgeq.power.recording import Mark, Recording
from edgeq.power.rig import STAND_IN
from edgeq.power.trace import Trace, cumulated
from edgeq.power.units import quantity

PAUSE_S, SETTLED_S, END_S = 0.05, 0.3, 30.0
FRESH_S = 1.0  # by how much a file's time may lie before the beginning: of file systems


@dataclass(frozen=True)
class BenchCsv:
    """The `file` that the `instrument` of that name leaves of each run.

    `command` starts what records into it, {file} being its name, and is told to end by the end of its
    standard input; where there is none, the file is waited for, for `wait_s` seconds after the run.

    `columns` names those of time, current, voltage, power and trigger, or gives their numbers from 1 on, and
    `units` their units (s, A, V, W); `voltage` is for an instrument that tells none. A trigger is high from
    `level` on. `clock` is host where times are seconds since 1970 by this machine's clock.
    """

    packages: ClassVar = ()
    gpio: ClassVar = True
    file: str
    instrument: str
    columns: Mapping[str, str | int]
    units: Mapping[str, str] = field(default_factory=dict)
    voltage: float | str = 0.0
    command: tuple[str, ...] = ()
    wait_s: float = 30.0
    delimiter: str = ","
    decimal: str = "."
    level: float = 0.5
    clock: Literal["own", "host"] = "own"

    def start(self) -> Recording[Trace]:
        """Start what records, where it is to be started; ConfigError where the columns cannot do."""
        layout = table.layout(self.columns, self.units, self.delimiter, self.decimal)
        volts = quantity("voltage", self.voltage, "V")
        volts_told = "voltage" in self.columns or volts
        if "power" not in self.columns and not ("current" in self.columns and volts_told):
            raise ConfigError("columns: power, or current and voltage, are wanted",
                              "name the columns, or give the `voltage:` that the device was supplied with")
        begun, stack = time.time(), ExitStack()
        place = Path(self.file).absolute()
        recorder = None
        if self.command:
            place.unlink(missing_ok=True)
            words = [word.replace("{file}", str(place)) for word in self.command]
            recorder = stack.enter_context(tool.kept(words, cwd=Path.cwd(), patience_s=END_S))

        def watch(ended: threading.Event) -> None:
            while not ended.wait(PAUSE_S):
                if recorder and recorder.status() is not None:
                    raise DeviceError(f"{self.instrument}: {self.command[0]} ended in mid-run, with status "
                                      f"{recorder.status()}", tool.tail(recorder.said()))

        def made(marks: tuple[Mark, ...]) -> Trace:
            self._await(place, begun)
            return self._trace(table.read(place, layout), volts, marks)

        return Recording(self.instrument, watch, made, stack.close)

    def _await(self, place: Path, begun: float) -> None:
        """Wait until the file is there, of this run, and no longer written."""
        ends = time.monotonic() + (END_S if self.command else self.wait_s)
        seen: tuple[int, float] | None = None
        while time.monotonic() < ends:
            if place.is_file() and place.stat().st_mtime >= begun - FRESH_S:
                now = (place.stat().st_size, place.stat().st_mtime)
                if now == seen and now[0]:
                    return
                seen = now
            time.sleep(SETTLED_S)
        state = "was not written during the run" if place.exists() else "is not there"
        raise DeviceError(f"{self.instrument}: {place} {state}", "let the instrument record during the run, "
                          f"and export it there within {self.wait_s:g} s; or say by `command:` what does")

    def _trace(self, found: table.Table, volts: float, marks: tuple[Mark, ...]) -> Trace:
        columns = dict(found.columns)
        times = columns["time"]
        own = self.clock == "own"
        if not own:
            times = times - time.time() + time.monotonic()
        power = columns["power"] if "power" in columns else columns["current"] * columns.get("voltage", volts)
        high = columns["trigger"] >= self.level if "trigger" in columns else None
        stand_in = STAND_IN in found.head
        named = f"{self.instrument}, {STAND_IN}" if stand_in else self.instrument
        rig = f"{named} at {volts:g} V" if volts else named
        steps = np.diff(times)
        period = float(np.median(steps)) if steps.size else 0.0
        even = bool(period > 0 and np.count_nonzero(np.abs(steps - period) < period / 100) > 0.9 * steps.size)
        return Trace(times, cumulated(times, power), rig, high, stand_in=stand_in,
                     period_s=period if even else None, own_clock=own, marks=marks)
