"""The equality chain: every operator of a model by all that computes it, compared link by link.

    LiteRT's reference kernels -> TensorFlow Lite Micro -> the host build -> the firmware -> the device

A device that is attached tells its output alone. Each link feeds its own outputs on, so that a
difference is told where it arises first; what follows it may be its consequence. The firmware's links
must be equal bit for bit. LiteRT's need not: its FULLY_CONNECTED rounds once where TensorFlow Lite
Micro rounds twice.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from edgeq.arrays import Array
from edgeq.emulation import qemu
from edgeq.emulation.boards import BOARDS
from edgeq.firmware.hosted import hosted
from edgeq.graph import ALIASES, Graph, read
from edgeq.interpret import on_grid
from edgeq.program import ELF, HOST, SHIP
from edgeq.quantization import MODEL
from edgeq.runners.serial import Serial
from edgeq.samples import samples_in
from edgeq.tracing import HEAD, Trace, litert_trace, tflm_trace, written_trace

SAMPLES = 10
FILE = "parity.json"
LITERT, TFLM = "LiteRT", "TFLM"


@dataclass(frozen=True)
class Compared:
    """One operator at one link: how far its output is from the one before (LSB), and in how many samples."""

    index: int
    name: str
    lsb: int
    samples: int


@dataclass(frozen=True)
class Link:
    """What computes the model, and each operator beside what `before` made of it."""

    name: str
    before: str
    operators: tuple[Compared, ...]

    @property
    def first(self) -> Compared | None:
        """The first operator that differs."""
        return next((each for each in self.operators if each.lsb), None)


@dataclass(frozen=True)
class Chain:
    """The links, and of how many samples they were made."""

    samples: int
    links: tuple[Link, ...]

    @property
    def exact(self) -> bool:
        """Whether all that should be equal bit for bit is."""
        return all(link.first is None for link in self.links if link.before != LITERT)


@dataclass(frozen=True)
class Given:
    """A model that is quantized already."""

    def quantize(self, out: Path, source: Path) -> None:
        """Write it as `out/model.tflite`."""
        shutil.copyfile(source, out / MODEL)


@dataclass(frozen=True)
class Parity:
    """Compares `samples` samples; on `board`, where there is a firmware, and on an attached `device`."""

    packages: ClassVar = ("ai-edge-litert", "tflite-micro")
    native: ClassVar = True
    samples: int = SAMPLES
    board: str = ""
    device: Serial | None = None

    @property
    def live(self) -> bool:
        """Whether a device is asked, anew each time."""
        return self.device is not None

    def look(self, out: Path, quantized: Path, program: Path | None, samples: Path | None) -> None:
        """Write parity.json; ToolError where a firmware hangs or faults."""
        model = quantized / MODEL
        given = self._given(read(model), samples)
        traces = {LITERT: litert_trace(model, given), TFLM: tflm_trace(model, given)}
        if program:
            traces |= self._of_program(program, read(model), given)
        if program and self.device:
            traces[f"device at {self.device.address}"] = _of_device(self.device, program, read(model), given)
        names = [*traces]
        links = [Link(after, before, tuple(_compared(read(model), traces[before], traces[after])))
                 for before, after in itertools.pairwise(names)]
        found = Chain(len(given), tuple(links))
        (out / FILE).write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")

    def _given(self, graph: Graph, samples: Path | None) -> Array:
        if samples:
            return on_grid(graph, samples_in(samples)[: self.samples])
        source, chance = graph.tensors[graph.inputs[0]], np.random.default_rng(0)
        kind, shape = np.dtype(source.dtype.lower()), (self.samples, *source.shape)
        if kind.kind == "f":
            return chance.normal(size=shape).astype(kind)
        bounds = np.iinfo(kind)
        return chance.integers(bounds.min, bounds.max, shape, kind, endpoint=True)

    def _of_program(self, program: Path, graph: Graph, given: Array) -> dict[str, Trace]:
        """What the host build and the firmware, both built to tell, make of `given`."""
        written = [i for operator in graph.operators for i in operator.outputs]
        emulation = qemu.Emulation(
            BOARDS[self.board], given[0].nbytes, _bytes(graph, graph.outputs[0]),
            trace_bytes=sum(_bytes(graph, tensor) + HEAD.size for tensor in written))
        content = given.tobytes()
        told = {"host build": hosted(program / HOST / HOST, content, traced=True).trace,
                f"firmware on {self.board}": qemu.run(program / SHIP / ELF, content, emulation).trace}
        return {name: written_trace(graph, len(given), trace) for name, trace in told.items()}


def _of_device(device: Serial, program: Path, graph: Graph, given: Array) -> Trace:
    """The outputs that an attached device gives."""
    writers, place = graph.producers(), graph.outputs[0]
    while (writer := writers.get(place)) and writer.name in ALIASES:
        place = writer.inputs[0]  # what the firmware tells of it
    sink = graph.tensors[place]
    answers = device.answers(program, given, _bytes(graph, place))
    outputs = np.frombuffer(b"".join(answer.output for answer in answers), np.dtype(sink.dtype.lower()))
    return {sink.index: outputs.reshape(len(given), *sink.shape)}


def is_quantized(model: Path) -> bool:
    """Whether the activations of the .tflite at `model` are integers."""
    return any(tensor.quantization for tensor in read(model).activations())


def read_chain(folder: Path) -> Chain:
    """What `Parity.look` wrote into `folder`."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=Chain)


def _bytes(graph: Graph, tensor: int) -> int:
    found = graph.tensors[tensor]
    return found.elements * np.dtype(found.dtype.lower()).itemsize


def _compared(graph: Graph, before: Trace, after: Trace) -> Iterator[Compared]:
    """Each operator of which both have the output."""
    for operator in graph.operators:
        known = [tensor for tensor in operator.outputs if tensor in before and tensor in after]
        if known:
            apart = [np.abs(before[i].astype(np.float64) - after[i].astype(np.float64)) for i in known]
            samples = np.any([each.reshape(len(each), -1).any(1) for each in apart], axis=0)
            yield Compared(operator.index, operator.name, int(np.ceil(max(each.max() for each in apart))),
                           int(samples.sum()))
