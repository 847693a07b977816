"""Runners: where a program runs, on this machine, in an emulator or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgeq.runners.adb import Adb
from edgeq.runners.edgetpu import EdgeTpu
from edgeq.runners.executorch import Executorch
from edgeq.runners.host import Host
from edgeq.runners.qemu_aarch64 import QemuAarch64
from edgeq.runners.qemu_cortex_m import QemuCortexM
from edgeq.runners.serial import Serial
from edgeq.runners.ssh import Ssh
from edgeq.runners.tflm import Tflm


class Runner(Protocol):
    """A frozen dataclass; its fields are what a target.yaml may set."""

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write `out/outputs.npy` (n, *shape), float32, and `out/costs.json`.

        Raises Refused where the runner has no way to run an operator of the program.
        """


REFERENCES: Mapping[str, Runner] = {  # what runs the baseline of a format on this machine
    "tflite": Host(),
    "executorch": Executorch(),
}

RUNNERS: Mapping[str, type[Runner]] = {
    "adb": Adb,
    "edgetpu": EdgeTpu,
    "executorch": Executorch,
    "host": Host,
    "qemu-aarch64": QemuAarch64,
    "qemu-cortex-m": QemuCortexM,
    "serial": Serial,
    "ssh": Ssh,
    "tflm": Tflm,
}
