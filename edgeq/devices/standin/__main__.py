"""A stand-in phone to play with: `python -m edgeq.devices.standin`, then `adb connect` as it says.

It ends when its standard input does, so that it outlives nobody who started it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from pathlib import Path

from edgeq.devices.standin import busybox, phone, state, system
from edgeq.devices.standin.confinement import UNCONFINED, confine
from edgeq.devices.standin.daemon import Daemon
from edgeq.devices.standin.services import Services
from edgeq.errors import EdgeqError, ToolError


def main() -> int:
    """Fetch what the phone needs, or serve one until standard input is closed; its port is told on stdout."""
    words = argparse.ArgumentParser(prog="python -m edgeq.devices.standin", description=__doc__)
    words.add_argument("--fetch", action="store_true", help="fetch its busybox, and do no more")
    words.add_argument("--board", default=phone.BOARD, help="whose core QEMU plays (%(default)s)")
    words.add_argument("--port", type=int, default=0, help="of TCP on loopback; one that is free by default")
    words.add_argument("--root", type=Path, help="its system, made before; emptied when it ends")
    given = words.parse_args()
    try:
        if given.fetch:
            busybox.fetch()
        elif given.root:
            _serve_all(given.root.resolve(), given.board, given.port)
        else:
            with phone.started(given.board, port=given.port) as made:
                _tell(made.address)
                _until_closed()
    except EdgeqError as error:
        sys.stderr.write(f"{error.message}\n  {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _serve_all(root: Path, board: str, port: int) -> None:
    """Serve, and leave nothing but the folder itself, even where nobody else is left to remove it."""
    state.read(root)  # which tells a phone's system from any other folder
    try:
        asyncio.run(_serve(root, board, port))
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def _serve(root: Path, board: str, port: int) -> None:
    shell = system.argv(root, phone.described_as(board))
    services = Services(root, lambda words: [*shell, words or "exec sh -i"], system.environment(root))
    try:
        server = await asyncio.start_server(Daemon(root, services.table()).serve, "127.0.0.1", port)
    except OSError as error:
        raise ToolError(f"port {port} is not to be had: {error.strerror}", "name another one") from error
    async with server:
        if os.environ.get(UNCONFINED[0]) != UNCONFINED[1]:
            confine([root, *map(Path, (*system.DEVICES, *system.TERMINALS))],
                    [*system.HOST, Path(sys.prefix), Path(sys.base_prefix)])
        _tell(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await asyncio.to_thread(_until_closed)


def _tell(address: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def _until_closed() -> None:
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    sys.exit(main())
