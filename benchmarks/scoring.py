"""Scoring 10,000 samples on the host's int8 model, beside the bare LiteRT loop."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import EDGEQ, ROOT, Figure, cost, median_ratio, scratch

SAMPLES = 10_000
RUNS = 3
PIPELINE = """
version: 1
models:
  fashion:
    source: {source}
    calibration: {{data: {calibration}}}
    evaluation: {{data: evaluation.npz, metric: top1}}
targets: [host]
ladder: [static-int8]
gates: [{{metric: accuracy, min: 0}}]
"""
BARE = """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
scale, zero_point = entry["quantization"]
samples = np.load(sys.argv[2])["x"].astype(np.float32)
for sample in np.clip(np.round(samples / scale) + zero_point, -128, 127).astype(np.int8):
    interpreter.set_tensor(entry["index"], sample[None])
    interpreter.invoke()
    interpreter.get_tensor(end["index"])
"""
START = "import sys; import edgeq.cli.build, edgeq.flow; from ai_edge_litert.interpreter import Interpreter"


def figures() -> Iterator[Figure]:
    """Wall time of the step that runs the samples, over the bare loop and a worker's start."""
    pairs = []
    with scratch() as folder:
        write_project(folder, SAMPLES)
        build = (*EDGEQ, "build", folder / "pipeline.yaml", "--store", folder / "store",
                 "--output-dir", folder / "build")
        cost(build)
        model = folder / "build/host/fashion/model.tflite"
        for _ in range(RUNS):
            nothing = cost((*build, "--frozen")).wall_s
            _forget(folder / "store", "Host.run", keep_first=True)
            ours = cost(build).wall_s - nothing
            bare = cost((sys.executable, "-c", BARE, model, folder / "evaluation.npz")).wall_s
            start = cost((sys.executable, "-c", START)).wall_s
            pairs.append((ours, bare + start))
    yield Figure(f"wall time of scoring {SAMPLES:,} samples / bare loop + a worker's start",
                 median_ratio(pairs), f"{pairs[-1][0]:.2f} s / {pairs[-1][1]:.2f} s the last of {RUNS}",
                 at_most=1.3)


def write_project(folder: Path, samples: int) -> None:
    """Write a pipeline over the demo model with `samples` evaluation samples into `folder`."""
    data = np.load(ROOT / "models/fashion/evaluation.npz")
    chosen = np.random.default_rng(0).integers(len(data["x"]), size=samples)
    np.savez(folder / "evaluation.npz", x=data["x"][chosen], y=data["y"][chosen])
    (folder / "pipeline.yaml").write_text(PIPELINE.format(
        source=ROOT / "models/fashion/model.keras",
        calibration=ROOT / "models/fashion/calibration.npz"), encoding="utf-8")


def _forget(store: Path, step: str, *, keep_first: bool) -> None:
    """Remove what `step` made from the store, so that just this is made again."""
    records = [record for record in (store / "objects").glob("*/record.json")
               if f'"{step}"' in record.read_text(encoding="utf-8")]
    ordered = sorted(records, key=lambda record: record.stat().st_mtime)
    for record in ordered[1 if keep_first else 0:]:
        shutil.rmtree(record.parent)
