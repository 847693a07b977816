"""Which very instruments and devices figures were measured with, as a person tells them apart.

The one rule: a name that a cable or a reboot changes (/dev/ttyACM0) is no identity where a better one is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeq.devices.record import DEVICE
from edgeq.quantization import DETAILS

STAND_IN = "edgeq stand-in"
TERMINALS = "/dev/pts/"


def serial_number(port: str) -> str:
    """The serial number that the USB device at the serial `port` has; the port where it has none."""
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        return port
    real = str(Path(port).resolve())
    return next((each.serial_number for each in comports()
                 if each.serial_number and each.device in (port, real)), port)


def device(runner: Any, out: Path) -> tuple[str, bool]:
    """The device that `runner` ran, by what it left in `out`; and whether it is one, or stands in for one."""
    told = _told(out)
    before = told.get("before", {})
    named = " ".join(str(before[key]) for key in ("model", "serial") if before.get(key))
    address = str(getattr(runner, "address", "") or "")
    if address.startswith("/dev/") and not named:
        named = " ".join(filter(None, (str(getattr(runner, "core", "")), serial_number(address))))
    emulated = told.get("emulated") or told.get("launcher")
    return named or address, bool(emulated) or is_terminal(address)


def is_terminal(address: str) -> bool:
    """Whether a serial port is a pseudo-terminal: a program is at its other end, and no board's wires."""
    return address.startswith("/dev/") and str(Path(address).resolve()).startswith(TERMINALS)


def _told(out: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((out / DETAILS / DEVICE).read_bytes())
    except OSError:
        return {}
    return told
