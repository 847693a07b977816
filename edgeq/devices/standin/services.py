"""What a stream to the stand-in can be opened to: a shell, and the copying of files (`sync:`).

The one rule: no path leads out of the phone's own system. Formats: Android's packages/modules/adb,
SYNC.TXT and shell_protocol.h.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgeq.devices.standin import state
from edgeq.devices.standin.daemon import Service, Stream

PIECE = 1 << 16
STDIN, STDOUT, STDERR, EXIT, CLOSE = range(5)  # of the shell protocol
ERRORS = {"ENOENT": 2, "EACCES": 13}
NO_SPACE = "No space left on device"


@dataclass(frozen=True)
class Services:
    """The services of the phone at `root`; `command` makes an argv of a shell's words."""

    root: Path
    command: Callable[[str], list[str]]
    environment: Mapping[str, str]

    def table(self) -> Mapping[str, Service]:
        """The services by the prefix of their names; the first that fits is meant."""
        return {"shell,v2": self.shell_v2, "shell:": self.shell, "exec:": self.shell, "sync:": self.sync}

    async def shell(self, stream: Stream, name: str) -> None:
        """`shell:WORDS`: all that they print, without more ado."""
        process = await self._started(name.partition(":")[2], asyncio.subprocess.STDOUT)
        feeding = asyncio.create_task(self._fed(stream, process))
        try:
            while data := await _some(process.stdout):
                await stream.write(data)
            await process.wait()
        finally:
            feeding.cancel()
            _end(process)

    async def shell_v2(self, stream: Stream, name: str) -> None:
        """`shell,v2,…:WORDS`: what they print to either stream, and their exit status."""
        kind, _, words = name.partition(":")
        if kind.endswith(",pty"):
            await self._at_terminal(stream, words)
            return
        process = await self._started(words, asyncio.subprocess.PIPE)
        feeding = asyncio.create_task(self._told(stream, partial(_type, process), process.stdin))
        one = asyncio.Lock()

        async def forward(source: asyncio.StreamReader | None, kind: int) -> None:
            while data := await _some(source):
                async with one:
                    await stream.write(struct.pack("<BI", kind, len(data)) + data)

        try:
            await asyncio.gather(forward(process.stdout, STDOUT), forward(process.stderr, STDERR))
            await stream.write(_ended(await process.wait()))
        finally:
            feeding.cancel()
            _end(process)

    async def sync(self, stream: Stream, _name: str) -> None:
        """Requests for files, one after the other, until QUIT."""
        asked: Mapping[bytes, Callable[[Stream, str], object]] = {
            b"STAT": self._stat, b"STA2": self._stat_v2, b"LST2": self._stat_v2, b"LIST": self._list,
            b"SEND": self._send, b"RECV": self._receive}
        while True:
            word, size = struct.unpack("<4sI", await stream.exactly(8))
            if word not in asked:
                return
            path = (await stream.exactly(size)).decode("utf-8", "replace")
            await asked[word](stream, path)  # type: ignore[misc]

    async def _stat(self, stream: Stream, path: str) -> None:
        await stream.write(b"STAT" + self._stated(path))

    async def _stat_v2(self, stream: Stream, path: str) -> None:
        try:
            told = os.lstat(self._inside(path))
        except OSError as error:
            await stream.write(struct.pack("<4sI64x", b"STA2", error.errno or ERRORS["ENOENT"]))
            return
        times = (int(told.st_atime), int(told.st_mtime), int(told.st_ctime))
        await stream.write(struct.pack("<4sIQQIIIIQqqq", b"STA2", 0, told.st_dev, told.st_ino, told.st_mode,
                                       told.st_nlink, told.st_uid, told.st_gid, told.st_size, *times))

    async def _list(self, stream: Stream, path: str) -> None:
        with suppress(OSError):
            for file in sorted(self._inside(path).iterdir()):
                word = file.name.encode()
                entry = self._stated(f"{path.rstrip('/')}/{file.name}")
                await stream.write(b"DENT" + entry + struct.pack("<I", len(word)) + word)
        await stream.write(b"DONE" + bytes(16))

    async def _send(self, stream: Stream, path: str) -> None:
        """Take a file; a mode after the last comma. What is wrong is told when all has come."""
        name, _, mode = path.rpartition(",")
        failure, room = "", state.read(self.root).free_bytes
        content = bytearray()
        while (header := struct.unpack("<4sI", await stream.exactly(8)))[0] == b"DATA":
            piece = await stream.exactly(header[1])
            if 0 <= room < len(content) + len(piece):
                failure = f"couldn't write file: {NO_SPACE}"
            elif not failure:
                content.extend(piece)
        try:
            place = self._inside(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(int(mode) & 0o777)
        except OSError as error:
            failure = f"couldn't create file: {error.strerror}"
        said = failure.encode()
        await stream.write((b"FAIL" if said else b"OKAY") + struct.pack("<I", len(said)) + said)

    async def _receive(self, stream: Stream, path: str) -> None:
        cut = state.read(self.root).cut_after
        try:
            content = self._inside(path).read_bytes()
        except OSError as error:
            said = f"open failed: {error.strerror}".encode()
            await stream.write(b"FAIL" + struct.pack("<I", len(said)) + said)
            return
        content = content[:cut] if cut >= 0 else content
        for start in range(0, len(content), PIECE):
            piece = content[start:start + PIECE]
            await stream.write(b"DATA" + struct.pack("<I", len(piece)) + piece)
        await stream.write(b"DONE" + bytes(4))

    def _stated(self, path: str) -> bytes:
        """Mode, size and time, all 0 where there is nothing."""
        try:
            told = os.lstat(self._inside(path))
        except OSError:
            return bytes(12)
        return struct.pack("<III", told.st_mode, told.st_size & 0xFFFFFFFF, int(told.st_mtime))

    def _inside(self, path: str) -> Path:
        """Where `path` of the phone lies here; PermissionError where that is outside of the phone."""
        place = self.root / path.lstrip("/")
        if not place.parent.resolve().is_relative_to(self.root) or (
                place.is_symlink() and not place.resolve().is_relative_to(self.root)):
            raise PermissionError(ERRORS["EACCES"], "Permission denied")
        return place

    async def _started(self, words: str, errors: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command(words), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=errors, cwd=self.root, env=self.environment, start_new_session=True)

    async def _fed(self, stream: Stream, process: asyncio.subprocess.Process) -> None:
        """Give the process what the client types."""
        while data := await stream.piece():
            _type(process, data)

    async def _told(
        self, stream: Stream, typed: Callable[[bytes], object], closed: asyncio.StreamWriter | None = None
    ) -> None:
        """Hand on what the client types, in packets of the shell protocol."""
        while True:
            kind, size = struct.unpack("<BI", await stream.exactly(5))
            data = await stream.exactly(size)
            if kind == STDIN:
                typed(data)
            elif kind == CLOSE and closed:
                closed.close()

    async def _at_terminal(self, stream: Stream, words: str) -> None:
        """What `words` print at a terminal of their own, and their exit status."""
        ours, theirs = os.openpty()
        process = await asyncio.create_subprocess_exec(
            *self.command(words), stdin=theirs, stdout=theirs, stderr=theirs, cwd=self.root,
            env=self.environment, start_new_session=True)
        os.close(theirs)
        reader = asyncio.StreamReader()
        line, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0))
        feeding = asyncio.create_task(self._told(stream, partial(os.write, ours)))
        try:
            with suppress(OSError):  # which is how a terminal ends
                while data := await reader.read(PIECE):
                    await stream.write(struct.pack("<BI", STDOUT, len(data)) + data)
            await stream.write(_ended(await process.wait()))
        finally:
            feeding.cancel()
            line.close()
            _end(process)


async def _some(source: asyncio.StreamReader | None) -> bytes:
    return await source.read(PIECE) if source else b""


def _ended(status: int) -> bytes:
    """An exit status in the shell protocol; a signal's is told as a shell tells it."""
    return struct.pack("<BIB", EXIT, 1, status if status >= 0 else 128 - status)


def _type(process: asyncio.subprocess.Process, data: bytes) -> None:
    with suppress(ConnectionError):
        if process.stdin and not process.stdin.is_closing():
            process.stdin.write(data)


def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what still runs, and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
