"""Recording on a phone over adb: a loop in its shell that prints what its own sensors say.

The one rule: the loop ends when the recording does, and by itself at the latest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.arrays import Array
from edgeq.devices.adb_server import chosen, client, connected
from edgeq.devices.standin.state import State
from edgeq.errors import DeviceError
from edgeq.power.recording import Mark, Recording
from edgeq.power.rig import STAND_IN
from edgeq.power.trace import Trace

END = "="
TURNS = 200_000  # of the loop on the phone
LOOP = "n=0; while [ $n -lt {turns} ]; do {read}; echo {end}; n=$((n+1)); sleep {pause}; done"
SILENT_S = 5.0
Blocks = list[tuple[float, list[str]]]  # when it had come, and its lines
Shell = Callable[[str], str]


@dataclass(frozen=True)
class Sensor:
    """What is read: the shell's words `read`, every `pause_s` seconds; its name in a rig is `label`.

    `see` may refuse a phone by what its shell answers; `columns` makes times (s), energy (J) and how far the
    times may be off (s) of what was printed.
    """

    label: str
    read: str
    pause_s: float
    see: Callable[[Shell], None]
    columns: Callable[[Blocks], tuple[Array, Array, float]]


def recording(address: str, sensor: Sensor) -> Recording[Trace]:
    """Record what `sensor` of the phone at `address` says; DeviceError where there is no such phone."""
    from adbutils.errors import AdbError

    stack, blocks = ExitStack(), Blocks()
    try:
        server = client()
        stack.enter_context(connected(server, address))
        serial = chosen(server, address)
        phone = server.device(serial)
        sensor.see(lambda command: str(phone.shell(command)))
        model = str(phone.shell("getprop ro.product.model")).strip()
        loop = LOOP.format(turns=TURNS, read=sensor.read, end=END, pause=f"{sensor.pause_s:g}")
        stream = phone.shell(loop, stream=True)
        stack.callback(stream.close)
    except (AdbError, OSError) as error:
        stack.close()
        raise DeviceError(f"the phone {address} does not answer: {error}", "see `adb devices`") from error
    except BaseException:
        stack.close()
        raise
    rig = f"{sensor.label} of {model} {STAND_IN if model == State.model else serial}"

    def made(marks: tuple[Mark, ...]) -> Trace:
        times, energy, slack = sensor.columns(blocks) if len(blocks) > 1 else (np.zeros(0), np.zeros(0), 0.0)
        return Trace(times, energy, rig, stand_in=STAND_IN in rig, slack_s=slack, marks=marks)

    return Recording(f"the phone {serial}", lambda ended: _take(stream, blocks, ended), made, stack.close)


def _take(stream: Any, blocks: Blocks, ended: threading.Event) -> None:
    """Blocks of lines as they come, until `ended`."""
    stream.conn.settimeout(0.2)
    heard, pending = time.monotonic(), ""
    while not ended.is_set():
        try:
            data = stream.conn.recv(4096)
        except TimeoutError:
            if time.monotonic() - heard > SILENT_S:
                raise DeviceError("the phone fell silent in mid-run", "see to its cable, its battery and its "
                                  "network, and build again") from None
            continue
        if not data:
            raise DeviceError("the phone vanished in mid-run", "see to its cable, its battery and its "
                              "network, and build again")
        heard = time.monotonic()
        *whole, pending = (pending + data.decode("utf-8", "replace")).split(f"{END}\n")
        blocks.extend((heard, block.splitlines()) for block in whole)
