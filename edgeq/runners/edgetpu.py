"""An Edge TPU itself: at this machine (USB, PCIe, M.2), or at a board over ssh.

The one rule: only what the compiler made runs there; a model that is not compiled would run beside it, on
the CPU, and is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.arrays import Floats
from edgeq.devices import edgetpu, here, ssh
from edgeq.devices.device import Device
from edgeq.devices.edgetpu import Told, Wanted, inferred
from edgeq.devices.record import Record
from edgeq.errors import ToolError
from edgeq.graph import Graph, read
from edgeq.interpret import from_grid, on_grid
from edgeq.program import OUTPUTS, SHIP, mark_measured, notice_in, write_costs
from edgeq.quantization import note
from edgeq.samples import samples_in

COMPILED = "*_edgetpu.tflite"
HERE = ("", "usb", "pci")
ATLAS = ("the package pycoral that is installed is not Google's but a client of an atlas of corals: it was "
         "not used")


@dataclass(frozen=True)
class EdgeTpu:
    """The accelerator at `address`: user@host[:port] of a board, `usb` or `pci` of this machine, or any here.

    `library` is libedgetpu.so.1, else $EDGETPU_LIBRARY, else where the system finds it; `python` a board's
    Python with TensorFlow Lite in it; `root` is where /sys and /dev lie. The rest is as of the runner `ssh`.
    """

    packages: ClassVar = ("ai-edge-litert",)
    live: ClassVar = True
    address: str = ""
    identity: str = ""
    known_hosts: str = ""
    folder: str = ""
    python: str = "python3"
    library: str = ""
    root: str = "/"
    warm_up: int = 5
    timeout_s: float = 600.0

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`, and the time of an inference.

        Raises DeviceError for what is missing at the device, ToolError where the program is not compiled.
        """
        if notice := notice_in(program):
            with self._opened() as device:  # what is missing there is missing for a compiled one, too
                edgetpu.see(device, self._wanted(0), self.timeout_s)
            raise ToolError("the program is not compiled: nothing of it would run on the Edge TPU", notice)
        model = next((program / SHIP).glob(COMPILED))
        graph = read(model)
        given = on_grid(graph, samples_in(samples))
        wanted = self._wanted(given[0].nbytes)
        with self._opened() as device:
            told = inferred(device, model, given.tobytes(), wanted, self.timeout_s)
            mark_measured(out, f"the Edge TPU of {device.name}")
        record = Record(told.before, told.after, told.times_us, told.load_us, told.first_us,
                        unfit=throttled(told), address=f"{device.name}'s Edge TPU")
        np.save(out / OUTPUTS, _outputs(graph, told, len(given)), allow_pickle=False)
        write_costs(out, record.costs())
        where = f"the Edge TPU at {told.device} of {device.name}, by {told.interpreter}"
        note(out, f"{where}, its parameters sent with the first inference: {record.sentence()}",
             *([ATLAS] if told.impostor else []))
        record.write(out, device=told.device, runtime=told.runtime, interpreter=told.interpreter)

    def _wanted(self, input_bytes: int) -> Wanted:
        here = self.address in HERE
        library = self.library or (os.environ.get("EDGETPU_LIBRARY", "") if here else "")
        return Wanted(input_bytes, warm_up=self.warm_up, kind=self.address if here else "", library=library,
                      root=self.root, python=self.python)

    @contextmanager
    def _opened(self) -> Iterator[Device]:
        if self.address not in HERE:
            login = ssh.Login(self.address, self.identity, self.known_hosts, self.folder)
            with ssh.opened(login) as board:
                yield board
        else:
            with here.opened("edgetpu") as machine:
                yield machine


def throttled(told: Told) -> str:
    """Why the times count for nothing: it was as warm as it slows down at; empty where it was not."""
    for facts, when in ((told.before, "before"), (told.after, "after")):
        warm, limit = facts.get("temperature_c"), facts.get("slows_down_c")
        if warm is not None and limit is not None and warm >= limit:
            return f"it was throttled {when} the run ({warm:.0f} °C; it slows down at {limit:.0f} °C)"
    return ""


def _outputs(graph: Graph, told: Told, count: int) -> Floats:
    end = graph.tensors[graph.outputs[0]]
    made = np.frombuffer(told.outputs, end.dtype.lower()).reshape(count, *end.shape[1:])
    return from_grid(graph, made)
