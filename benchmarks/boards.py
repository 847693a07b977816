"""Estimated time and energy against what others measured: CMSIS-NN on boards, from MLPerf Tiny v1.0.

The published figures are in boards.csv, each with its source; $EDGEQ_BENCH has the networks. What comes from
a board (a factor, its power) is taken from its other three networks where the fourth is predicted. Rows of
other programs on these boards (X-CUBE-AI, Plumerai, microTVM's own kernels, the interpreter of v0.5) run
other instructions than ours, and are left out.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.firmware_models import NETWORKS, Absent
from benchmarks.measuring import ROOT, Figure, scratch
from edgeq.backends.firmware import Firmware
from edgeq.emulation import qemu
from edgeq.emulation.boards import BOARDS
from edgeq.emulation.timing import Events, Flash, pace_of
from edgeq.estimation import energy, hertz, latency
from edgeq.graph import read
from edgeq.program import ELF, SHIP
from edgeq.quantization import MODEL
from edgeq.runners.qemu_cortex_m import QemuCortexM
from edgeq.target import find

PUBLISHED = Path(__file__).with_suffix(".csv")
MODELS = ("kws", "vww", "ic", "ad")
CHECKED, AT_MOST = "nucleo-l4r5zi", 25.0  # %
# The nRF5340 has the core of this target at 128 MHz; it has none of its own.
RELATED, RELATED_TARGET, RELATED_CLOCK = "nrf5340-dk", "cortex-m33", 128e6
SEEN = 0.01  # of the cycles, to be named
Errors = dict[str, list[float]]


@dataclass(frozen=True)
class Measured:
    """What was published of a network on a board: time (ms), energy (uJ) where there is one, and where."""

    time: float
    energy: float | None
    source: str

    @property
    def power_mw(self) -> float:
        """What the board took meanwhile."""
        return (self.energy or 0.0) / self.time


def figures() -> Iterator[Figure]:
    """Build and run them, print what was predicted beside what was measured, and the errors' medians."""
    target = find(ROOT, CHECKED)
    assert isinstance(target.backend, Firmware)
    assert isinstance(target.runner, QemuCortexM)
    related = find(ROOT, RELATED_TARGET).backend
    assert isinstance(related, Firmware)
    flash = pace_of(target.runner.timing, target.runner.flash).flash
    with scratch() as folder:
        try:
            theirs = _events(folder / "theirs", replace(target.backend, kernels="cmsis-nn"), flash)
            ours = _events(folder / "ours", target.backend, flash)
            others = _events(folder / "others", replace(related, kernels="cmsis-nn"))
        except Absent as absent:
            sys.stdout.write(f"boards is left out: {absent}\n")
            return
    errors = _checked(target.runner, theirs, published(CHECKED))
    _related(others, published(RELATED))
    _own(target.runner, ours, theirs)
    for what, percents in errors.items():
        made_of = ", ".join(f"{name} {error:+.1f} %" for name, error in zip(MODELS, percents, strict=True))
        yield Figure(f"median error (%) of {what}, {CHECKED}", _median(percents), made_of, at_most=AT_MOST)
        yield Figure(f"worst error (%) of {what}, {CHECKED}", _worst(percents), made_of, at_most=AT_MOST)


def published(board: str) -> dict[str, Measured]:
    """What was measured on `board`, by network."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return {row["model"]: Measured(1000 / float(row["inferences_per_s"]),
                                       float(row["uj_per_inference"]) if row["uj_per_inference"] else None,
                                       f"{row['source']} ({row['commit']})")
                for row in csv.DictReader(file) if row["target"] == board}


def without(name: str, figures: Mapping[str, float]) -> float:
    """The mean of the figures of all networks but `name`."""
    return statistics.fmean(figure for other, figure in figures.items() if other != name)


def _events(folder: Path, backend: Firmware, flash: Flash | None = None) -> dict[str, Events]:
    """What each network does on the emulated board."""
    found = {}
    for name in MODELS:
        place = folder / name
        (place / "built").mkdir(parents=True)
        (place / MODEL).write_bytes(NETWORKS[name].content())
        replace(backend, model=name).compile(place / "built", place)
        graph = read(place / MODEL)
        source, sink = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
        given = np.random.default_rng(0).integers(-128, 127, source.shape, np.int8, endpoint=True)
        emulation = qemu.Emulation(BOARDS[backend.board], given.nbytes, int(np.prod(sink.shape)), 600.0,
                                   "events", flash=flash)
        counted = qemu.run(place / "built" / SHIP / ELF, given.tobytes(), emulation).events
        assert counted is not None
        found[name] = counted.samples[0]
    return found


def _checked(runner: QemuCortexM, events: Mapping[str, Events], wanted: Mapping[str, Measured]) -> Errors:
    """The table of CHECKED, and the errors (%) of time and energy by each way to predict."""
    pace, clock = pace_of(runner.timing, runner.flash), hertz(runner.clock)
    cycles = {name: pace.cycles(each) for name, each in events.items()}
    measured = {name: each.time * clock / 1000 for name, each in wanted.items()}
    power = {name: each.power_mw for name, each in wanted.items()}
    shares = {name: measured[name] / cycles[name] for name in MODELS}
    each_instruction = {name: measured[name] / events[name].instructions for name in MODELS}
    ways = {"nothing fitted": cycles,
            "one factor": {name: cycles[name] * without(name, shares) for name in MODELS},
            "cycles an instruction": {
                name: events[name].instructions * without(name, each_instruction) for name in MODELS}}
    errors: Errors = {}
    table = _table(f"{CHECKED}, our program with CMSIS-NN, against microTVM with CMSIS-NN",
                   "way", "model", "M instructions", "M cycles", "predicted ms", "measured ms", "error %",
                   "predicted uJ", "measured uJ", "error %")
    for way, taken in ways.items():
        for name in MODELS:
            time = latency(taken[name], clock, way)
            spent = energy(time, without(name, power), "the board's other networks")
            off = _percent(time.value, wanted[name].time), _percent(spent.value, wanted[name].energy)
            for what, error in zip(("time", "energy"), off, strict=True):
                errors.setdefault(f"{what}, {way}", []).append(error)
            table.add_row(way, name, f"{events[name].instructions / 1e6:.3f}", f"{taken[name] / 1e6:.3f}",
                          f"{time.value:.2f}", f"{wanted[name].time:.2f}", f"{off[0]:+.1f}",
                          f"{spent.value:.0f}", f"{wanted[name].energy:.0f}", f"{off[1]:+.1f}")
    _print(table)
    return errors


def _related(events: Mapping[str, Events], wanted: Mapping[str, Measured]) -> None:
    """The table of RELATED: no manual tells the cycles of its core."""
    each = {name: wanted[name].time * RELATED_CLOCK / 1000 / events[name].instructions for name in MODELS}
    table = _table(f"{RELATED}, cycles an instruction from its other networks", "model", "M instructions",
                   "predicted ms", "measured ms", "error %")
    for name in MODELS:
        time = latency(events[name].instructions * without(name, each), RELATED_CLOCK, RELATED).value
        table.add_row(name, f"{events[name].instructions / 1e6:.3f}", f"{time:.2f}",
                      f"{wanted[name].time:.2f}", f"{_percent(time, wanted[name].time):+.1f}")
    _print(table)


def _own(runner: QemuCortexM, ours: Mapping[str, Events], theirs: Mapping[str, Events]) -> None:
    """The table of our own kernels: nobody measured them."""
    pace = pace_of(runner.timing, runner.flash)
    table = _table(f"{CHECKED}, our own kernels (estimated; nobody measured them on a board)", "model",
                   "M instructions", "M cycles", "a cycle goes to", "/ CMSIS-NN: instructions", "cycles")
    for name in MODELS:
        spent, total = pace.shares(ours[name]), pace.cycles(ours[name])
        told = ", ".join(f"{what} {share / total:.0%}" for what, share in spent.items()
                         if share > SEEN * total)
        table.add_row(name, f"{ours[name].instructions / 1e6:.3f}", f"{total / 1e6:.3f}", told,
                      f"{ours[name].instructions / theirs[name].instructions:.2f}",
                      f"{total / pace.cycles(theirs[name]):.2f}")
    _print(table)


def _percent(predicted: float | None, measured: float | None) -> float:
    assert predicted is not None
    assert measured is not None
    return 100 * (predicted / measured - 1)


def _median(percents: Sequence[float]) -> float:
    return statistics.median(map(abs, percents))


def _worst(percents: Sequence[float]) -> float:
    return max(map(abs, percents))


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, header_style="bold")


def _print(table: Table) -> None:
    Console(width=150).print(table)
