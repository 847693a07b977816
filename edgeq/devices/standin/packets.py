"""The packets of adb's protocol: a header of six words, then the payload.

Layout and words: Android's packages/modules/adb, docs/dev/protocol.md.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

VERSION = 0x01000001  # from this one on, payloads have no checksum
LARGEST = 1 << 20  # bytes of a payload
HEADER = struct.Struct("<4sIIIII")
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3  # what an AUTH packet holds


@dataclass(frozen=True)
class Packet:
    """`command` is one of CNXN, AUTH, OPEN, OKAY, WRTE and CLSE; what the words mean depends on it."""

    command: str
    first: int
    second: int
    payload: bytes = b""

    def encoded(self) -> bytes:
        """The bytes on the line."""
        command = self.command.encode("ascii")
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        checksum = sum(self.payload) & 0xFFFFFFFF
        size = len(self.payload)
        return HEADER.pack(command, self.first, self.second, size, checksum, magic) + self.payload


async def received(reader: asyncio.StreamReader) -> Packet:
    """The next packet; EOFError where the line is closed, ValueError where it is no packet."""
    command, first, second, size, _, magic = HEADER.unpack(await reader.readexactly(HEADER.size))
    if magic != int.from_bytes(command, "little") ^ 0xFFFFFFFF or size > LARGEST:
        raise ValueError("this is not adb")
    return Packet(command.decode("ascii"), first, second, await reader.readexactly(size))
