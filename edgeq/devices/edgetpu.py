"""An Edge TPU, on this machine or on a board: a model run on it, and what is missing where it cannot be.

The one rule: «no library», «no device» and «no permission» are three errors, each with what to do.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeq import tool
from edgeq.devices import edgetpu_script
from edgeq.devices.device import Device, full
from edgeq.devices.here import Here
from edgeq.errors import DeviceError, EdgeqError, Refused, ToolError

SCRIPT = Path(edgetpu_script.__file__)
MODEL, IN, OUT, TOLD, REQUEST = "model.tflite", "in.bin", "out.bin", "told.json", "request.json"
UDEV_USB = ("its udev rule is in the package libedgetpu1-std: install that, join the group plugdev, plug the "
            "accelerator in again, and log in again")
UDEV_PCI = ('write SUBSYSTEM=="apex", MODE="0660", GROUP="apex" into /etc/udev/rules.d/65-apex.rules, add '
            "the group apex and join it, and start the machine again (https://coral.ai/docs/m2/get-started)")
LIBRARY = ("install libedgetpu1-std of Google's archive (https://coral.ai/docs/accelerator/get-started), "
           "or name the file as `library:`, or as EDGETPU_LIBRARY")
ATLAS = ("the pycoral that is installed there is not Google's but that of PyPI, a client of an atlas of "
         "corals; pip uninstall pycoral, and ")
PLUGGED = ("plug it in; one at USB must be seen by `lsusb` as 1a6e:089a or 18d1:9302, one at PCIe or M.2 as "
           "/dev/apex_0")
RUNTIMES = "pip install ai-edge-litert (from Python 3.10 on), or tflite-runtime for an older Python"

# What the script may tell -> the error, with where it is and what was seen, and what to do.
FAULTS: Mapping[str, tuple[type[EdgeqError], str, str]] = {
    "library": (DeviceError, "no library for the Edge TPU on {}: {}", LIBRARY),
    "unloadable": (DeviceError, "the library of the Edge TPU on {} cannot be loaded: {}",
                   "it is of another architecture, or wants libusb-1.0-0"),
    "device": (DeviceError, "no Edge TPU is attached to {}: none is in {}", PLUGGED),
    "driver": (DeviceError, "an Edge TPU is at the PCIe bus of {}, and has no driver",
               "install gasket-dkms, and start it again (https://coral.ai/docs/m2/get-started)"),
    "broken": (DeviceError, "the interpreter of {} does not load: {}", RUNTIMES),
    "delegate": (DeviceError, "the Edge TPU of {} does not start: {}",
                 "see that no other process has it, and plug it in again"),
    "model": (Refused, "the Edge TPU of {} does not take the model: {}", "compile it for this device"),
    "run": (DeviceError, "an inference on the Edge TPU of {} failed: {}", "plug it in again"),
    "sizes": (ToolError, "the samples for {} do not fit: {}", "build again"),
}


@dataclass(frozen=True)
class Wanted:
    """What the script is asked for: see edgetpu_script.py.

    `root` is where /sys and /dev lie, `library` that of the Edge TPU; both empty or `/` but for tests and
    odd systems. `kind` is `usb` or `pci` where only such a one will do; `python` is a board's. Without a
    `model` the script looks what is there, and no more.
    """

    input_bytes: int
    model: str = MODEL
    warm_up: int = 5
    kind: str = ""
    library: str = ""
    root: str = "/"
    python: str = "python3"


@dataclass(frozen=True)
class Told:
    """What a run left: the outputs, microseconds, and what the accelerator and its software are.

    `before` and `after` have its temperature and the one from which it slows down, where it tells them.
    """

    outputs: bytes
    load_us: float
    first_us: float
    times_us: tuple[float, ...]
    device: str
    runtime: str
    interpreter: str
    impostor: bool
    before: Mapping[str, float]
    after: Mapping[str, float]


def inferred(device: Device, model: Path, given: bytes, wanted: Wanted, timeout_s: float) -> Told:
    """What the Edge TPU of `device` makes of the samples `given` by the compiled `model`.

    Raises DeviceError for whatever is missing there, or crashes; Refused where the model does not fit it.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / IN).write_bytes(given)
        _run(device, {MODEL: model, IN: work / IN}, wanted, timeout_s)
        for name in (OUT, TOLD):
            device.pull(name, work / name)
        told = json.loads((work / TOLD).read_text(encoding="utf-8"))
        return Told((work / OUT).read_bytes(), **{**told, "times_us": tuple(told["times_us"])})


def see(device: Device, wanted: Wanted, timeout_s: float) -> None:
    """See that library and accelerator are at `device`; DeviceError for whatever is missing there."""
    _run(device, {}, replace(wanted, model=""), timeout_s)


def failed(where: str, finished: tool.Finished) -> EdgeqError:
    """What it means that the script ended as it did on the device called `where`."""
    line = next((line for line in finished.output.splitlines()
                 if line.startswith(edgetpu_script.FAULT)), "")
    if line:
        return fault(where, json.loads(line.removeprefix(edgetpu_script.FAULT)))
    if finished.status == 127:
        return DeviceError(f"{where} has no such Python",
                           "name one, with the runtime of the Edge TPU, as `python:` in target.yaml")
    if finished.status > 128:
        return DeviceError(f"the driver of the Edge TPU on {where} {tool.died_of(finished.status - 128)}",
                           f"see that its library fits the interpreter; {tool.tail(finished.output)}")
    return full(where, finished.output) or DeviceError(
        f"the run on the Edge TPU of {where} ended with status {finished.status}", tool.tail(finished.output))


def fault(where: str, said: Mapping[str, Any]) -> EdgeqError:
    """The error for a fault that the script told."""
    kind, detail = said["kind"], said["detail"]
    if kind == "permission":
        return DeviceError(f"no permission for the Edge TPU of {where}: {detail} may not be read and written",
                           UDEV_PCI if "apex" in detail else UDEV_USB)
    if kind == "interpreter":
        imposed = detail == "impostor"
        return DeviceError(f"{where} has no interpreter of TensorFlow Lite for its Python",
                           f"{ATLAS if imposed else ''}{RUNTIMES}")
    if kind == "model" and "edgetpu-custom-op" in detail:
        detail = f"the delegate did not take the compiled operator: {detail}"
    if "requires runtime version" in detail:
        return DeviceError(f"the library of the Edge TPU on {where} is too old for the model: {detail}",
                           "install the newest libedgetpu there, or compile with --min_runtime_version")
    made, message, hint = FAULTS[kind]
    return made(message.format(where, detail), hint)


def _run(device: Device, files: Mapping[str, Path], wanted: Wanted, timeout_s: float) -> None:
    """Let the script do what is `wanted` with the `files`; raises as `failed` has it."""
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder) / REQUEST
        request.write_text(json.dumps(asdict(wanted)), encoding="utf-8")
        device.push({SCRIPT.name: SCRIPT, REQUEST: request, **files})
    python = sys.executable if isinstance(device, Here) else wanted.python
    finished = device.run([python, SCRIPT.name], timeout_s)
    if finished.status:
        raise failed(device.name, finished)
