"""QEMU: the test firmware on an emulated Cortex-M board, every instruction counted.

The one rule: no output counts that is not the same, bit for bit, in every way that it was computed:
by TensorFlow Lite Micro and the host build on all samples, by the firmware on some of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.arrays import Array
from edgeq.decode import meant
from edgeq.emulation import qemu, rp2040js
from edgeq.emulation.boards import BOARDS
from edgeq.errors import ConfigError, ToolError
from edgeq.graph import read
from edgeq.interpret import from_grid, on_grid
from edgeq.measurement import Value, quantity, unavailable, value_of
from edgeq.program import ELF, OUTPUTS, SHIP, STEPS, runnable_in, write_costs
from edgeq.quantization import DETAILS, note
from edgeq.runners.agreement import agreed, see_same, spread
from edgeq.samples import samples_in

EMULATION = "emulation.json"
HEAVIEST = 5  # operators that a note names
NO_FIGURE = "no public figure says how many cycles an instruction takes on this core"


@dataclass(frozen=True)
class QemuCortexM:
    """`board` is QEMU's machine; so many `samples`, spread over all, run on it.

    Time is instructions * `cycles_per_instruction` / `clock`, energy that time `power_mw`: both are
    estimates, and `basis` says where their figures are from. Where rp2040js is the `cycle_model`, and is
    installed, it counts the cycles of a sample: then time is simulated.
    """

    packages: ClassVar = ("ai-edge-litert", "tflite-micro")
    board: str
    clock: float | str
    cycles_per_instruction: float | None = None
    power_mw: float | None = None
    basis: str = ""
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
        costs = self._costs(emulated, len(chosen)) | self._cycles(program, given[:1], outputs[:1])
        np.save(out / OUTPUTS, from_grid(graph, outputs), allow_pickle=False)
        write_costs(out, costs)
        steps = _steps(emulated, program, len(chosen))
        note(out, _heaviest(steps))
        told = {"board": self.board, "samples": len(chosen), "stack_bytes": emulated.stack_bytes,
                "same_as_tflm_on": len(given) if seen_by_tflm else 0, "same_as_host_build_on": len(given),
                "steps": steps}
        (out / DETAILS).mkdir()
        (out / DETAILS / EMULATION).write_text(json.dumps(told, indent=1), encoding="utf-8")

    def _emulated(self, program: Path, given: Array, wanted: Array) -> qemu.Emulated:
        """What the firmware makes of `given`, seen to be what is `wanted`."""
        if self.board not in BOARDS:
            raise ConfigError(f"board: nothing is known of {self.board!r}{meant(self.board, BOARDS)}",
                              "correct it in target.yaml")
        emulation = qemu.Emulation(BOARDS[self.board], given[0].nbytes, wanted[0].nbytes,
                                   self.timeout_s, counting="instructions")
        emulated = qemu.run(program / SHIP / ELF, given.tobytes(), emulation)
        see_same(f"the firmware on {self.board}", np.frombuffer(emulated.outputs, wanted.dtype), wanted)
        return emulated

    def _costs(self, emulated: qemu.Emulated, count: int) -> dict[str, Value]:
        """The instructions of the longest inference, and the time and energy that follow."""
        if emulated.counts is None:
            raise ToolError("the emulator counted nothing", "its plugin may be of another version")
        most = max(sample.instructions for sample in emulated.counts.samples)
        costs = {"instructions": value_of("instructions", most, "simulated", n=count, aggregation="max")}
        if self.cycles_per_instruction is None:
            return costs | {"latency_ms": unavailable("latency_ms", NO_FIGURE)}
        latency = 1000 * most * self.cycles_per_instruction / self._hertz
        costs["latency_ms"] = self._estimated("latency_ms", latency)
        if self.power_mw is not None:
            costs["energy_uj"] = self._estimated("energy_uj", latency * self.power_mw)
        return costs

    def _cycles(self, program: Path, given: Array, wanted: Array) -> dict[str, Value]:
        """The cycles of an inference, and its time, by a model of the core; nothing where there is none."""
        model = self._cycle_model()
        if model is None:
            return {}
        timed = rp2040js.timed(model, program / SHIP / ELF, given.tobytes(), self.timeout_s)
        see_same("the firmware on rp2040js", np.frombuffer(timed.outputs, wanted.dtype), wanted)
        most = max(timed.cycles)
        return {"cycles": value_of("cycles", most, "simulated", n=len(given)),
                "latency_ms": value_of("latency_ms", 1000 * most / self._hertz, "simulated", n=len(given))}

    def _cycle_model(self) -> rp2040js.Rp2040js | None:
        return rp2040js.installed() if self.cycle_model else None

    def _estimated(self, metric: str, value: float) -> Value:
        return replace(value_of(metric, value, "estimated"), basis=self.basis)

    @property
    def _hertz(self) -> float:
        try:
            return quantity(self.clock, "hz")
        except ValueError as error:
            raise ConfigError(f"clock: {error}", "correct it in target.yaml") from error


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
