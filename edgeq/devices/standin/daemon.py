"""The stand-in's adb daemon: connections, and the streams in them.

The one rule: a stream sends no second packet before the first is acknowledged, as the protocol asks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.devices.standin import packets, state
from edgeq.devices.standin.packets import Packet, received

PAUSE_S = 0.05
FEATURES = "shell_v2,cmd,stat_v2,fixed_push_mkdir"
Service = Callable[["Stream", str], Awaitable[None]]


@dataclass(frozen=True)
class Stream:
    """One service in use: bytes from the client with `read`, bytes to it with `write`."""

    send: Callable[[Packet], None]
    number: int
    theirs: int
    arrived: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    acknowledged: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    rest: bytearray = field(default_factory=bytearray)

    async def write(self, data: bytes) -> None:
        """Send `data`, in pieces of a payload, each when the one before is acknowledged."""
        for start in range(0, len(data), packets.LARGEST):
            self.send(Packet("WRTE", self.number, self.theirs, data[start:start + packets.LARGEST]))
            await self.acknowledged.acquire()

    async def piece(self) -> bytes:
        """What came in one packet; empty where the client closed the stream."""
        data = await self.arrived.get()
        if data:
            self.send(Packet("OKAY", self.number, self.theirs))
        return data

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes; EOFError where the client closed the stream before."""
        while len(self.rest) < size:
            data = await self.piece()
            if not data:
                raise EOFError("the stream was closed")
            self.rest.extend(data)
        taken = bytes(self.rest[:size])
        del self.rest[:size]
        return taken


@dataclass(frozen=True)
class Daemon:
    """The phone whose system lies at `root`; `services` are what a stream can be opened to."""

    root: Path
    services: Mapping[str, Service]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the first packet to the last."""
        connection = Connection(self, writer)
        watch = asyncio.create_task(connection.watch())
        with suppress(EOFError, ConnectionError, ValueError):
            await connection.greet(reader)
            while True:
                connection.handle(await received(reader))
        watch.cancel()
        await connection.close()


@dataclass(frozen=True)
class Connection:
    """An adb server that is connected, its streams and the tasks that serve them."""

    daemon: Daemon
    writer: asyncio.StreamWriter
    streams: dict[int, Stream] = field(default_factory=dict)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    taken: list[int] = field(default_factory=list)  # bytes of each packet with a payload

    def send(self, packet: Packet) -> None:
        """Send one packet."""
        self.writer.write(packet.encoded())

    async def greet(self, reader: asyncio.StreamReader) -> None:
        """Let both sides say what they are, and the other one in."""
        packet = await received(reader)
        while not self.state.awake:
            await asyncio.sleep(PAUSE_S)
        while not self.state.authorized:  # whatever key is shown: nobody confirms it on the screen
            self.send(Packet("AUTH", packets.TOKEN, 0, os.urandom(20)))
            packet = await received(reader)
            if packet.first == packets.PUBLIC_KEY:
                while not self.state.authorized:
                    await asyncio.sleep(PAUSE_S)
        self.send(Packet("CNXN", packets.VERSION, packets.LARGEST, self._banner()))

    async def watch(self) -> None:
        """Pull the plug as soon as the phone is gone."""
        while not self.state.gone:
            await asyncio.sleep(PAUSE_S)
        self.writer.transport.abort()

    def handle(self, packet: Packet) -> None:
        """Do what a packet asks for; ConnectionError where the phone is gone with it."""
        self._count(len(packet.payload))
        stream = self.streams.get(packet.second)
        if packet.command == "OPEN":
            self._open(packet)
        elif stream is None:
            return
        elif packet.command == "WRTE":
            stream.arrived.put_nowait(packet.payload)
        elif packet.command == "OKAY":
            stream.acknowledged.release()
        elif packet.command == "CLSE":
            self._forget(stream.number)

    async def close(self) -> None:
        """End all that the connection started."""
        for number in [*self.streams]:
            self._forget(number)
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    @property
    def state(self) -> state.State:
        """What the phone is like now."""
        return state.read(self.daemon.root)

    def _banner(self) -> bytes:
        told = {"name": "edgeq", "model": self.state.model, "device": "edgeq"}
        properties = "".join(f"ro.product.{name}={value};" for name, value in told.items())
        return f"device::{properties}features={FEATURES}".encode()

    def _count(self, size: int) -> None:
        """Count what comes, and pull the plug where that was too much."""
        self.taken.append(size)
        if 0 <= self.state.gone_after <= sum(self.taken):
            self.writer.transport.abort()
            raise ConnectionError("the phone is gone")

    def _open(self, packet: Packet) -> None:
        name = packet.payload.rstrip(b"\0").decode("utf-8", "replace")
        service = next((self.daemon.services[prefix] for prefix in self.daemon.services
                        if name.startswith(prefix)), None)
        if service is None:
            self.send(Packet("CLSE", 0, packet.first))
            return
        number = max(self.tasks, default=0) + 1
        stream = self.streams[number] = Stream(self.send, number, packet.first)
        self.send(Packet("OKAY", number, packet.first))
        self.tasks[number] = asyncio.create_task(self._served(service, stream, name))

    async def _served(self, service: Service, stream: Stream, name: str) -> None:
        try:
            with suppress(EOFError, ConnectionError):
                await service(stream, name)
        finally:
            if self.streams.pop(stream.number, None):
                self.send(Packet("CLSE", stream.number, stream.theirs))

    def _forget(self, number: int) -> None:
        """The client closed a stream: what serves it ends, and so does what it runs."""
        stream = self.streams.pop(number)
        stream.arrived.put_nowait(b"")
        self.send(Packet("CLSE", number, stream.theirs))
        self.tasks[number].cancel()
