"""What the ladder is climbed with: trained networks, samples to calibrate by, and others to score.

The one rule: no sample is on two sides. What is not installed is absent, with the reason.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT
from edgeq.arrays import Array

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
MLPERF = "models/mlperf_tiny"
CROPS = "datasets/natural_crops_96.npz"
MOST_SHIFTED = 8  # pixels

Arrays = Mapping[str, Array]


class Absent(Exception):
    """A network or its data is not here; the message says what to install."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with its samples, `x` and where there are labels `y`; fed is (x - mean) / std."""

    source: Path
    calibration: Arrays
    evaluation: Arrays
    training: Arrays = field(default_factory=dict)
    mean: float = 0.0
    std: float = 1.0


def write(folder: Path, name: str, subject: Subject) -> dict[str, object]:
    """Write the samples of `subject` into `folder`; what pipeline.yaml has of it under `name`."""
    entry: dict[str, object] = {"source": str(subject.source)}
    for role in ("calibration", "evaluation", "training"):
        if arrays := getattr(subject, role):
            np.savez(folder / f"{name}-{role}", **arrays)
            scored = {"metric": "top1"} if role == "evaluation" and "y" in arrays else {}
            entry[role] = {"data": f"{name}-{role}.npz", "mean": subject.mean, "std": subject.std, **scored}
    return {name: entry}


def parted(count: int, first: int) -> tuple[Array, Array]:
    """The places of `count` samples in two parts, the first of `first`, that have none in common."""
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[:first]), np.sort(order[first:])


def varied(pictures: Array, count: int) -> Array:
    """`count` of `pictures` (n, height, width, channels): all, and then shifted and mirrored ones."""
    chance = np.random.default_rng(0)
    found = list(pictures[:count])
    while len(found) < count:
        picture = pictures[len(found) % len(pictures)]
        picture = picture[:, ::-1] if chance.random() < 0.5 else picture
        found.append(np.roll(picture, chance.integers(-MOST_SHIFTED, MOST_SHIFTED + 1, 2), (0, 1)))
    return np.stack(found)


def fashion() -> Subject:
    """The demo model, on all test images."""
    data = ROOT / "models/fashion"
    some, training = _npz(data / "calibration.npz"), _npz(data / "training.npz")
    return Subject(data / "model.keras", {"x": some["x"][:200]}, _test_images(), training)


def bench_fashion() -> Subject:
    """Another training run of the same network, on pixels of 0 to 1."""
    images = _npz(_bench("datasets/fashion_mnist_small.npz"))
    x, y = images["x_train"][..., None], images["y_train"].astype(np.int64)
    return Subject(_bench("models/fashion_mnist/fmdemo_relu6_s1_e3.h5"), {"x": x[:200]}, _test_images(),
                   {"x": x[200:], "y": y[200:]}, std=255)


def keywords() -> Subject:
    """Keyword spotting, on clips that are features already."""
    clips = _npz(_bench("datasets/kws_speech_commands_v2.npz"))
    first, rest = parted(len(clips["label"]), 100)
    x, y = clips["mfcc_int8"], clips["label"]
    return Subject(_bench(f"{MLPERF}/keyword_spotting/kws_ref_model"), {"x": x[first]},
                   {"x": x[rest], "y": y[rest]},
                   mean=int(clips["mfcc_zero_point"]), std=1 / float(clips["mfcc_scale"]))


def wake() -> Subject:
    """Is a person there? On pictures of another kind than it was trained on."""
    crops = _npz(_bench(CROPS))["x"]
    first, rest = parted(len(crops), 40)
    return Subject(_bench(f"{MLPERF}/visual_wake_words/vww_96_float.tflite"), {"x": crops[first]},
                   {"x": crops[rest]}, std=255)


def classes() -> Subject:
    """Small colour pictures of ten kinds; these are of other kinds."""
    from PIL import Image

    crops = _npz(_bench(CROPS))["x"]
    small = np.stack([np.asarray(Image.fromarray(crop).resize((32, 32), Image.Resampling.BILINEAR))
                      for crop in crops])
    first, rest = parted(len(small), 40)
    return Subject(_bench(f"{MLPERF}/image_classification/pretrainedResnet.tflite"),
                   {"x": small[first]}, {"x": small[rest]})


def anomalies() -> Subject:
    """An autoencoder of log-mel bands, on made-up ones."""
    return _anomalies(_bench(f"{MLPERF}/anomaly_detection/ad01_fp32.tflite"))


def other_anomalies() -> Subject:
    """Another training run of it."""
    return _anomalies(_bench(f"{MLPERF}/anomaly_detection/ad01.h5"))


def streaming() -> Subject:
    """A wake word in a stream; its few samples halved."""
    given = _npz(_bench(f"{MLPERF}/streaming_wakeword/calibration_samples.npz"))
    first, rest = parted(len(given["specs"]), 20)
    x, y = given["specs"].astype(np.float32), given["labels"].astype(np.int64)
    return Subject(_bench(f"{MLPERF}/streaming_wakeword/str_ww_ref_model.h5"), {"x": x[first]},
                   {"x": x[rest], "y": y[rest]})


def sine() -> Subject:
    """The sine of a number."""
    x = np.random.default_rng(0).uniform(0, 2 * np.pi, (600, 1)).astype(np.float32)
    return Subject(_bench("models/tflm/hello_world_float.tflite"), {"x": x[:100]}, {"x": x[100:]})


MODELS: Mapping[str, Callable[[], Subject]] = {
    "fashion": fashion,
    "bench-fashion": bench_fashion,
    "keywords": keywords,
    "wake": wake,
    "classes": classes,
    "anomalies": anomalies,
    "other-anomalies": other_anomalies,
    "streaming": streaming,
    "sine": sine,
}


def _anomalies(source: Path) -> Subject:
    """Five frames of 128 bands, falling with the frequency, louder and quieter ones."""
    chance = np.random.default_rng(0)
    found = []
    for count in (100, 200):
        level, tilt = chance.normal(0, 8, (count, 1, 1)), chance.normal(0, 6, (count, 1, 1))
        bands = np.linspace(-15, -60, 128) + tilt * np.linspace(-1, 1, 128)
        frames = np.clip(bands + level + chance.normal(0, 4, (count, 5, 128)), -85, 14)
        found.append(frames.reshape(count, 640).astype(np.float32))
    return Subject(source, {"x": found[0]}, {"x": found[1]})


def _test_images() -> Arrays:
    """Fashion-MNIST's 10,000 test images (n, 28, 28, 1), and what is on them."""
    if not FASHION.is_dir():
        raise Absent(f"{FASHION} is not there: apt-get install dataset-fashion-mnist")
    images, labels = (_idx(FASHION / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    return {"x": images[..., None], "y": labels.astype(np.int64)}


def _idx(file: Path) -> Array:
    content = gzip.decompress(file.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _npz(file: Path) -> dict[str, Array]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _bench(name: str) -> Path:
    folder = os.environ.get("EDGEQ_BENCH")
    if not folder:
        raise Absent("EDGEQ_BENCH is not set: the bench of real models is not here")
    if not (Path(folder) / name).exists():
        raise Absent(f"{name} is not in EDGEQ_BENCH")
    return Path(folder).absolute() / name
