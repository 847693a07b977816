"""Run a compiled model on an Edge TPU: a script of its own, for this machine and for a board.

It is copied to where the accelerator is, and run there by whatever Python that has, from 3.7 on: so it is
written in no newer one, and imports nothing of edgeq. It reads request.json and in.bin beside it, and writes
out.bin and told.json.

The one rule: library, device and permission are looked for before anything is loaded, so that each of
them missing is told apart.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

LIBRARY = "libedgetpu.so.1"
USB = (("1a6e", "089a"), ("18d1", "9302"))  # before its firmware is loaded, and after
PCI = ("0x1ac1", "0x089a")
FAULT = "edgeq-fault "  # before a line of JSON with `kind` and `detail`
FAILED = 3
GOOGLES = "pycoral.utils.edgetpu"  # of a package whose name another one bears, too


class Found(NamedTuple):
    """An accelerator: `usb` or `pci`, where sysfs has it, and the device file that it is talked to by."""

    kind: str
    place: Path
    device: Path


class Fault(Exception):
    """What is missing or wrong, by a `kind` that the caller knows, and what was seen of it."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def probe(root: Path, library: str, kind: str = "") -> tuple[Any, Found]:
    """The library, loaded, and the accelerator (of that kind) below `root`/sys; Fault for what is missing."""
    loaded = _library(library)
    devices = [found for found in (*_usb(root), *_pcie(root)) if kind in ("", found.kind)]
    if not devices:
        raise Fault("driver" if _is_plugged_in(root) else "device", f"{root / 'sys'}")
    for found in devices:
        if os.access(str(found.device), os.R_OK | os.W_OK):
            return loaded, found
    raise Fault("permission", ", ".join(str(found.device) for found in devices))


def temperature(found: Found) -> dict[str, float]:
    """Its temperature and the one from which it slows down, in degrees C; nothing of one at USB.

    https://coral.ai/docs/pcie-parameters/
    """
    told = {}
    for name, file in (("temperature_c", "temp"), ("slows_down_c", "trip_point0_temp")):
        text = _text(found.place / file)
        if text.lstrip("-").isdigit():
            told[name] = int(text) / 1000
    return told


def main() -> int:
    """Do what request.json asks for, and tell how it went; the status is FAILED where it did not."""
    request = json.loads(Path("request.json").read_text())
    try:
        told = run(request)
    except Fault as fault:
        sys.stdout.write("\n" + FAULT + json.dumps({"kind": fault.kind, "detail": fault.detail}) + "\n")
        return FAILED
    Path("told.json").write_text(json.dumps(told))
    return 0


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run the samples of in.bin, and tell times in microseconds; Fault where that cannot be."""
    library, found = probe(Path(request["root"]), request["library"], request["kind"])
    if not request["model"]:
        return {}
    before, began = temperature(found), time.perf_counter()
    name, interpreter = _interpreter(request, found)
    told = {"load_us": _since(began), "before": before, **_inferences(interpreter, request)}
    return {**told, "after": temperature(found), "device": f"{found.kind} {found.device}",
            "runtime": _version(library), "interpreter": f"{name}, Python {sys.version.split()[0]}",
            "impostor": _is_impostor()}


def _inferences(interpreter: Any, request: dict[str, Any]) -> dict[str, Any]:
    """All samples, the first of them once more before: then the parameters are sent to the accelerator."""
    import numpy as np

    entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    samples = np.fromfile("in.bin", entry["dtype"]).reshape((-1, *entry["shape"]))
    wanted, size = request["input_bytes"], samples[0].nbytes
    if size != wanted:
        raise Fault("sizes", f"a sample has {wanted} bytes, and the model takes {size}")
    times: list[float] = []
    with Path("out.bin").open("wb") as file:
        for count, sample in enumerate([samples[0]] * (1 + request["warm_up"]) + list(samples)):
            interpreter.set_tensor(entry["index"], sample)
            began = time.perf_counter()
            _tried("run", interpreter.invoke)
            times.append(_since(began))
            if count > request["warm_up"]:
                file.write(interpreter.get_tensor(end["index"]).tobytes())
    return {"first_us": times[0], "times_us": times[1 + request["warm_up"]:]}


def _interpreter(request: dict[str, Any], found: Found) -> tuple[str, Any]:
    """Its name and an interpreter on the accelerator, ready: Google's pycoral, LiteRT, or tflite-runtime."""
    name, kind, delegate = _loaders()
    options = {"device": found.kind}
    loaded = _tried("delegate", lambda: delegate(request["library"] or LIBRARY, options))
    made = _tried("model", lambda: kind(model_path=request["model"], experimental_delegates=[loaded]))
    _tried("model", made.allocate_tensors)
    return name, made


def _loaders() -> tuple[str, Callable[..., Any], Callable[..., Any]]:
    """What runs models here: its name, its interpreter, and what loads a delegate for that."""
    names = ["ai_edge_litert", "tflite_runtime"]
    googles = _is_googles()
    for name in reversed(names) if googles else names:  # pycoral works on tflite-runtime
        try:
            module = importlib.import_module(f"{name}.interpreter")
        except ModuleNotFoundError as error:
            if error.name in (name, f"{name}.interpreter"):
                continue
            raise Fault("broken", f"{name}: {error}") from error
        except (ImportError, AttributeError, RuntimeError) as error:  # as with a numpy that is too new
            raise Fault("broken", f"{name}: {error}") from error
        told = f"{'pycoral with ' if googles and name == 'tflite_runtime' else ''}{name}"
        return told, module.Interpreter, module.load_delegate
    raise Fault("interpreter", "impostor" if _is_impostor() else f"Python {sys.version.split()[0]}")


def _tried(kind: str, action: Callable[[], Any]) -> Any:
    """What `action` gives; what the runtime has against it is a Fault of this kind."""
    try:
        return action()
    except (ValueError, RuntimeError, OSError) as error:
        raise Fault(kind, str(error).strip() or type(error).__name__) from error


def _is_googles() -> bool:
    try:
        return importlib.util.find_spec(GOOGLES) is not None
    except ImportError:
        return False


def _is_impostor() -> bool:
    """Whether the pycoral that is installed is that of PyPI: a client of an atlas of corals."""
    return importlib.util.find_spec("pycoral") is not None and not _is_googles()


def _library(library: str) -> Any:
    try:
        return ctypes.CDLL(library or LIBRARY)
    except OSError as error:
        missing = "No such file" in str(error) and (library or LIBRARY) in str(error)
        raise Fault("library" if missing else "unloadable", str(error)) from error


def _version(library: Any) -> str:
    """What the library says of itself; empty where it does not."""
    try:
        library.edgetpu_version.restype = ctypes.c_char_p
        return (library.edgetpu_version() or b"").decode("utf-8", "replace")
    except AttributeError:
        return ""


def _usb(root: Path) -> Iterator[Found]:
    for place in sorted((root / "sys/bus/usb/devices").glob("*")):
        if (_text(place / "idVendor"), _text(place / "idProduct")) in USB:
            bus, number = _text(place / "busnum"), _text(place / "devnum")
            yield Found("usb", place, root / f"dev/bus/usb/{bus.zfill(3)}/{number.zfill(3)}")


def _pcie(root: Path) -> Iterator[Found]:
    for place in sorted((root / "sys/class/apex").glob("apex_*")):
        yield Found("pci", place, root / "dev" / place.name)


def _is_plugged_in(root: Path) -> bool:
    """Whether one is at the PCIe bus, and only its driver is missing."""
    places = (root / "sys/bus/pci/devices").glob("*")
    return any((_text(place / "vendor"), _text(place / "device")) == PCI for place in places)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1e6


if __name__ == "__main__":
    sys.exit(main())
