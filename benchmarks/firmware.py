"""Firmware on emulated boards: what an inference takes by our kernels, by plain C and by CMSIS-NN.

Every count is exact and every output is held against TensorFlow Lite Micro's. EDGEQ_FIRMWARE_MODELS, a
list with commas, limits the models to those of firmware_models.NETWORKS that it names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.firmware_models import INTERPRETER, NETWORKS, Absent, Network
from benchmarks.measuring import Figure, scratch
from edgeq.arrays import Array
from edgeq.backends.firmware import Firmware
from edgeq.emulation import qemu
from edgeq.emulation.boards import BOARDS
from edgeq.errors import EdgeqError
from edgeq.firmware.building import SIZES
from edgeq.firmware.providers import Choice
from edgeq.graph import read
from edgeq.interpret import tflm_outputs
from edgeq.program import ELF, SHIP, STEPS, costs_in
from edgeq.quantization import MODEL

CORES = {"cortex-m4": "mps2-an386", "cortex-m55": "mps3-an547"}
KERNELS: tuple[Choice, ...] = ("auto", "portable", "cmsis-nn")
RATIOS = {"cortex-m4": 0.7, "cortex-m55": 0.8}  # of the interpreter's instructions
ARENA = 1.05  # of the largest sum of tensors that live at the same time
BUILD_S, RUN_S = 5.0, 1.0  # for TIMED
TIMED = "vww"
RUNS, SAMPLES = 3, 2
SHOWN = 5  # operators
PLAN = re.compile(r"arena (\d+) bytes; tensors alone need (\d+)")


@dataclass(frozen=True)
class Row:
    """What one build of a model took; `different` are the outputs that are not TFLM's."""

    model: str
    core: str
    kernels: str
    instructions: int
    memory: Mapping[str, float]
    arena: tuple[int, int]
    seconds: tuple[float, float]
    different: int
    steps: tuple[tuple[str, int], ...]

    @property
    def ratio(self) -> float | None:
        """Instructions over the interpreter's, where those were measured."""
        millions = NETWORKS[self.model].millions.get(self.core)
        return self.instructions / millions / 1e6 if millions else None

    @property
    def most(self) -> str:
        """The operators that most of them go to, each with its share."""
        shares = ((name, 100 * count / self.instructions) for name, count in self.steps[:SHOWN])
        return ", ".join(f"{name} {share:.0f} %" for name, share in shares)

    @property
    def named(self) -> str:
        """The model on its core."""
        return f"{self.model} on {self.core}"


def figures() -> Iterator[Figure]:
    """Build and run all of them, print the table, and give the figures that have limits."""
    asked = [name for name in os.environ.get("EDGEQ_FIRMWARE_MODELS", "").split(",") if name]
    if unknown := [name for name in asked if name not in NETWORKS]:
        raise SystemExit(f"EDGEQ_FIRMWARE_MODELS: unknown {unknown[0]}; known: {', '.join(NETWORKS)}")
    rows: list[Row] = []
    with scratch() as folder:
        try:
            for name in asked or NETWORKS:
                rows += _rows(folder / name, name)
        finally:  # all that was measured is shown, whatever stopped the rest
            _show(rows)
    for row in rows:
        if row.kernels == "auto":
            yield from _figures(row, NETWORKS[row.model], _by_cmsis_nn(rows, row))
    yield Figure("outputs that are not TFLM's", sum(row.different for row in rows),
                 f"{len(rows)} builds, {SAMPLES} random inputs each", at_most=0)


def _rows(folder: Path, name: str) -> Iterator[Row]:
    """The rows of a model; those that cannot be had are said to be left out."""
    try:
        content = NETWORKS[name].content()
    except Absent as absent:
        sys.stdout.write(f"{name} is left out: {absent}\n")
        return
    folder.mkdir()
    (folder / MODEL).write_bytes(content)
    inputs = _inputs(folder / MODEL)
    wanted, _ = tflm_outputs(folder / MODEL, inputs)
    for core in CORES:
        for kernels in KERNELS:
            try:
                yield _row(folder, (name, core, kernels), inputs, wanted)
            except EdgeqError as error:
                sys.stdout.write(f"{name} on {core} by {kernels} is left out: {error}; {error.hint}\n")


def _inputs(model: Path) -> Array:
    graph = read(model)
    source = graph.tensors[graph.inputs[0]]
    return np.random.default_rng(0).integers(-128, 127, (SAMPLES, *source.shape), np.int8, endpoint=True)


def _row(folder: Path, build: tuple[str, str, Choice], inputs: Array, wanted: Array) -> Row:
    """One build, run on `inputs`; times are the least of some, and that of a run is of its first sample."""
    name, core, kernels = build
    out = folder / f"{core}-{kernels}"
    backend = Firmware(core, CORES[core], "2MiB", "2MiB", kernels=kernels, model=name)
    timed = RUNS if (name, kernels) == (TIMED, "auto") else 1
    built = min(_seconds(lambda: _built(backend, out, folder)) for _ in range(timed))
    ran = min(_seconds(lambda: _emulated(out, core, inputs[:1], wanted[:1])) for _ in range(timed))
    emulated = _emulated(out, core, inputs, wanted)
    counts = emulated.counts
    assert counts is not None
    steps = json.loads((out / STEPS).read_text(encoding="utf-8"))
    named = ((f"{step['operator']} {step['name']}", count.instructions // len(inputs))
             for step, count in zip(steps, counts.steps, strict=True))
    differing = np.frombuffer(emulated.outputs, wanted.dtype).reshape(wanted.shape) != wanted
    return Row(*build, max(sample.instructions for sample in counts.samples),
               _memory(out) | {"stack": emulated.stack_bytes}, _arena(out, name),
               (built, ran), int(differing.sum()),
               tuple(sorted(named, key=lambda each: -each[1])))


def _built(backend: Firmware, out: Path, quantized: Path) -> None:
    """Build into the folder `out`, anew."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    backend.compile(out, quantized)


def _seconds(work: Callable[[], object]) -> float:
    """The wall time that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _emulated(out: Path, core: str, inputs: Array, wanted: Array) -> qemu.Emulated:
    emulation = qemu.Emulation(BOARDS[CORES[core]], inputs[0].nbytes, wanted[0].nbytes, 600.0, "instructions")
    return qemu.run(out / SHIP / ELF, inputs.tobytes(), emulation)


def _memory(out: Path) -> dict[str, float]:
    """The bytes of flash, and of RAM without the room that the stack is given."""
    sections = json.loads((out / SHIP / SIZES).read_text(encoding="utf-8"))
    costs = costs_in(out)
    flash, ram = (costs[metric].value or 0.0 for metric in ("flash_bytes", "ram_bytes"))
    return {"flash": flash, "ram": ram - sections.get(".stack", 0)}


def _arena(out: Path, name: str) -> tuple[int, int]:
    """The arena's size, and the bound below which it cannot be."""
    text = (out / SHIP / "firmware/plan.txt").read_text(encoding="utf-8")
    found = PLAN.search(text)
    if found is None:
        raise ValueError(f"the plan of {name} does not begin with its size")
    return int(found[1]), int(found[2])


def _by_cmsis_nn(rows: Sequence[Row], ours: Row) -> Row | None:
    """The same model on the same core by CMSIS-NN's kernels."""
    found = (row for row in rows if (row.model, row.core, row.kernels) == (ours.model, ours.core, "cmsis-nn"))
    return next(found, None)


def _figures(row: Row, network: Network, theirs: Row | None) -> Iterator[Figure]:
    if row.ratio is not None:
        yield Figure(f"instructions / the interpreter's, {row.named}", row.ratio,
                     f"{row.instructions / 1e6:.3f} M / {network.millions[row.core]} M; {row.most}",
                     at_most=RATIOS[row.core])
    elif theirs is not None:
        yield Figure(f"instructions / the same program with CMSIS-NN, {row.named}",
                     row.instructions / theirs.instructions,
                     f"{row.instructions / 1e6:.3f} M / {theirs.instructions / 1e6:.3f} M; {row.most}",
                     at_most=RATIOS[row.core])
    yield Figure(f"arena / live tensors, {row.named}", row.arena[0] / row.arena[1],
                 f"{row.arena[0]} / {row.arena[1]} bytes", at_most=ARENA)
    if network.flash_kb is not None and network.ram_kb is not None:
        for what, limit in (("flash", network.flash_kb * network.flash_share), ("ram", network.ram_kb)):
            yield Figure(f"{what} (KB), {row.named}", row.memory[what] / 1000,
                         "the test firmware, its stack apart; the limit is by the interpreter's on cortex-m4",
                         at_most=limit)
    if row.model == TIMED:
        yield Figure(f"seconds to generate and build, {row.named}", row.seconds[0],
                     "with the host build and TFLM's golden vectors", at_most=BUILD_S)
        yield Figure(f"seconds of an emulated inference, {row.named}", row.seconds[1],
                     "the emulator's start and counting included", at_most=RUN_S)


def _show(rows: Sequence[Row]) -> None:
    """The table of all rows."""
    table = Table("model", "core", "kernels", "M instructions", "/ interpreter", "flash KB", "RAM KB",
                  "stack B", "arena / tensors", "build s", "run s", "differing", "most of it",
                  header_style="bold", title=f"The interpreter is {INTERPRETER}")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        table.add_row(row.model, row.core, row.kernels, f"{row.instructions / 1e6:.3f}", ratio,
                      *(f"{row.memory[what] / 1000:.1f}" for what in ("flash", "ram")),
                      str(row.memory["stack"]), f"{row.arena[0] / row.arena[1]:.3f}",
                      *(f"{seconds:.2f}" for seconds in row.seconds), str(row.different), row.most)
    Console(width=190).print(table)
