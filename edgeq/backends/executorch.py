"""ExecuTorch: a .pte for XNNPACK, for the portable kernels, or for Arm Ethos-U.

Lowering succeeds whatever the delegate takes, so the split is read from the lowered graph. Nothing here
executes a .pte for Ethos-U: the quantized program goes along as functional.pt2.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.baseline import ENDS
from edgeq.errors import Refused
from edgeq.exported import counting
from edgeq.exported.ethos_u import Npu, Pieces, partitioners_of, vela_apart
from edgeq.exported.lowering import Lowered, bundled, lowered, partitioners_of_xnnpack
from edgeq.exported.models import examples_in
from edgeq.exported.opening import entry_of
from edgeq.exported.running import load_exported, run_exported, run_pte
from edgeq.exported.schemes import Scheme
from edgeq.measurement import Value, unavailable, value_of
from edgeq.program import BUNDLED, FUNCTIONAL_EXPORTED, PTE, SHIP, ship, write_costs
from edgeq.quantization import DETAILS, EXPORTED

Delegate = Literal[
    "xnnpack", "portable",
    "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512",
    "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048"]
SCHEMES: Mapping[str, Scheme] = {
    "ethos-u55": "ethos-u55", "ethos-u65": "ethos-u65", "ethos-u85": "ethos-u85"}
PLACES, KIB = "placement.json", 1024
FAR = 0.1  # of the power of the outputs
WORKSPACE = "XNNPACK takes its working memory at run time; what is planned ahead of it are {} bytes"
ENDS_ON_CPU = "Vela's model of the NPU; converting input and output between float and int8 is not in it"


@dataclass(frozen=True)
class Executorch:
    """What takes as much of the model as it can; for Ethos-U also Vela's system config and memory mode."""

    format: ClassVar = "executorch"
    native: ClassVar = True
    delegate: Delegate = "xnnpack"
    system_config: str = ""
    memory_mode: str = ""
    timeout_s: float = 600.0

    @property
    def packages(self) -> tuple[str, ...]:
        """What lowering needs installed: for Ethos-U Arm's compilers, too."""
        npu = () if self.scheme == "xnnpack" else ("ethos-u-vela", "tosa-tools")
        return ("torch", "torchao", "executorch", *npu)

    @property
    def scheme(self) -> Scheme:
        """How a model is quantized for the delegate."""
        return SCHEMES.get(self.delegate.rpartition("-")[0], "xnnpack")

    @property
    def micro(self) -> bool:
        """Whether it is for microcontrollers, of which XNNPACK is none."""
        return self.delegate != "xnnpack"

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship model.pte, and model.bpte: the same with some inputs and the outputs that are expected.

        Raises Refused where ExecuTorch cannot lower the model, ToolError where Vela fails.
        """
        exported = load_exported(quantized / EXPORTED)
        examples, macs = examples_in(quantized, entry_of(exported)), counting.macs(exported.graph)
        with self._delegating() as (partitioners, pieces):
            made = lowered(exported, partitioners)
        made.write(out / PTE)
        costs = ship(out, out / PTE, PTE)
        (out / PTE).unlink()
        shutil.copyfile(quantized / ENDS, out / ENDS)
        expected = self._expected(out, quantized, examples)
        (out / SHIP / BUNDLED).write_bytes(bundled(made.program, examples, expected))
        _write_placement(out, made, pieces)
        write_costs(out, costs | {"macs": value_of("macs", macs, "measured")} | self._stated(made, pieces))

    @contextmanager
    def _delegating(self) -> Iterator[tuple[list[Any], Pieces]]:
        """What gives the delegate its parts, and what will be known of them after the block."""
        if self.scheme == "xnnpack":
            yield partitioners_of_xnnpack() if self.delegate == "xnnpack" else [], Pieces()
            return
        npu = Npu(self.delegate, self.system_config, self.memory_mode, self.timeout_s)
        with vela_apart(npu) as pieces:
            yield partitioners_of(npu), pieces

    def _expected(self, out: Path, quantized: Path, examples: Array) -> Floats:
        """What the program gives for `examples`, with the batch; Refused where it is not what it should."""
        outputs = run_exported(quantized / EXPORTED, examples)
        if self.scheme == "xnnpack":
            wanted, outputs = outputs, run_pte(out / SHIP / PTE, examples)
            see_close(outputs, wanted, self.delegate)
        else:
            shutil.copyfile(quantized / EXPORTED, out / FUNCTIONAL_EXPORTED)
        return outputs.reshape(len(outputs), 1, *outputs.shape[1:])

    def _stated(self, made: Lowered, pieces: Pieces) -> dict[str, Value]:
        """The costs that follow from the plan, the split, and Vela's summaries."""
        planned = value_of("arena_bytes", made.planned_bytes, "measured")
        if self.delegate == "xnnpack":
            planned = unavailable("arena_bytes", WORKSPACE.format(made.planned_bytes))
        costs = {"arena_bytes": planned}
        if self.delegate != "portable":
            costs["mapped_ops_ratio"] = value_of("mapped_ops_ratio", made.share, "simulated")
        return costs | stated(pieces, made) if self.scheme != "xnnpack" else costs


def see_close(found: Floats, wanted: Floats, delegate: str) -> None:
    """Raise Refused where the kernels of `delegate` give something else than the graph that was lowered."""
    if not np.isfinite(wanted).all():
        raise Refused("NaN or infinity is among the model's outputs for its own calibration samples",
                      "see to its weights, and to the scale of the samples")
    error, power = (float(np.square(each.astype(np.float64)).mean()) for each in (found - wanted, wanted))
    if not error <= FAR * power:
        raise Refused(f"{delegate} computes something else than the quantized model: its error has "
                      f"{error / max(power, 1e-30):.2g} of the power of the outputs",
                      "this is a fault of the delegate: another recipe, or other options of this one")


def stated(pieces: Pieces, made: Lowered) -> dict[str, Value]:
    """The costs in Vela's summaries: memory there in KiB, time in seconds."""
    on_cpu = sum(made.on_cpu.values())
    working = pieces.most("sram_memory_used", "dram_memory_used") * KIB + made.planned_bytes
    stored = (pieces.total("on_chip_flash_memory_used") + pieces.total("off_chip_flash_memory_used")) * KIB
    costs = {"ram_bytes": value_of("ram_bytes", working, "simulated"),
             "flash_bytes": value_of("flash_bytes", stored, "simulated")}
    times = {"cycles": pieces.total("cycles_total"), "latency_ms": 1000 * pieces.total("inference_time")}
    for metric, value in times.items():
        costs[metric] = (
            unavailable(metric, f"{on_cpu} operators run on the CPU, which vela does not time") if on_cpu
            else replace(value_of(metric, value, "simulated"), basis=ENDS_ON_CPU))
    return costs


def _write_placement(out: Path, made: Lowered, pieces: Pieces) -> None:
    """Write which operators run where, and what Vela states of each piece, beside the model."""
    told = {"delegated": made.delegated, "cpu": made.on_cpu, "planned_bytes": made.planned_bytes,
            "vela": [dict(row) for row in pieces.rows]}
    (out / DETAILS).mkdir()
    (out / DETAILS / PLACES).write_text(json.dumps(told, indent=1), encoding="utf-8")
