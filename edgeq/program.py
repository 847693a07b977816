"""The folder that a backend leaves: what is shipped, what it costs, and what can be run of it.

ship/               what is delivered
costs.json          what the compiler states (a measurement)
functional.tflite   the same arithmetic for an interpreter, where nothing here runs what ships
functional.pt2      the same for ExecuTorch: the quantized exported program
ends.json           of an exported program, what goes in and what comes out (baseline.py)
measured.txt        of outputs, where a device itself computed them: it says which
notice.txt          why this is not the real program, where it is not (then `not compiled`)

Firmware has besides:
ship/firmware.elf   a test firmware: in.bin -> out.bin, for an emulated or attached board
host/host           the same model's portable C for this machine: in.bin -> out.bin, trace.bin
steps.json          what each step of it computes
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeq import baseline, measurement, quantization
from edgeq.graph import macs, parse
from edgeq.measurement import Measurement, Source, Value, value_of

SHIP, COSTS, FUNCTIONAL, NOTICE = "ship", "costs.json", "functional.tflite", "notice.txt"
FUNCTIONAL_EXPORTED, MEASURED = "functional.pt2", "measured.txt"
OUTPUTS = "outputs.npy"
ELF, HOST, STEPS = "firmware.elf", "host", "steps.json"
PTE, BUNDLED = "model.pte", "model.bpte"
PLACES = (FUNCTIONAL, FUNCTIONAL_EXPORTED, f"{SHIP}/{quantization.MODEL}", f"{SHIP}/{PTE}",
          quantization.MODEL, quantization.EXPORTED, baseline.NAME, baseline.EXPORTED)


def ship(out: Path, file: Path, name: str) -> dict[str, Value]:
    """Put `file` into `out/ship` as `name`, and say what any file costs: its size."""
    (out / SHIP).mkdir(exist_ok=True)
    shutil.copyfile(file, out / SHIP / name)
    return {"model_bytes": value_of("model_bytes", file.stat().st_size, "measured")}


def counted(model: Path) -> dict[str, Value]:
    """What counting in the graph of the .tflite at `model` gives."""
    graph = parse(model.read_bytes(), model.name)
    return {"macs": value_of("macs", macs(graph), "measured")}


def write_costs(out: Path, costs: Measurement) -> None:
    """Write what the compiler, or the runner, states."""
    measurement.write(out / COSTS, costs)


def costs_in(folder: Path) -> dict[str, Value]:
    """What the compiler or runner that left `folder` stated."""
    return measurement.read(folder / COSTS)


def notice_in(folder: Path) -> str:
    """Why the program in `folder` is not compiled; empty where it is."""
    path = folder / NOTICE
    return path.read_text(encoding="utf-8") if path.exists() else ""


def runnable_in(folder: Path) -> Path:
    """The .tflite, .pte or .pt2 in a program, a quantized model or a baseline that can be run here."""
    return next(folder / place for place in PLACES if (folder / place).exists())


def mark_measured(out: Path, device: str) -> None:
    """Say that the `device` itself computed the outputs in `out`: their accuracy is then measured."""
    (out / MEASURED).write_text(device, encoding="utf-8")


def source_in(folder: Path) -> Source:
    """What an accuracy by the outputs in `folder` counts as."""
    return "measured" if (folder / MEASURED).exists() else "simulated"
