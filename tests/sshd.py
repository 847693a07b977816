"""A board on loopback: the system's own sshd, with keys and a port of its own, for the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass(frozen=True)
class Served:
    """A board at `address`: who has `identity` and knows `known_hosts` may come in, and work in `folder`."""

    port: int
    identity: Path
    known_hosts: Path
    folder: Path
    process: subprocess.Popen

    @property
    def address(self) -> str:
        return f"{getuser()}@localhost:{self.port}"

    def cut(self) -> None:
        """Cut every connection, as a board does whose plug is pulled."""
        words = ["pgrep", "-P", str(self.process.pid)]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        for child in found.stdout.split():
            os.kill(int(child), 9)


def key(file: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file


@contextmanager
def served(place: Path, *lines: str) -> Iterator[Served]:
    """An sshd with more `lines` in its configuration; `place` must be short and belong to this user alone."""
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o700)
    identity, host = key(place / "id"), key(place / "host")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = place / "board"
    folder.mkdir()
    (place / "authorized").write_text((place / "id.pub").read_text())
    (place / "authorized").chmod(0o600)
    (place / "known_hosts").write_text(f"[localhost]:{port} {(place / 'host.pub').read_text()}")
    (place / "sshd_config").write_text("\n".join((
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {host}", f"PidFile {place / 'pid'}",
        f"AuthorizedKeysFile {place / 'authorized'}", "UsePAM no", "PasswordAuthentication no",
        "KbdInteractiveAuthentication no", "StrictModes no", "PermitRootLogin prohibit-password",
        *lines, *(() if any("sftp" in line for line in lines) else ("Subsystem sftp internal-sftp",)))))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # wanted of root alone
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", place / "sshd_config"], stdout=log, stderr=log)
        try:
            _listening(port, place / "log")
            yield Served(port, identity, place / "known_hosts", folder, process)
        finally:
            process.terminate()
            process.wait()


def _listening(port: int, log: Path) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(log.read_text())
