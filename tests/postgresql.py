"""A PostgreSQL server of the tests' own: a folder, a port and a password that nobody else has."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "correct horse"
FAST = ("fsync=off", "shared_buffers=16MB", "max_connections=20", "listen_addresses=127.0.0.1",
        "unix_socket_directories=")


@dataclass(frozen=True)
class Server:
    """A server at work on this machine."""

    port: int

    def url(self, database: str, password: str = PASSWORD) -> str:
        """The address of a database there, as a user would give it."""
        return f"postgresql://tests:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def carry_out(self, statement: str, database: str = "postgres") -> None:
        """Carry out one statement outside any transaction."""
        import psycopg
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def started() -> Iterator[Server]:
    """A server that runs during the block, and not after it, whatever becomes of this process."""
    folder = Path(tempfile.mkdtemp(prefix="edgeq-postgresql-"))
    try:
        (folder / "password").write_text(PASSWORD)
        user = _someone(folder)
        made = subprocess.run([*user, _program("initdb"), "--pgdata", folder / "data", "--no-sync",
                               "--username=tests", "--auth=scram-sha-256", "--no-locale", "--encoding=UTF8",
                               f"--pwfile={folder / 'password'}"],
                              capture_output=True, text=True, timeout=120, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        with _serving([*user, _program("postgres"), "-D", folder / "data"], folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _serving(command: list[str | Path], folder: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [word for setting in (*FAST, f"port={port}") for word in ("-c", setting)]
    with (folder / "log").open("w") as log, subprocess.Popen([*command, *settings], stdout=log, stderr=log,
                                                             cwd="/") as process:
        try:
            _wait_for(Server(port), process, folder / "log")
            yield Server(port)
        finally:
            process.send_signal(subprocess.signal.SIGINT)  # what connections there are, end
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    import psycopg
    latest = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < latest:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"PostgreSQL did not start: {log.read_text()}")


def _someone(folder: Path) -> list[str]:
    """The words that run a program as a user to whom `folder` is given, for initdb refuses root."""
    words = ["setpriv", "--pdeathsig=INT"]
    if os.getuid():
        return words
    shutil.chown(folder, "nobody", "nogroup")
    shutil.chown(folder / "password", "nobody", "nogroup")
    return [*words, "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def _program(name: str) -> Path:
    """A program of the newest PostgreSQL that is installed; Debian keeps them off the PATH."""
    found = shutil.which(name)
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found or debian, f"{name} is missing: apt-get install postgresql"
    return Path(found) if found else debian[-1]
