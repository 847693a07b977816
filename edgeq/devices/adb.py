"""A phone over adb: a folder of its own below /data/local/tmp, and a shell whose exit status comes back.

The one rule: nothing stays on the phone. What an earlier run had to leave, because the phone was gone, is
swept away by the next one.
"""

from __future__ import annotations

import logging
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq import tool
from edgeq.devices import adb_sync, android
from edgeq.devices.adb_server import chosen, client, connected
from edgeq.devices.device import Fact, cleaned, full, held, see_arrived, see_pulled, sums
from edgeq.errors import DeviceError

log = logging.getLogger(__name__)
PLACE, MARK = "/data/local/tmp", "edgeq-"
QUICK_S = 60.0


@dataclass(frozen=True)
class Adb:
    """The phone `serial` as the adb `server` sees it, and the folder there that is this run's own."""

    server: Any
    serial: str
    folder: str

    @property
    def name(self) -> str:
        """What errors and notes call it."""
        return f"the phone {self.serial}"

    def push(self, files: Mapping[str, Path]) -> None:
        """Put `files` into the folder; DeviceError where the phone is full, or one does not arrive whole."""
        with self._spoken():
            for name, file in files.items():
                self._copied(file, name)
        see_arrived(self.name, self.run(shlex.split(sums([*files])), QUICK_S).output, files)

    def run(self, words: Sequence[str], timeout_s: float) -> tool.Finished:
        """Run `words` in the folder; DeviceError where the phone is gone, or not done after `timeout_s`."""
        return self.shell(f"cd {self.folder} && exec {shlex.join(words)}", timeout_s)

    def shell(self, command: str, timeout_s: float = QUICK_S) -> tool.Finished:
        """Let the phone's shell do `command`."""
        log.info("%s $ %s", self.serial, command)
        with self._spoken(timeout_s):
            ended = self._device.shell2(command, timeout=timeout_s, v2=True)
        log.info("%s", ended.output)
        return tool.Finished(ended.returncode, ended.output)

    def pull(self, name: str, place: Path) -> None:
        """Copy the file `name` of the folder to `place`; DeviceError where it is cut short on the way."""
        with self._spoken():
            adb_sync.receive(self._device, f"{self.folder}/{name}", place)
        see_pulled(self.name, self.run(shlex.split(sums([name])), QUICK_S).output, name, place)

    def facts(self) -> Mapping[str, Fact]:
        """What it says of itself, and of its condition now (see `android.read`)."""
        return {"serial": self.serial, **android.read(self.shell(android.ASKED).output)}

    def remove(self) -> None:
        """Remove the folder, as far as the phone can be reached."""
        try:
            self.shell(f"rm -rf {self.folder}")
        except DeviceError as error:
            log.warning("%s: %s was left behind: %s", self.name, self.folder, error)

    def make(self) -> None:
        """Make the folder, and sweep away what was left behind a day ago or earlier."""
        sweep = f"find {PLACE} -maxdepth 1 -name '{MARK}*' -mtime +0 -exec rm -rf {{}} \\; 2>/dev/null"
        made = self.shell(f"{sweep}; mkdir {self.folder}")
        if made.status:
            raise full(self.name, made.output) or DeviceError(
                f"{self.name} lets nobody write below {PLACE}", tool.tail(made.output))

    @property
    def _device(self) -> Any:
        return self.server.device(self.serial)

    def _copied(self, file: Path, name: str) -> None:
        try:
            adb_sync.send(self._device, file, f"{self.folder}/{name}")
        except adb_sync.Failed as error:
            raise full(self.name, str(error)) or DeviceError(
                f"{self.name} did not take {name}: {error}", "see that it is not locked down") from error

    @contextmanager
    def _spoken(self, timeout_s: float = adb_sync.PATIENCE_S) -> Iterator[None]:
        """Makes of whatever goes wrong on the line a DeviceError that says what became of the phone."""
        from adbutils.errors import AdbError, AdbTimeout

        try:
            yield
        except (AdbTimeout, TimeoutError) as error:
            raise DeviceError(f"{self.name} had not answered after {timeout_s:g} s",
                              "see that it is awake, and that the model is not too slow for it") from error
        except (AdbError, OSError, EOFError, adb_sync.Failed) as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> DeviceError:
        from adbutils.errors import AdbError

        try:
            states = [info.state for info in self.server.list() if info.serial == self.serial]
        except (AdbError, OSError):
            states = []
        if states == ["device"]:
            return DeviceError(f"{self.name} failed in mid-run: {error}", "build again")
        return DeviceError(f"{self.name} vanished in mid-run", "see to its cable, its battery and its "
                           f"network; what it has at {self.folder} is removed by a later run")


@contextmanager
def opened(address: str = "") -> Iterator[Adb]:
    """The phone that `adb_server.chosen` finds, for this build alone, with a folder that is removed."""
    server = client()
    with connected(server, address):
        serial = chosen(server, address)
        with held(f"adb {serial}"):
            phone = Adb(server, serial, f"{PLACE}/{MARK}{secrets.token_hex(8)}")
            with cleaned(phone.remove):
                phone.make()
                yield phone
