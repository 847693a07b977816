"""Nordic's Power Profiler Kit II over its serial port: 100,000 samples a second, eight logic inputs.

The one rule: every sample's counter is read, which the library passes over: what was lost is seen.
Bits of a sample: 14 of the ADC, 3 of the range, one free, 6 of the counter, 8 of the logic port (Nordic's
pc-nrfconnect-ppk, src/device/serialDevice.ts).
"""

from __future__ import annotations

import logging
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.errors import ConfigError, DeviceError
from edgeq.power.clocks import drift, shift
from edgeq.power.ppk2_samples import amperes
from edgeq.power.recording import Mark, Recording
from edgeq.power.rig import STAND_IN, serial_number
from edgeq.power.trace import Trace, cumulated
from edgeq.power.units import quantity

PERIOD_S = 1e-5
MOST_A = 1.0  # of the kit's data sheet
FULL_SCALE, COUNTS = (1 << 14) - 1, 64
PAUSE_S, SILENT_S, TRIES = 0.002, 1.0, 3
VOLTS = (0.8, 5.0)
log = logging.getLogger("ppk2_api")
log.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Ppk2:
    """The kit at the serial `port`, else the only one attached; its logic input `channel` is the trigger.

    As a `source` it supplies the device with `voltage`, and goes on with that when the measurement is done;
    as an `ampere` meter it lies in the device's own supply of that voltage.
    """

    packages: ClassVar = ("ppk2-api",)
    gpio: ClassVar = True
    voltage: float | str
    port: str = ""
    mode: Literal["source", "ampere"] = "source"
    channel: int = 0

    def start(self) -> Recording[Trace]:
        """Supply the device, and record; DeviceError where there is no kit, or it does not answer as one."""
        volts = quantity("voltage", self.voltage, "V")
        if not VOLTS[0] <= volts <= VOLTS[1] or not 0 <= self.channel < 8:
            raise ConfigError(f"a PPK2 has 0.8 to 5 V and the channels 0 to 7, not {volts:g} V and "
                              f"{self.channel}", "correct it in target.yaml")
        port = self.port or _attached()
        kit, name = _opened(port), f"the PPK2 at {port}"
        received: list[tuple[float, bytes]] = []
        with _closed_on_error(kit, name):
            _see_calibrated(kit, name)
            self._supply(kit, volts)
            kit.start_measuring()
        hardware = str(kit.modifiers["HW"]).strip()
        number = STAND_IN if STAND_IN in hardware else serial_number(port)
        rig = f"PPK2 {number} at {volts:g} V ({self.mode})"
        return Recording(name, lambda ended: _take(kit, name, received, ended),
                         lambda marks: self._made(kit, received, rig, marks), lambda: _let_go(kit))

    def _supply(self, kit: Any, volts: float) -> None:
        if self.mode == "source":
            kit.use_source_meter()
        else:
            kit.use_ampere_meter()
        kit.set_source_voltage(round(1000 * volts))
        kit.toggle_DUT_power("ON")

    def _made(
        self, kit: Any, received: list[tuple[float, bytes]], rig: str, marks: tuple[Mark, ...],
    ) -> Trace:
        """The trace of what came: as the library's arithmetic has it."""
        data = b"".join(piece for _, piece in received)
        words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
        if words.size < 2:
            return Trace(np.zeros(0), np.zeros(0), rig)
        index = _numbered(words, rig)
        current = amperes(kit, words)
        ends = np.cumsum([len(piece) for _, piece in received]) // 4 - 1
        whole = ends >= 0
        arrived = np.asarray([at for at, _ in received])[whole]
        own = index[ends[whole]] * PERIOD_S
        begun, slack = shift(arrived, own)
        return Trace(
            times := begun + index * PERIOD_S, cumulated(times, current * kit.current_vdd / 1000), rig,
            trigger=(words >> (24 + self.channel)) & 1 == 1,
            beyond=((words & FULL_SCALE) == FULL_SCALE) | (current > MOST_A),
            stand_in=STAND_IN in rig, period_s=PERIOD_S, drift=drift(arrived, own),
            slack_s=slack, marks=marks)


def attached() -> list[str]:
    """The serial ports of the kits that are attached."""
    from serial.tools.list_ports import comports

    return sorted({port.device for port in comports() if port.product == "PPK2"})


def _attached() -> str:
    """The first port of the only kit; of its two ports that one is it that measures."""
    from serial.tools.list_ports import comports

    kits = {port.serial_number: port.device for port in sorted(comports(), reverse=True)
            if port.product == "PPK2"}
    if len(kits) != 1:
        raise DeviceError(f"{len(kits)} PPK2 are attached, and `port:` names none" if kits else
                          "no PPK2 is attached", "plug one in, or name its `port:` in target.yaml")
    return str(next(iter(kits.values())))


def _opened(port: str) -> Any:
    from ppk2_api import ppk2_api
    from serial import SerialException

    ppk2_api.logging = log  # else the root logger sets itself up, and prints what our own error says
    try:
        return ppk2_api.PPK2_API(port, timeout=1, write_timeout=1, exclusive=True)
    except (SerialException, OSError, ValueError, termios.error) as error:
        raise DeviceError(f"the PPK2 at {port} cannot be opened: {error.args[-1]}",
                          "plug it in, end the program that uses it, or name its port; the group dialout "
                          "may use it") from error


@contextmanager
def _closed_on_error(kit: Any, name: str) -> Iterator[None]:
    """Close its port where the block fails; an error of the port (termios has its own) is the kit's."""
    try:
        yield
    except BaseException as error:
        kit.ser.close()
        if isinstance(error, (OSError, termios.error)):
            raise DeviceError(f"{name} vanished: {error.args[-1]}",
                              "see to its cable, and build again") from error
        raise


def _see_calibrated(kit: Any, name: str) -> None:
    """Read what the kit is calibrated with, past what an earlier recording may have left on the line."""
    for _ in range(TRIES):
        kit.stop_measuring()
        time.sleep(PAUSE_S * 10)
        kit.ser.reset_input_buffer()
        try:
            if kit.get_modifiers() and kit.modifiers["HW"] is not None:
                return
        except UnicodeDecodeError:
            continue
    raise DeviceError(f"{name} does not answer as one", "see that this is its port, and not the other of the "
                      "two that it has; plug it in again")


def _take(kit: Any, name: str, received: list[tuple[float, bytes]], ended: threading.Event) -> None:
    """All that the kit sends until `ended`, with the host's times."""
    heard = time.monotonic()
    while not ended.is_set():
        data = kit.get_data()
        now = time.monotonic()
        if data:  # there may be more already
            received.append((now, data))
            heard = now
        elif now - heard > SILENT_S:
            raise DeviceError(f"{name} fell silent in mid-run", "plug it in again, and build again")
        else:
            ended.wait(PAUSE_S)


def _let_go(kit: Any) -> None:
    """Let it measure no more; what it supplies stays on."""
    try:
        kit.stop_measuring()
    finally:
        kit.ser.close()


def _numbered(words: np.ndarray, rig: str) -> np.ndarray:
    """Which sample since the first each is, by the counters: 64 at most are told apart."""
    steps = np.diff((words >> 18) & (COUNTS - 1)) % COUNTS
    if np.count_nonzero(steps == 1) < steps.size / 2:
        raise DeviceError(f"{rig}: its samples are out of step: what came are no four bytes each",
                          "plug it in again, and build again")
    return np.concatenate([[0], np.cumsum(np.where(steps == 0, COUNTS, steps).astype(np.int64))])
