"""A stand-in for Nordic's PPK2: its byte protocol at a pseudo-terminal, for any program of the real one.

The one rule: it calls itself a stand-in where the kit tells its hardware's version.
Commands and the bits of a sample: Nordic's pc-nrfconnect-ppk, src/constants.ts, src/device/serialDevice.ts.

    with started(lambda times: (np.full(times.size, 0.02), np.zeros(times.size, int))) as port:
        Ppk2("3.3 V", port)
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from edgeq.power.rig import STAND_IN

# Amperes and bits of the logic port at times (s, the host's time.monotonic()).
Load = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
AVERAGE_START, AVERAGE_STOP, GET_META_DATA = 0x06, 0x07, 0x19
LENGTHS = {0x0C: 2, 0x0D: 3, 0x11: 2}  # of commands with arguments: supply, voltage, mode
OHMS = (1031.64, 101.65, 10.15, 0.94, 0.043)
UP_TO_A = (50e-6, 500e-6, 5e-3, 60e-3)  # of all ranges but the last
VOLTS_A_COUNT, OFFSET = 1.8 / 163840, 100.0
TICK_S, LARGEST = 0.003, 8192  # samples that are made in one go


@dataclass(frozen=True)
class Ailment:
    """What ails it: it samples at `rate` (Hz), and loses `lost` samples of every thousand.

    It is gone, or silent, so long after it began to sample; or gone when it hears its `gone_at_command`-th
    command. `garbled` loses one byte, so that all samples are out of step.
    """

    rate: float = 100_000.0
    lost: int = 0
    gone_after_s: float = float("inf")
    gone_at_command: int | None = None
    silent_after_s: float = float("inf")
    garbled: bool = False


HEALTHY = Ailment()


@contextmanager
def started(load: Load, ailment: Ailment = HEALTHY) -> Iterator[str]:
    """A kit that measures `load`, for as long as the block; the port that it is at."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    ended = threading.Event()
    thread = threading.Thread(target=_serve, args=(ours, load, ailment, ended), daemon=True)
    thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        ended.set()
        thread.join()
        os.close(theirs)  # not before: the system gives the name of a port that is closed to another


def samples(amperes: np.ndarray, logic: np.ndarray, first: int) -> bytes:
    """What the kit sends of a current: 4 bytes a sample, the counter beginning at `first`."""
    ranges = np.searchsorted(UP_TO_A, amperes)
    counts = (amperes * np.asarray(OHMS)[ranges] / VOLTS_A_COUNT + OFFSET) / 4
    adc = np.clip(np.round(counts), 0, (1 << 14) - 1).astype(np.uint32)
    counter = (first + np.arange(amperes.size, dtype=np.uint32)) & 63
    words = adc | ranges.astype(np.uint32) << 14 | counter << 18 | logic.astype(np.uint32) << 24
    return bytes(words.astype("<u4").tobytes())


def metadata() -> bytes:
    """What the kit says of itself: what it is calibrated with, range by range, and its hardware."""
    table = {"R": OHMS, "GS": (0.0,) * 5, "GI": (1.0,) * 5, "O": (OFFSET,) * 5, "S": (0.0,) * 5,
             "I": (0.0,) * 5, "UG": (1.0,) * 5}
    rows = [f"{name}{index}: {value:.4f}" for name, row in table.items() for index, value in enumerate(row)]
    return "\n".join(["Calibrated: 1", *rows, f"HW: {STAND_IN}", "IA: 56", "END"]).encode()


def _serve(ours: int, load: Load, ailment: Ailment, ended: threading.Event) -> None:
    """Answer commands, and send samples, until `ended` or gone."""
    begun, sent = 0.0, 0
    said, commands = b"", itertools.count(1)
    with suppress(OSError), open(ours, "r+b", buffering=0):  # an error: the other side is gone
        while not ended.is_set() and _since(begun) < ailment.gone_after_s:
            said, heard = _exchanged(ours, said)
            for command in _commands(heard):
                if next(commands) == ailment.gone_at_command:
                    return
                said, begun, sent = _answered(command, said, begun, sent)
            if begun and not said and _since(begun) < ailment.silent_after_s:
                said, sent = _due(load, ailment, begun, sent)


def _since(begun: float) -> float:
    """Seconds since the sampling began; none where it has not."""
    return time.monotonic() - begun if begun else 0.0


def _exchanged(ours: int, said: bytes) -> tuple[bytes, bytes]:
    """What is still to be said when the other side took what it would, and what was heard meanwhile."""
    read, write, _ = select.select([ours], [ours] if said else [], [], TICK_S)
    left = said[os.write(ours, said):] if write else said
    return left, os.read(ours, 64) if read else b""


def _commands(heard: bytes) -> Iterator[int]:
    """The commands in what was heard, each with its parameters behind it."""
    while heard:
        yield heard[0]
        heard = heard[LENGTHS.get(heard[0], 1):]


def _answered(command: int, said: bytes, begun: float, sent: int) -> tuple[bytes, float, int]:
    """After `command`: what is to be said, when the sampling began (0: it does not), and what was sent."""
    if command == AVERAGE_START:
        return said, time.monotonic(), 0
    if command == AVERAGE_STOP:
        return b"", 0.0, 0
    return metadata() if command == GET_META_DATA else said, begun, sent


def _due(load: Load, ailment: Ailment, begun: float, sent: int) -> tuple[bytes, int]:
    """What is due of samples, of a sampling that began then; and how many were sent after that."""
    index = np.arange(sent, min(sent + LARGEST, int((time.monotonic() - begun) * ailment.rate)))
    if not index.size:
        return b"", sent
    words = np.frombuffer(samples(*load(begun + index / ailment.rate), sent), "<u4")
    data = words[index % 1000 >= ailment.lost].tobytes()
    return data[1:] if ailment.garbled and not sent else data, sent + index.size
