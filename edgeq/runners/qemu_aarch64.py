"""QEMU's user mode: the shipped model by the real kernels for a board's core, every instruction counted.

The one rule: what the emulator computes is seen to be what this machine computes, as far as two sets of
kernels can agree: to the bit for LiteRT's reference kernels, to an LSB or so for XNNPACK's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.arrays import Array
from edgeq.decode import meant
from edgeq.devices.exchange import Exchange, exchanged
from edgeq.emulation import user_mode
from edgeq.emulation.linux_boards import BOARDS, LinuxBoard
from edgeq.emulation.qemu import Count, Counting
from edgeq.emulation.user_mode import UserMode
from edgeq.errors import ConfigError, ToolError
from edgeq.estimation import energy, energy_of, latency
from edgeq.exported.running import run_pte
from edgeq.graph import Graph
from edgeq.interpret import Kernels, litert_outputs
from edgeq.linux import kit as kits
from edgeq.linux.compiling import system_library
from edgeq.measurement import Value, unavailable, value_of
from edgeq.program import OUTPUTS, write_costs
from edgeq.quantization import DETAILS, note
from edgeq.runners.agreement import spread
from edgeq.runners.likeness import Difference, difference
from edgeq.samples import samples_in

EMULATION = "emulation.json"
WARM_UP = 1  # the first inference sets things up, and is counted apart
LIBRARIES = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-aarch64.so.1")
KERNELS = {"XNNPACK": "XNNPACK's kernels", "both": "XNNPACK's kernels and LiteRT's own",
           "reference": "LiteRT's reference kernels", "ExecuTorch": "the program's kernels"}
NO_FIGURE = "no public figure says how many cycles an instruction of such kernels takes on this core"
NO_POWER = "no public figure says what this device, or an instruction on its core, takes"
NO_REALS = "the published energies of instructions are those of integer ones"
NO_MEMORY = "the memory that a program takes in an emulator is not what it takes on the board"


@dataclass(frozen=True)
class QemuAarch64:
    """`board` is one of edgeq/emulation/linux_boards.py; `kernels` are LiteRT's, a .pte brings its own.

    All samples run on it, and `samples` of them once more by the reference kernels. Where those of an
    integer model differ, or XNNPACK's by more than `within_lsb` LSB where it takes all of one, the run is an
    error: LiteRT's own kernels, which take the rest, round otherwise on Arm than here. Time is
    instructions * `cycles_per_instruction` / `clock` (`float_cycles_per_instruction` for a .tflite that
    computes in reals), an estimate; `basis` says where the figures are from. Energy is that time at
    `power_mw`, the whole board's, which `power_source` published; where that is not known, that of the core
    alone, by what an integer instruction, a load and a store take (`energy_pj`), as `energy_source` has it.
    """

    packages: ClassVar = ("ai-edge-litert",)
    native: ClassVar = True
    board: str
    kernels: Kernels = "xnnpack"
    clock: float | str = 0.0
    cycles_per_instruction: float | None = None
    float_cycles_per_instruction: float | None = None
    basis: str = ""
    power_mw: float | None = None
    power_source: str = ""
    energy_pj: Mapping[str, float] = field(default_factory=dict)
    energy_source: str = ""
    samples: int = 20
    within_lsb: int = 1
    timeout_s: float = 600.0

    def tools(self) -> tuple[Path, ...]:
        """QEMU and the C library that programs run with; ToolError with what to install."""
        return (user_mode.program(), *(system_library(name) for name in LIBRARIES))

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`, as the board computes them, and the instructions of an inference.

        Raises Refused where an operator has no kernel, ToolError where the emulator computes what this
        machine does not.
        """
        exchange = exchanged(program, samples_in(samples))
        made, counts = self._emulated(exchange, self.kernels, "memory")
        seen = self._seen(exchange, made)
        np.save(out / OUTPUTS, exchange.outputs(made.tobytes()), allow_pickle=False)
        write_costs(out, self.costs(counts, exchange.graph))
        note(out, *(f"on {self._board.core.qemu}, {KERNELS[who]} {how}" for who, how in seen.items()))
        self._tell(out, counts, seen)

    def costs(self, counts: Sequence[Count], graph: Graph | None) -> dict[str, Value]:
        """The instructions of the longest inference, and the time and energy that follow.

        `graph` is that of a .tflite, None for a .pte.
        """
        steady = counts[WARM_UP:]
        most = max(count.instructions for count in steady)
        instructions = value_of("instructions", most, "simulated", n=len(steady), aggregation="max")
        costs = {"instructions": instructions,
                 "latency_ms": unavailable("latency_ms", NO_FIGURE),
                 "ram_bytes": unavailable("ram_bytes", NO_MEMORY)}
        in_reals = graph is not None and _in_reals(graph)
        factor = self.float_cycles_per_instruction if in_reals else self.cycles_per_instruction
        if factor is not None:
            costs["latency_ms"] = latency(most * factor, self.clock, self.basis)
        longest = next(count for count in steady if count.instructions == most)
        return costs | {"energy_uj": self._energy(costs["latency_ms"], longest, in_reals=in_reals)}

    def _emulated(
        self, exchange: Exchange, kernels: Kernels, counting: Counting
    ) -> tuple[Array, Sequence[Count]]:
        """The outputs (n, *shape) of all samples, in the model's own type, and what was counted."""
        task = exchange.task(kits.glibc(exchange.model), kernels, WARM_UP)
        mode = UserMode(self._board, system_library(LIBRARIES[0]).parent, self.timeout_s, counting)
        with user_mode.folder_for_counts() as folder:
            shutil.copy(task.kit.program, folder)  # libraries are looked for beside where it really lies
            for file in (*task.kit.libraries, task.model):
                (folder / file.name).symlink_to(file.absolute())
            (folder / kits.IN).write_bytes(task.given)
            finished = user_mode.run(kits.words(task.request), folder, mode)
            if finished.status:
                raise kits.failed(finished.status, finished.output, task.request)
            left = kits.left(folder, task.request, len(exchange.given))
            counts = user_mode.counted(folder) if counting != "none" else ()
        made = np.frombuffer(left.outputs, exchange.kind).reshape(len(exchange.given), *exchange.shape)
        return made, counts

    def _seen(self, exchange: Exchange, made: Array) -> dict[str, Difference]:
        """How what was `made` differs from what this machine makes, by whose kernels."""
        if exchange.graph is None:
            return {"ExecuTorch": difference(made, run_pte(exchange.model, exchange.given))}
        chosen = spread(len(made), self.samples)
        few = replace(exchange, given=exchange.given[chosen])
        seen = {}
        if self.kernels == "xnnpack":
            found = difference(made, litert_outputs(few.model, exchange.given, "xnnpack"))
            alone = not found.integer or _taken_by_xnnpack(exchange.graph)
            seen["XNNPACK" if alone else "both"] = found
            if alone:
                _see(found, self.within_lsb, KERNELS["XNNPACK"])
        again = made[chosen] if self.kernels == "reference" else self._emulated(few, "reference", "none")[0]
        seen["reference"] = difference(again, litert_outputs(few.model, few.given, "reference"))
        _see(seen["reference"], 0, KERNELS["reference"])
        return seen

    def _energy(self, time: Value, longest: Count, *, in_reals: bool) -> Value:
        """That of the board for the `time` of the longest inference, or of its core for what it executes."""
        if self.power_mw is not None and time.value is not None:
            return energy(time, self.power_mw, self.power_source)
        if not self.energy_pj or in_reals:
            return unavailable("energy_uj", NO_REALS if self.energy_pj else NO_POWER)
        return energy_of(by_kind(longest), self.energy_pj, self.energy_source)

    def _tell(self, out: Path, counts: Sequence[Count], seen: Mapping[str, Difference]) -> None:
        """Leave what was counted and compared for the report."""
        steady = counts[WARM_UP:]
        told = {"board": self.board, "core": self._board.core.qemu, "kernels": self.kernels, "threads": 1,
                "inferences": len(steady), "first_inference": asdict(counts[0]),
                "inference": {field: max(getattr(count, field) for count in steady)
                              for field in ("instructions", "loads", "stores")},
                "equal_in_all": len(set(steady)) == 1,
                "differences": {name: asdict(each) for name, each in seen.items()}}
        (out / DETAILS).mkdir()
        (out / DETAILS / EMULATION).write_text(json.dumps(told, indent=1), encoding="utf-8")

    @property
    def _board(self) -> LinuxBoard:
        if self.board not in BOARDS:
            raise ConfigError(f"board: nothing is known of {self.board!r}{meant(self.board, BOARDS)}",
                              "correct it in target.yaml")
        return BOARDS[self.board]


def by_kind(count: Count) -> dict[str, int]:
    """Loads, stores, and the instructions that are neither."""
    return {"instruction": count.instructions - count.loads - count.stores, "load": count.loads,
            "store": count.stores}


def _in_reals(graph: Graph) -> bool:
    """Whether most operators of `graph` write reals."""
    kinds = [graph.tensors[index].dtype for operator in graph.operators for index in operator.outputs]
    return 2 * kinds.count("FLOAT32") > len(kinds)


def _taken_by_xnnpack(graph: Graph) -> bool:
    """Whether XNNPACK computes all of the integer model `graph`, up to an output on a grid."""
    kinds = {tensor.dtype for tensor in graph.tensors}
    return graph.tensors[graph.outputs[0]].quantization is not None and kinds <= {"INT8", "UINT8", "INT32"}


def _see(seen: Difference, within: int, who: str) -> None:
    """Raise ToolError where integers differ by more than `within` LSB; reals are only told."""
    if seen.integer and seen.most > within:
        raise ToolError(
            f"in the emulator {who} {seen}, and {within} LSB are allowed",
            "a gate sees what that does to the accuracy; `within_lsb` of the target's runner allows more")
