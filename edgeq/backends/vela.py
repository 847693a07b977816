"""Arm Ethos-U: Vela compiles, and models cycles and memory. Its figures are `simulated`.

What Vela writes loads in no interpreter here, so the quantized model itself goes along as
functional.tflite: the NPU's arithmetic is bit-exact with TFLite's reference kernels.
Vela puts whatever it cannot map on the CPU and still succeeds: the split must be read.
"""

from __future__ import annotations

import csv
import math
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq import tool
from edgeq.errors import ConfigError, ToolError
from edgeq.graph import read
from edgeq.measurement import Value, unavailable, value_of
from edgeq.program import FUNCTIONAL, counted, ship, write_costs
from edgeq.quantization import MODEL

KIB = 1024
SPLIT = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Vela:
    """Vela's own words: `accelerator_config`, and system config and memory mode of `config`."""

    packages: ClassVar = ("ethos-u-vela", "ai-edge-litert")
    accelerator_config: str
    system_config: str
    memory_mode: str
    config: str = "Arm/vela.ini"
    timeout_s: float = 600.0

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship the compiled model, with Vela's cycles, latency, memory and NPU/CPU split.

        Raises ToolError where Vela fails, crashes, hangs or writes what cannot be read.
        """
        model = quantized / MODEL
        work = out / "vela"
        finished = tool.run(
            [sys.executable, "-m", "ethosu.vela", model, "--output-dir", work,
             "--accelerator-config", self.accelerator_config, "--config", self.config,
             "--system-config", self.system_config, "--memory-mode", self.memory_mode,
             "--show-cpu-operations"],
            timeout_s=self.timeout_s, cwd=out, name="vela")
        compiled, summaries = work / f"{model.stem}_vela.tflite", sorted(work.glob("*_summary_*.csv"))
        if finished.status or not compiled.exists() or not summaries:
            raise ToolError(f"vela ended with status {finished.status} and no program",
                            tool.tail(finished.output))
        try:
            read(compiled)
        except ConfigError as error:
            raise ToolError(f"vela ended well, but {error.message}", tool.tail(finished.output)) from error
        costs = ship(out, compiled, compiled.name) | counted(model)
        costs |= stated(_row(summaries[0]), *split(finished.output))
        write_costs(out, costs)
        shutil.copyfile(model, out / FUNCTIONAL)
        shutil.rmtree(work)


def split(output: str) -> tuple[int, int]:
    """The operators on the NPU and on the CPU, as Vela prints them (after it has lowered them).

    Raises ToolError where the output has no such lines.
    """
    counts = {unit: int(count) for unit, count in SPLIT.findall(output)}
    if counts.keys() != {"CPU", "NPU"}:
        raise ToolError("vela did not say how many operators run on the NPU", tool.tail(output))
    return counts["NPU"], counts["CPU"]


def stated(row: Mapping[str, str], on_npu: int, on_cpu: int) -> dict[str, Value]:
    """The costs in a row of Vela's summary: memory there in KiB, time in seconds."""
    def number(column: str) -> float:
        try:
            return float(row[column])
        except (KeyError, ValueError) as error:
            raise ToolError(f"vela's summary has no number in column {column!r}",
                            "its format may have changed: use the pinned version") from error

    memory = {"ram_bytes": ("sram_memory_used", "dram_memory_used"),
              "flash_bytes": ("on_chip_flash_memory_used", "off_chip_flash_memory_used")}
    costs = {metric: value_of(metric, sum(map(number, columns)) * KIB, "simulated")
             for metric, columns in memory.items()}
    share = on_npu / max(1, on_npu + on_cpu)
    costs["mapped_ops_ratio"] = value_of("mapped_ops_ratio", share, "simulated")
    times = {"cycles": number("cycles_total"), "latency_ms": 1000 * number("inference_time")}
    for metric, value in times.items():
        costs[metric] = (
            unavailable(metric, f"{on_cpu} operators run on the CPU, which vela does not time")
            if on_cpu or not math.isfinite(value) else value_of(metric, value, "simulated"))
    return costs


def _row(summary: Path) -> Mapping[str, str]:
    try:
        with summary.open(encoding="utf-8", errors="replace", newline="") as file:
            row = next(csv.DictReader(file), None)
    except csv.Error:
        row = None
    if row is None:
        raise ToolError("vela's summary is empty, or is no table", "run it again, or use the pinned version")
    return row
