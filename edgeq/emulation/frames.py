"""Frames of the serial link: COBS, which leaves no zero byte within one, and a CRC-32 at the end.

The one rule: what comes in is taken for a frame only where its CRC is right; all else is passed over,
up to the next zero byte. Kinds and fields are in c/serial.c. COBS: Cheshire and Baker, IEEE/ACM
Transactions on Networking 7(2), 1999.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 254  # bytes of a frame before it is coded, so that one code byte spans any run


@dataclass(frozen=True)
class Frame:
    """A message: its kind, the number of the request that it is or answers, the session, and its content."""

    kind: str
    sequence: int
    session: int
    content: bytes = b""


def encoded(frame: Frame) -> bytes:
    """The bytes on the line; they begin with a zero, too, which ends whatever was left unfinished there."""
    head = struct.pack("<cBH", frame.kind.encode("ascii"), frame.sequence, frame.session)
    body = head + frame.content
    body += struct.pack("<I", zlib.crc32(body))
    if len(body) >= LARGEST:
        raise ValueError(f"{len(frame.content)} bytes are too many for a frame")
    return b"\0" + b"".join(bytes([len(run) + 1]) + run for run in body.split(b"\0")) + b"\0"


def decoded(coded: bytes) -> Frame | None:
    """The frame that stood between two zeros of the line; None where it is damaged."""
    runs, at = [], 0
    while at < len(coded):
        runs.append(coded[at + 1 : at + coded[at]])
        at += coded[at]
    body = b"\0".join(runs)
    if at != len(coded) or len(body) < 8 or zlib.crc32(body[:-4]) != struct.unpack("<I", body[-4:])[0]:
        return None
    kind, sequence, session = struct.unpack_from("<cBH", body)
    return Frame(kind.decode("latin-1"), sequence, session, body[4:-4])


class Unframer:
    """Bytes as they come in, in pieces of any size; the frames among them as they go out.

    `received` counts the bytes, `tail` holds the last of them, to say what came instead of frames.
    """

    def __init__(self) -> None:
        self.received = 0
        self.tail = b""
        self._pending = b""

    def frames(self, data: bytes) -> Iterator[Frame]:
        """The whole and sound frames that `data` completes."""
        self.received += len(data)
        self.tail = (self.tail + data)[-16:]
        *coded, rest = (self._pending + data).split(b"\0")
        self._pending = rest[-2 * LARGEST :]
        for each in coded:
            if frame := decoded(each):
                yield frame
