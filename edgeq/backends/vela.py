"""Arm Ethos-U: Vela compiles, and models cycles and memory. Its figures are `simulated`.

What Vela writes loads in no interpreter here, so the quantized model itself goes along as
functional.tflite: the NPU's arithmetic is bit-exact with TFLite's reference kernels.
Vela puts whatever it cannot map on the CPU and still succeeds: the split must be read.
"""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from edgeq import containers, tool
from edgeq.containers import Container, Image, image
from edgeq.errors import ConfigError, ToolError
from edgeq.graph import read
from edgeq.measurement import Value, unavailable, value_of
from edgeq.program import FUNCTIONAL, counted, ship, write_costs
from edgeq.quantization import DETAILS, MODEL

KIB, PLACED, PROGRAM, COMPILED = 1024, "vela.json", "vela", "compiled"
TABLE = re.compile(r'<table name="(\w+)">\s*<!\[CDATA\[\s*(.*?)\]\]>', re.DOTALL)
SPLIT = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Vela:
    """Vela's own words: `accelerator_config`, and system config and memory mode of `config`.

    `container` is an image that has Vela, for where the package ethos-u-vela is not installed.
    """

    micro: ClassVar = True
    accelerator_config: str
    system_config: str
    memory_mode: str
    config: str = "Arm/vela.ini"
    container: Container = ""
    timeout_s: float = 600.0

    @property
    def packages(self) -> tuple[str, ...]:
        """Vela, unless it is in an image, and what reads models."""
        return ("ai-edge-litert",) if self._contained else ("ethos-u-vela", "ai-edge-litert")

    def images(self) -> Mapping[str, Image]:
        """The image that has Vela, where that is not here; ToolError where there is no such image."""
        return {PROGRAM: image(self.container, PROGRAM)} if self._contained else {}

    @property
    def _contained(self) -> bool:
        return bool(self.container) and find_spec("ethosu") is None

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship the compiled model, with Vela's cycles, latency, memory and NPU/CPU split.

        Raises ToolError where Vela fails, crashes, hangs or writes what cannot be read.
        """
        model = quantized / MODEL
        place, work = out / "vela", out / "vela" / COMPILED
        place.mkdir()
        shutil.copyfile(model, place / MODEL)
        finished = self._run(
            [MODEL, "--output-dir", COMPILED, "--accelerator-config", self.accelerator_config,
             "--system-config", self.system_config, "--memory-mode", self.memory_mode,
             "--show-cpu-operations", "--enable-debug-db"], place)
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
        _write_placed(out, work / f"{model.stem}_debug.xml")
        shutil.copyfile(model, out / FUNCTIONAL)
        shutil.rmtree(place)

    def _run(self, words: Sequence[str], place: Path) -> tool.Finished:
        """Vela at work in the folder `place`, with a configuration of the user's own beside the model."""
        config = self.config
        if Path(config).is_absolute():
            config = shutil.copyfile(config, place / "config.ini").name
        within = self.images().get(PROGRAM)
        program = (PROGRAM,) if within else (sys.executable, "-m", "ethosu.vela")
        return containers.run(within, [*program, *words, "--config", config],
                              timeout_s=self.timeout_s, cwd=place, name=PROGRAM)


def placed(database: str) -> list[dict[str, Any]]:
    """Where each operator of the model runs and its cycles, from Vela's debug database.

    An operator that Vela made nothing of, such as a reshaping, is on neither side; cycles are those of the
    NPU alone. Raises KeyError or ValueError for a database of another form.
    """
    tables = {name: [*csv.DictReader(text.splitlines())] for name, text in TABLE.findall(database)}
    on_npu = {row["optimised_id"] for row in tables["queue"]}
    joined = {row["id"] for row in tables["group"]}
    steps: dict[str, list[Mapping[str, str]]] = {}
    for row in tables["perf"]:
        steps.setdefault(row["source_id"], []).append(row)
    return [_placed(source, steps.get(source["id"], []), on_npu, joined) for source in tables["source"]]


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


def _placed(
    source: Mapping[str, str], steps: Sequence[Mapping[str, str]], on_npu: set[str], joined: set[str]
) -> dict[str, Any]:
    """One operator of the model by the `steps` that Vela made of it, on the NPU or joined to such."""
    mapped = [row for row in steps if row["optimised_id"] in on_npu or row["id"] in joined]
    told: dict[str, Any] = {"operator": int(source["ext_key"]), "placed": None, "cycles": None}
    if steps:
        told["placed"] = "cpu"
    if mapped:
        told |= {"placed": "npu", "cycles": sum(int(row["op_cycles"]) for row in mapped)}
    return told


def _write_placed(out: Path, database: Path) -> None:
    """Write what Vela's debug database says of each operator; nothing where it cannot be read."""
    try:
        found = placed(database.read_text(encoding="utf-8", errors="replace"))
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return
    (out / DETAILS).mkdir()
    told = {"source": "simulated", "operators": found}
    (out / DETAILS / PLACED).write_text(json.dumps(told, indent=1), encoding="utf-8")


def _row(summary: Path) -> Mapping[str, str]:
    try:
        with summary.open(encoding="utf-8", errors="replace", newline="") as file:
            row = next(csv.DictReader(file), None)
    except csv.Error:
        row = None
    if row is None:
        raise ToolError("vela's summary is empty, or is no table", "run it again, or use the pinned version")
    return row
