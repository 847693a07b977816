"""The machine that edgeq runs on, as a device: for an accelerator that is plugged into it.

The one rule: what runs here is a process of its own, so that a driver that crashes takes nothing along.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.devices import conditions
from edgeq.devices.device import Fact, held
from edgeq.errors import DeviceError, ToolError


@dataclass(frozen=True)
class Here:
    """A folder of this machine: a Device."""

    folder: Path
    name: str = "this machine"

    def push(self, files: Mapping[str, Path]) -> None:
        """As Device has it."""
        for name, file in files.items():
            shutil.copy(file, self.folder / name)

    def run(self, words: Sequence[str], timeout_s: float) -> tool.Finished:
        """As Device has it; DeviceError where it crashes or hangs."""
        try:
            return tool.run(words, timeout_s=timeout_s, cwd=self.folder, name="the driver of the accelerator")
        except ToolError as error:
            raise DeviceError(error.message, error.hint) from error

    def pull(self, name: str, place: Path) -> None:
        """As Device has it."""
        shutil.copyfile(self.folder / name, place)

    def facts(self) -> Mapping[str, Fact]:
        """As Device has it."""
        finished = tool.run(["/bin/sh", "-c", conditions.SCRIPT], timeout_s=60, cwd=self.folder)
        return {"model": platform.node(), "system": platform.system(), **conditions.read(finished.output)}


@contextmanager
def opened(address: str = "here") -> Iterator[Here]:
    """A folder here for the one build that has the accelerator; it is removed."""
    with held(address), tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        yield Here(Path(folder))
