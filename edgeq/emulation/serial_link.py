"""The host's side of the serial link: samples to a device, outputs back, over a line that may fail.

The one rule: every request may be repeated, and is, until it is answered or its time is up; so bytes
that are lost, changed or doubled, and resets of the device, cost time and never change a result.

    with opened("/dev/ttyACM0", 115200) as line:
        link = Link(line)
        device = link.hello()
        outputs = [link.infer(sample).output for sample in samples]
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeq.emulation.faults import NAMES, told
from edgeq.emulation.frames import Frame, Unframer, encoded
from edgeq.emulation.serial_port import Line
from edgeq.errors import ToolError
from edgeq.marks import inferring

VERSION = 1
LONGER = 1.5


@dataclass(frozen=True)
class Patience:
    """Seconds: until a request is repeated, until it is given up, and what an inference may take.

    Each repetition waits longer than the one before, so that a busy device is not flooded.
    `resets` is how often the device may start anew on one sample.
    """

    repeat_s: float = 0.4
    reply_s: float = 15.0
    run_s: float = 60.0
    resets: int = 3


@dataclass(frozen=True)
class Device:
    """What a device says of the firmware on it: its model's digest (8 bytes) and the sizes of a sample."""

    digest: bytes
    input_bytes: int
    output_bytes: int
    chunk: int


@dataclass(frozen=True)
class Answer:
    """The output for a sample, and what it took; `cycles` is 0 where the core does not count them."""

    output: bytes
    cycles: int
    stack_bytes: int


class _Reset(Exception):
    """The device has forgotten the session."""


class Link:
    """A session with the device at the other end of `line`; `elf` is the firmware on it, to name faults by.

    `repeats` and `resets` count what the line and the device made necessary.
    """

    def __init__(self, line: Line, patience: Patience | None = None, elf: Path | None = None) -> None:
        self.line = line
        self.patience = patience or Patience()
        self.elf = elf
        self.repeats = 0
        self.resets = 0
        self._in = Unframer()
        self._sequence = 0
        self._session = 0
        self._runs = 0
        self._device: Device | None = None

    def hello(self) -> Device:
        """Begin a session; ToolError where no device answers, or one of another version."""
        self._session = int.from_bytes(os.urandom(2)) or 1
        self._runs = 0
        content = self._asked("H", b"", self.patience.reply_s)
        if len(content) != 24 or struct.unpack_from("<I", content)[0] != VERSION:
            raise ToolError("the firmware on the device speaks another version of the serial link",
                            "build it again and flash it")
        self._device = Device(content[4:12], *struct.unpack_from("<III", content, 12))
        return self._device

    def infer(self, sample: bytes) -> Answer:
        """Run the device on one sample; again from its start where the device reset in the middle.

        Raises ToolError where it does not answer, faults, or resets again and again; ValueError for
        a sample of another size than the device's.
        """
        for _ in range(self.patience.resets + 1):
            device = self._device or self.hello()
            if len(sample) != device.input_bytes:
                raise ValueError(f"the sample has {len(sample)} bytes, the device wants {device.input_bytes}")
            try:
                return self._inferred(device, sample)
            except _Reset:
                self.resets += 1
                self._device = None
        raise ToolError(f"the device reset {self.patience.resets + 1} times while it ran one sample",
                        "see to its power supply and its watchdog, and that this firmware is the one on it")

    def _inferred(self, device: Device, sample: bytes) -> Answer:
        """Input, run, output, each checked by its CRC as a whole."""
        crc = zlib.crc32(sample)
        for _ in range(self.patience.resets + 1):
            self._runs += 1
            for offset, size in _pieces(len(sample), device.chunk):
                piece = struct.pack("<I", offset) + sample[offset : offset + size]
                self._asked("W", piece, self.patience.reply_s)
            with inferring():
                reply = self._asked("R", struct.pack("<II", self._runs, crc), self.patience.run_s)
            done, stack, cycles, wanted = struct.unpack("<IIII", reply)
            if not done:  # what it holds is not what was sent
                continue
            output = b"".join(self._asked("G", struct.pack("<II", *piece), self.patience.reply_s)
                              for piece in _pieces(device.output_bytes, device.chunk))
            if zlib.crc32(output) == wanted:
                return Answer(output, cycles, stack)
        raise ToolError("the device's memory does not hold what is written to it",
                        "its buffers overlap, or its memory is bad")

    def _asked(self, kind: str, content: bytes, timeout_s: float) -> bytes:
        """The answer to a request, repeated until it comes; `_Reset` where the device knows no session."""
        self._sequence = self._sequence % 255 + 1
        request = encoded(Frame(kind, self._sequence, self._session, content))
        given_up, tries, wait = time.monotonic() + timeout_s, 0, self.patience.repeat_s
        while (now := time.monotonic()) < given_up:
            self.line.write(request)
            tries += 1
            wait *= LONGER
            for frame in self._incoming(min(now + wait / LONGER, given_up)):
                if frame.kind == kind and (frame.sequence, frame.session) == (self._sequence, self._session):
                    self.repeats += tries - 1
                    return frame.content
                self._mind(frame, kind)
        raise self._silent(kind, tries, timeout_s)

    def _incoming(self, ends: float) -> Iterator[Frame]:
        """The frames that come until the time `ends`."""
        while (left := ends - time.monotonic()) > 0:
            yield from self._in.frames(self.line.read(left))

    def _mind(self, frame: Frame, kind: str) -> None:
        """What a device says unasked; answers to requests that were repeated are of no more use."""
        if frame.kind == "F" and len(frame.content) == 4 * len(NAMES):
            message, hint = told(struct.unpack(f"<{len(NAMES)}I", frame.content), self.elf)
            raise ToolError(f"the firmware faulted on the device: {message}", hint)
        lost = frame.kind == "B" or (frame.kind == "?" and frame.sequence == self._sequence)
        if lost and kind != "H":
            raise _Reset

    def _silent(self, kind: str, tries: int, timeout_s: float) -> ToolError:
        """What was tried, and what came back of it."""
        known = {"H": "a greeting", "W": "a part of a sample", "R": "to run", "G": "for the output"}
        came = "nothing came back: see that the firmware is flashed and started, the port and the wires"
        if self._in.received:
            came = (f"{self._in.received} bytes came back, the last of them {self._in.tail.hex(' ')}: "
                    "where none of it was ever understood, the speed (baud) is another")
        return ToolError(
            f"the device did not answer {known[kind]}, sent {tries} times in {timeout_s:g} s", came)


def _pieces(size: int, chunk: int) -> Iterator[tuple[int, int]]:
    """`size` bytes as (offset, size) of pieces no larger than `chunk`."""
    return ((offset, min(chunk, size - offset)) for offset in range(0, size, chunk))
