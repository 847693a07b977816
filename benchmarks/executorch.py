"""ExecuTorch: what the demo in PyTorch loses in int8, how long lowering takes and how much memory.

Lowering is timed in a process of its own, libraries and all, as a worker of a build does it first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import Figure, scratch
from edgeq.baseline import ends_in
from edgeq.exported.running import run_exported, run_pte
from edgeq.frontends.keras import Keras
from edgeq.frontends.keras_exported import KerasExported
from edgeq.frontends.torch_function import TorchFunction
from edgeq.interpret import run_litert
from edgeq.program import OUTPUTS
from edgeq.recipes.exported_float32 import ExportedFloat32
from edgeq.recipes.exported_static_int8 import ExportedStaticInt8
from edgeq.runners.qemu_aarch64 import QemuAarch64

MODELS = Path(__file__).parents[1] / "models"
LOST, FAR, SECONDS, GIB = 0.5, 1e-4, 30.0, 2.5
BOARD = "raspberry-pi-4"
LOWER = """
import json, resource, sys, time
begun = time.perf_counter()
from pathlib import Path
from edgeq.backends.executorch import Executorch
out, quantized = map(Path, sys.argv[1:3])
out.mkdir()
Executorch(*sys.argv[3:]).compile(out, quantized)
seconds = time.perf_counter() - begun
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30]))
"""
DELEGATES = {"xnnpack": ("xnnpack",),
             "ethos-u55": ("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
             "ethos-u85": ("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB")}


def figures() -> Iterator[Figure]:
    """The accuracy lost in int8, the distance of a float .pte from TFLite, and what lowering takes."""
    with scratch() as folder:
        baseline = _torch_baseline(folder)
        for scheme, words in DELEGATES.items():
            quantized = folder / f"quantized-{scheme}"
            quantized.mkdir()
            ExportedStaticInt8(scheme=scheme).quantize(quantized, baseline, folder / "calibration")
            seconds, gib = _lowered(folder / scheme, quantized, words)
            yield Figure(f"seconds to lower for {scheme}", seconds, "libraries and all", at_most=SECONDS)
            yield Figure(f"GiB to lower for {scheme}", gib, "the peak of the process", at_most=GIB)
        yield from _lost(folder, baseline)
        yield _far_from_tflite(folder)


def _torch_baseline(folder: Path) -> Path:
    """The baseline of the demo in PyTorch; its calibration samples beside it."""
    out = folder / "torch"
    out.mkdir()
    frontend = TorchFunction(function="model:fashion", weights="weights.safetensors")
    frontend.convert(out, MODELS / "fashion_torch")
    (folder / "calibration").mkdir()
    samples = _samples("calibration")[0].reshape(-1, *ends_in(out)[0].shape[1:])
    np.save(folder / "calibration/x.npy", samples)
    return out


def _samples(role: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(MODELS / f"fashion/{role}.npz", allow_pickle=False) as arrays:
        return arrays["x"].astype(np.float32), arrays["y"]


def _lowered(out: Path, quantized: Path, words: tuple[str, ...]) -> tuple[float, float]:
    """The seconds and the peak of memory (GiB) of lowering what is in `quantized`."""
    ran = subprocess.run([sys.executable, "-c", LOWER, out, quantized, *words], check=True,
                         capture_output=True, text=True)
    seconds, gib = json.loads(ran.stdout.splitlines()[-1])
    return seconds, gib


def _lost(folder: Path, baseline: Path) -> Iterator[Figure]:
    x, y = _samples("evaluation")
    right = np.mean(run_exported(baseline / "baseline.pt2", x).argmax(1) == y)
    here = run_pte(folder / "xnnpack/ship/model.pte", x)
    told = f"{len(x)} samples, float {right:.4f}"
    yield Figure("points lost by int8 under XNNPACK", _points(right - np.mean(here.argmax(1) == y)), told,
                 at_most=LOST)
    for place in ("evaluation", "emulated"):
        (folder / place).mkdir()
    np.save(folder / "evaluation/x.npy", x.reshape(-1, *ends_in(baseline)[0].shape[1:]))
    QemuAarch64(BOARD).run(folder / "emulated", folder / "xnnpack", folder / "evaluation")
    there = np.load(folder / "emulated" / OUTPUTS)
    yield Figure(f"points lost by int8 on {BOARD}", _points(right - np.mean(there.argmax(1) == y)), told,
                 at_most=LOST)
    differing = float(np.sum(here.argmax(1) != there.argmax(1)))
    yield Figure(f"samples with another class on {BOARD} than here", differing,
                 f"{len(x)} samples, outputs differ by at most {np.abs(here - there).max():.1e}", at_most=0)


def _points(lost: np.floating) -> float:
    return 100 * float(lost)


def _far_from_tflite(folder: Path) -> Figure:
    """How far a float .pte of the Keras demo is from its TFLite, at most."""
    exported, tflite, quantized = (folder / name for name in ("keras", "tflite", "float32"))
    for place in (exported, tflite, quantized):
        place.mkdir()
    KerasExported().convert(exported, MODELS / "fashion/model.keras")
    Keras().convert(tflite, MODELS / "fashion/model.keras")
    ExportedFloat32().quantize(quantized, exported)
    _lowered(folder / "program", quantized, ("xnnpack",))
    x = _samples("evaluation")[0][:200]
    given = x.reshape(len(x), *ends_in(tflite)[0].shape[1:])
    found = run_pte(folder / "program/ship/model.pte", given)
    wanted = run_litert(tflite / "baseline.tflite", given, "xnnpack")
    most = float(np.abs(found - wanted).max())
    return Figure("largest difference of a float .pte from TFLite, in 1e-4", most / FAR,
                  f"the Keras demo, {len(x)} samples: {most:.1e}", at_most=1)
