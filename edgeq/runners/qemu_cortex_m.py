"""QEMU: the test firmware on an emulated Cortex-M board, every instruction counted.

The one rule: no output counts that is not the same, bit for bit, in every way that it was computed:
by TensorFlow Lite Micro and the host build on all samples, by the firmware on some of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.arrays import Array
from edgeq.decode import meant
from edgeq.emulation import qemu, rp2040js
from edgeq.emulation.boards import BOARDS
from edgeq.emulation.timing import Events, Pace, pace_of
from edgeq.errors import ConfigError, ToolError
from edgeq.estimation import energy, estimated, hertz, latency
from edgeq.graph import read
from edgeq.interpret import from_grid, on_grid
from edgeq.measurement import Value, rounded, unavailable, value_of
from edgeq.program import ELF, OUTPUTS, SHIP, STEPS, runnable_in, write_costs
from edgeq.quantization import DETAILS, note
from edgeq.runners.agreement import agreed, see_same, spread
from edgeq.samples import samples_in

EMULATION = "emulation.json"
HEAVIEST = 5  # operators that a note names
WAITS, NOTEWORTHY = "flash, for instructions", 0.2  # of the cycles
NO_FIGURE = "no public figure says how many cycles an instruction takes on this core"
NO_POWER = "there is no published figure of what this device takes while it computes"
Paced = tuple[Pace, qemu.Counts[Events]]


@dataclass(frozen=True)
class QemuCortexM:
    """`board` is QEMU's machine; so many `samples`, spread over all, run on it.

    Time is cycles / `clock`, energy that time at `power_mw`, which `power_source` published: both are
    estimates. The cycles of the longest of the samples are told by `timing`, a core of TIMINGS, and the waits
    of the `flash` (see Flash); for a core of which no manual tells them they are `cycles_per_instruction`.
    `basis` says where that is from, or how near the former came. Where rp2040js is the `cycle_model`, and is
    installed, it counts the cycles of a sample: then time is simulated.
    """

    packages: ClassVar = ("ai-edge-litert", "tflite-micro")
    board: str
    clock: float | str
    timing: str = ""
    flash: Mapping[str, int] = field(default_factory=dict)
    cycles_per_instruction: float | None = None
    basis: str = ""
    power_mw: float | None = None
    power_source: str = ""
    cycle_model: Literal["", "rp2040js"] = ""
    samples: int = 100
    timeout_s: float = 600.0

    def tools(self) -> tuple[Path, ...]:
        """QEMU, and rp2040js where it is used and there; ToolError where QEMU is missing."""
        model = self._cycle_model()
        return (qemu.program(), *((model.node, model.module) if model else ()))

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`, instructions, and what goes to which operator.

        Raises ToolError where the firmware hangs, faults, or computes anything else than the others.
        """
        graph = read(runnable_in(program))
        given = on_grid(graph, samples_in(samples))
        outputs, seen_by_tflm = agreed(program, given)
        chosen = spread(len(given), self.samples)
        emulated = self._emulated(program, given[chosen], outputs[chosen])
        most, instructions = _longest(emulated)
        one = slice(chosen[most], chosen[most] + 1)
        paced = self._paced(program, given[one], outputs[one])
        np.save(out / OUTPUTS, from_grid(graph, outputs), allow_pickle=False)
        costs = self._costs(instructions, len(chosen), paced)
        write_costs(out, costs | self._cycles(program, given[:1], outputs[:1]))
        steps = _steps(emulated, program, len(chosen))
        told = {"board": self.board, "samples": len(chosen), "stack_bytes": emulated.stack_bytes,
                "same_as_tflm_on": len(given) if seen_by_tflm else 0, "same_as_host_build_on": len(given),
                "steps": steps}
        note(out, _heaviest(steps), *(_waits(*paced) if paced else ()))
        if paced:
            told |= self._told(*paced, steps)
        (out / DETAILS).mkdir()
        (out / DETAILS / EMULATION).write_text(json.dumps(told, indent=1), encoding="utf-8")

    def _paced(self, program: Path, given: Array, wanted: Array) -> Paced | None:
        """The pace of the core and what the firmware does for `given`, a sample; None without `timing`."""
        if not self.timing:
            return None
        pace = pace_of(self.timing, self.flash)
        events = self._emulated(program, given, wanted, pace).events
        return (pace, events) if events else None

    def _emulated(
        self, program: Path, given: Array, wanted: Array, pace: Pace | None = None
    ) -> qemu.Emulated:
        """What the firmware makes of `given`, seen to be `wanted`; for a `pace` events are counted."""
        if self.board not in BOARDS:
            raise ConfigError(f"board: nothing is known of {self.board!r}{meant(self.board, BOARDS)}",
                              "correct it in target.yaml")
        emulation = qemu.Emulation(
            BOARDS[self.board], given[0].nbytes, wanted[0].nbytes, self.timeout_s,
            "events" if pace else "instructions", flash=pace.flash if pace else None)
        emulated = qemu.run(program / SHIP / ELF, given.tobytes(), emulation)
        see_same(f"the firmware on {self.board}", np.frombuffer(emulated.outputs, wanted.dtype), wanted)
        return emulated

    def _costs(self, most: int, count: int, paced: Paced | None) -> dict[str, Value]:
        """The instructions of the longest inference, and the time and energy that follow."""
        costs = {"instructions": value_of("instructions", most, "simulated", n=count, aggregation="max")}
        if paced:
            pace, events = paced
            taken, basis = pace.cycles(events.samples[0]), "; ".join(filter(None, (str(pace), self.basis)))
            costs["cycles"] = estimated("cycles", round(taken), basis)
        elif self.cycles_per_instruction is not None:
            taken, basis = most * self.cycles_per_instruction, self.basis
        else:
            return costs | {name: unavailable(name, NO_FIGURE) for name in ("latency_ms", "energy_uj")}
        time = latency(taken, self.clock, basis)
        spent = (unavailable("energy_uj", NO_POWER) if self.power_mw is None
                 else energy(time, self.power_mw, self.power_source))
        return costs | {"latency_ms": time, "energy_uj": spent}

    def _told(
        self, pace: Pace, counts: qemu.Counts[Events], steps: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """What the longest inference spends its cycles and energy on; each of `steps` gets its cycles."""
        for step, counted in zip(steps, counts.steps, strict=True):
            step["cycles"] = round(pace.cycles(counted))
        events, spent = counts.samples[0], pace.shares(counts.samples[0])
        told: dict[str, Any] = {"timing": {
            "core": self.timing, "source": pace.timing.source, "flash": self.flash, "events": asdict(events),
            "cycles": {what: round(each) for what, each in spent.items()}}}
        if self.power_mw is not None:
            one = 1000 * self.power_mw / hertz(self.clock)
            told["energy"] = {"power_mw": self.power_mw, "source": self.power_source, "uj_a_cycle": one,
                              "uj": {what: rounded(each * one) for what, each in spent.items()}}
        return told

    def _cycles(self, program: Path, given: Array, wanted: Array) -> dict[str, Value]:
        """The cycles of an inference, and its time, by a model of the core; nothing where there is none."""
        model = self._cycle_model()
        if model is None:
            return {}
        timed = rp2040js.timed(model, program / SHIP / ELF, given.tobytes(), self.timeout_s)
        see_same("the firmware on rp2040js", np.frombuffer(timed.outputs, wanted.dtype), wanted)
        most = max(timed.cycles)
        return {"cycles": value_of("cycles", most, "simulated", n=len(given)),
                "latency_ms": value_of("latency_ms", 1000 * most / hertz(self.clock), "simulated",
                                       n=len(given))}

    def _cycle_model(self) -> rp2040js.Rp2040js | None:
        return rp2040js.installed() if self.cycle_model else None


def _longest(emulated: qemu.Emulated) -> tuple[int, int]:
    """Which of the samples takes most instructions, and how many."""
    if emulated.counts is None:
        raise ToolError("the emulator counted nothing", "its plugin may be of another version")
    counts = [sample.instructions for sample in emulated.counts.samples]
    return int(np.argmax(counts)), max(counts)


def _steps(emulated: qemu.Emulated, program: Path, count: int) -> list[dict[str, Any]]:
    """What each step computes, and its instructions an inference (mean)."""
    steps = json.loads((program / STEPS).read_text(encoding="utf-8"))
    counts = emulated.counts.steps if emulated.counts else ()
    return [{**step, "instructions": counted.instructions / count}
            for step, counted in zip(steps, counts, strict=True)]


def _heaviest(steps: list[dict[str, Any]]) -> str:
    """Where most instructions go, in a sentence."""
    total = sum(step["instructions"] for step in steps)
    ranked = sorted(steps, key=lambda step: -step["instructions"])[:HEAVIEST]
    told = (f"{step['operator']} {step['name']} {step['instructions'] / total:.0%} ({step['kernel']})"
            for step in ranked)
    return f"most instructions go to {', '.join(told)}"


def _waits(pace: Pace, counts: qemu.Counts[Events]) -> list[str]:
    """That loops are longer than what is kept of the flash, where that takes many of the cycles."""
    events = counts.samples[0]
    share = pace.shares(events)[WAITS] / pace.cycles(events)
    if pace.flash is None or share < NOTEWORTHY:
        return []
    kept = pace.flash.instruction_lines * pace.flash.line_bytes
    told = f"{share:.0%} of the estimated cycles are waits for instructions"
    return [f"{told}: there are loops longer than the {kept} bytes of code that are kept of the flash"]
