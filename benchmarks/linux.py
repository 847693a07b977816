"""The demo on emulated Linux boards: how long a run takes, and whether counts and outputs can be trusted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT, Figure, scratch
from edgeq.frontends.keras import Keras
from edgeq.measurement import read
from edgeq.program import SHIP
from edgeq.quantization import MODEL
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.runners.qemu_aarch64 import EMULATION, QemuAarch64
from edgeq.samples import Samples

FASHION = ROOT / "models/fashion"
BOARDS = ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5")
TIMED = "raspberry-pi-4"
MANY, RUNS = 101, 10
START_S, INFERENCE_MS = 1.0, 40.0


def figures() -> Iterator[Figure]:
    """Quantize the demo, and run it."""
    with scratch() as folder:
        program = _program(folder)
        yield from _times(folder, program)
        counts = {_told(folder, program, TIMED, 3)["inference"]["instructions"] for _ in range(RUNS)}
        yield Figure(f"different counts in {RUNS} runs, {TIMED}", len(counts),
                     f"{', '.join(f'{count:,}' for count in counts)} instructions an inference", at_most=1)
        for board in BOARDS:
            told = _told(folder, program, board, MANY)
            seen, counted = told["differences"], told["inference"]
            made_of = (f"{counted['instructions']:,} instructions, {counted['loads']:,} loads, "
                       f"{counted['stores']:,} stores; {seen['XNNPACK']['differing']} of {MANY} differ")
            yield Figure(f"XNNPACK against this machine's (LSB), {board}", seen["XNNPACK"]["most"], made_of,
                         at_most=1)
            yield Figure(f"reference kernels against this machine's (samples), {board}",
                         seen["reference"]["differing"], f"{seen['reference']['samples']} samples", at_most=0)


def _program(folder: Path) -> Path:
    """What ships of the demo, static-int8."""
    for name in ("baseline", "calibration", "quantized", "program"):
        (folder / name).mkdir()
    Keras().convert(folder / "baseline", FASHION / "model.keras")
    Samples("calibration").load(folder / "calibration", FASHION / "calibration.npz", folder / "baseline")
    StaticInt8().quantize(folder / "quantized", folder / "baseline", folder / "calibration")
    (folder / "program" / SHIP).mkdir()
    (folder / "quantized" / MODEL).rename(folder / "program" / SHIP / MODEL)
    return folder / "program"


def _times(folder: Path, program: Path) -> Iterator[Figure]:
    """A start, and an inference, of the emulator with its counting: the least of some."""
    one, many = (min(_seconds(folder, program, count) for _ in range(3)) for count in (1, MANY))
    yield Figure(f"seconds of a run of one sample, {TIMED}", one,
                 "two starts of the emulator, the reference kernels' among them, and this machine's kernels",
                 at_most=2 * START_S)
    yield Figure(f"ms of another inference, {TIMED}", 1000 * (many - one) / (MANY - 1),
                 f"{many:.2f} s of {MANY} samples, loads and stores counted, too", at_most=INFERENCE_MS)


def _seconds(folder: Path, program: Path, count: int) -> float:
    begun = time.perf_counter()
    _told(folder, program, TIMED, count, again=1)
    return time.perf_counter() - begun


def _told(folder: Path, program: Path, board: str, count: int, again: int = 20) -> dict[str, dict]:
    """What a run of `count` samples told, `again` of them by the reference kernels."""
    out, samples = folder / f"out-{time.time_ns()}", folder / "samples"
    for each in (out, samples):
        each.mkdir(exist_ok=True)
    with np.load(FASHION / "evaluation.npz") as data:
        np.save(samples / "x.npy", data["x"][:count].astype(np.float32).reshape(-1, 28, 28, 1))
    QemuAarch64(board, samples=again).run(out, program, samples)
    assert read(out / "costs.json")["instructions"].n == count
    told: dict[str, dict] = json.loads((out / "details" / EMULATION).read_text(encoding="utf-8"))
    return told
