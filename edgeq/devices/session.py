"""A run on an attached machine: model, samples and program over, outputs and times back.

The one rule: the machine must be of the kind that the program was made for; that is asked before
anything is sent.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeq.devices.device import Device, full
from edgeq.errors import DeviceError
from edgeq.linux import kit as kits
from edgeq.linux.kit import Kit, Left, Request
from edgeq.marks import inferring

ABI = "aarch64"


@dataclass(frozen=True)
class Task:
    """The program of `kit` is to run `model` on the samples `given` (bytes, no gaps) as `request` says."""

    kit: Kit
    model: Path
    given: bytes
    request: Request


def ran(device: Device, task: Task, timeout_s: float) -> Left:
    """What `device` makes of `task`.

    Raises DeviceError where the device is of another architecture, full, gone, or garbles what it is sent;
    what the program itself complains of as `kit.failed` says.
    """
    see_architecture(device)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / kits.IN).write_bytes(task.given)
        device.push({**task.kit.files, task.request.model: task.model, kits.IN: work / kits.IN})
        with inferring():
            finished = device.run(kits.words(task.request), timeout_s)
        if finished.status:
            raise full(device.name, finished.output) or kits.failed(
                finished.status, finished.output, task.request)
        for name in (kits.OUT, kits.TOLD):
            device.pull(name, work / name)
        return kits.left(work, task.request, len(task.given) // task.request.input_bytes)


def see_architecture(device: Device) -> None:
    """See that `device` runs programs for 64-bit Arm."""
    found = device.facts().get("abi", "unknown")
    if found != ABI:
        raise DeviceError(f"{device.name} is of another architecture: {found}, and the program is for {ABI}",
                          "attach a device with a 64-bit Arm system (arm64-v8a)")
