"""The demo pipeline from an empty store, beside `import tensorflow` and one conversion alone.

To the targets that TensorFlow's conversion serves: Linux boards and ExecuTorch, each with libraries of its
own to load, have figures of their own (`linux`, `executorch`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.measuring import EDGEQ, ROOT, Figure, cost, median_ratio, scratch, watched_memory

CONVERT = """
import keras, tensorflow as tf
model = keras.models.load_model("models/fashion/model.keras", compile=False)
entry = keras.Input(batch_shape=(1, 28, 28, 1))
tf.lite.TFLiteConverter.from_keras_model(keras.Model(entry, model(entry))).convert()
"""
RUNS = 3
TARGETS = [f"--target={name}" for name in ("host", "tflm", "cortex-m4", "ethos-u55-128", "edgetpu")]


def figures() -> Iterator[Figure]:
    """Wall time over that of the conversion alone, and the peak of the largest process."""
    pairs = []
    with watched_memory() as peak:
        for _ in range(RUNS):
            with scratch() as folder:
                ours = cost((*EDGEQ, "build", ROOT / "pipeline.yaml", *TARGETS, "--store", folder / "store",
                             "--output-dir", folder / "build"))
            pairs.append((ours.wall_s, cost((sys.executable, "-c", CONVERT)).wall_s))
    last = f"{pairs[-1][0]:.1f} s / {pairs[-1][1]:.1f} s the last of {RUNS} pairs"
    yield Figure("wall time / import tensorflow + convert", median_ratio(pairs), last, at_most=3)
    yield Figure("largest process, GB", peak[0] / 1000, "VmHWM of every process", at_most=2.5)
