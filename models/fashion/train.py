"""Train the demo model `fashion` and cut its samples; everything beside this file is made here.

A MobileNetV1 in small (Howard et al. 2017, https://arxiv.org/abs/1704.04861) learns Fashion-MNIST
(Xiao et al. 2017, https://arxiv.org/abs/1708.07747) from Debian's package `dataset-fashion-mnist`:

    apt-get install dataset-fashion-mnist
    python models/fashion/train.py

The one rule: no figure is written that this run did not measure, and no image is in two files.

The model is a subject for quantization tools. L2 on all parameters, those of the batch
normalization included, lets channels die; the next depthwise layer then divides by a variance of
nearly nothing, and folding the normalization makes that channel's weights tens of times larger
than its neighbours' (Sheng et al. 2018, https://arxiv.org/abs/1803.08607, met this in MobileNet).
With one scale a tensor the neighbours are rounded away, with one scale a channel nothing happens.
Not every run has such a channel: of the six seeds tried, the default is the one whose per-tensor
int8 build loses several points of accuracy on the evaluation samples, neither none nor nearly ten.

The same machine, packages and arguments give the same bytes, of the `.npz` files and of the
`.keras` file alike. Elsewhere the samples are the same, but the weights differ with the
processor's instructions, as floating-point sums do.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import yaml

LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
INPUT_SHAPE = (28, 28, 1)
BLOCKS = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))
L2 = 5e-4
BATCH = 128
SPLIT_SEED = 1
PER_CLASS = {"calibration": 50, "training": 800, "evaluation": 200}

_log = logging.getLogger("train")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Images `x`, uint8 (n, 28, 28, 1), pixels 0..255, and their classes `y`, int64 (n,)."""

    x: Array
    y: Array

    def take(self, index: Array) -> Samples:
        """Return the samples at `index`, in its order."""
        return Samples(self.x[index], self.y[index])


@dataclass(frozen=True)
class Split:
    """Who sees which images; no image content is in two of calibration, evaluation and `fit`.

    `fit` is all that the network learns from; `training` is a part of it, kept for QAT.
    """

    fit: Samples
    training: Samples
    calibration: Samples
    evaluation: Samples

    def files(self) -> dict[str, Samples]:
        """Return the samples to write, by file name."""
        return {"calibration.npz": self.calibration, "evaluation.npz": self.evaluation,
                "training.npz": self.training}


def main() -> None:
    """Train, measure and write everything into the output folder."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train, test = read(arguments.data, "train"), read(arguments.data, "t10k")
    split = cut(train, test)
    network = trained(split.fit, arguments.seed, arguments.epochs)
    accuracy = {"evaluation.npz": scored(network, split.evaluation),
                "test_split": scored(network, test)}
    _write(arguments.output_dir, network, split.files())
    card = describe(network, arguments, accuracy, _digests(arguments.output_dir, split))
    (arguments.output_dir / "model.yaml").write_text(card)
    _log.info("%s", card)


def read(folder: Path, name: str) -> Samples:
    """Read one of the two splits, `train` or `t10k`, in the IDX format of MNIST."""
    images = _idx(folder / f"{name}-images-idx3-ubyte.gz")
    labels = _idx(folder / f"{name}-labels-idx1-ubyte.gz")
    return Samples(images.reshape(-1, *INPUT_SHAPE), labels.astype(np.int64))


def cut(train: Samples, test: Samples) -> Split:
    """Draw the samples of each file, the same number of every class, in random order."""
    generator = np.random.default_rng(SPLIT_SEED)
    train, test = distinct(train, test)
    calibration = stratified(train.y, PER_CLASS["calibration"], generator)
    fit = train.take(np.setdiff1d(np.arange(len(train.y)), calibration))
    training = stratified(fit.y, PER_CLASS["training"], generator)
    evaluation = stratified(test.y, PER_CLASS["evaluation"], generator)
    return Split(fit, fit.take(training), train.take(calibration), test.take(evaluation))


def distinct(train: Samples, test: Samples) -> tuple[Samples, Samples]:
    """Drop every image that occurs earlier, in its own split or, for `test`, in `train`."""
    first: dict[bytes, int] = {}
    for index, image in enumerate(np.concatenate([train.x, test.x])):
        first.setdefault(image.tobytes(), index)
    kept, border = np.array(sorted(first.values())), len(train.y)
    return train.take(kept[kept < border]), test.take(kept[kept >= border] - border)


def stratified(classes: Array, per_class: int, generator: np.random.Generator) -> Array:
    """Draw the indices of `per_class` samples of every class, without repetition, shuffled."""
    drawn = [generator.choice(np.flatnonzero(classes == label), per_class, replace=False)
             for label in np.unique(classes)]
    return generator.permutation(np.concatenate(drawn))


def build() -> keras.Model:
    """Build the untrained network: raw pixels (batch, 28, 28, 1) in, ten probabilities out.

    There is no scaling of the pixels: the first convolution is followed by a normalization, so
    that the network learns the same from 0..255 as from 0..1, and 8-bit pixels need no arithmetic.
    """
    image = keras.Input(INPUT_SHAPE, name="image")
    flow = keras.layers.Conv2D(16, 3, 2, "same", name="stem", **_weights("kernel"))(image)
    flow = _normalized(flow, "stem")
    for number, (filters, stride) in enumerate(BLOCKS, start=1):
        depthwise, pointwise = f"depthwise_{number}", f"pointwise_{number}"
        flow = keras.layers.DepthwiseConv2D(
            3, stride, "same", name=depthwise, **_weights("depthwise"))(flow)
        flow = _normalized(flow, depthwise)
        flow = keras.layers.Conv2D(filters, 1, name=pointwise, **_weights("kernel"))(flow)
        flow = _normalized(flow, pointwise)
    flow = keras.layers.GlobalAveragePooling2D(name="pool")(flow)
    label = keras.layers.Dense(
        len(LABELS), "softmax", kernel_regularizer=_l2(), name="label")(flow)
    return keras.Model(image, label, name="fashion")


def trained(samples: Samples, seed: int, epochs: int) -> keras.Model:
    """Train a network on `samples`; what it needs for more training is left out of the result."""
    keras.utils.set_random_seed(seed)
    # Sums are cut by the number of threads: a fixed number makes them the same on more cores.
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.experimental.enable_op_determinism()
    network = build()
    steps = epochs * -(-len(samples.y) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(0.1, steps)
    network.compile(keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
                    "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(samples.x.astype(np.float32), samples.y, BATCH, epochs, verbose=2)
    bare = build()
    bare.set_weights(network.get_weights())
    return bare


def scored(network: keras.Model, samples: Samples) -> dict[str, float | int]:
    """Measure top-1 accuracy, a ratio, and the number of samples `n`."""
    guesses = network.predict(samples.x.astype(np.float32), batch_size=500, verbose=0).argmax(1)
    return {"top1": float(np.mean(guesses == samples.y)), "n": len(samples.y)}


def describe(network: keras.Model, arguments: argparse.Namespace,
             accuracy: Mapping[str, Mapping[str, float | int]], digests: Mapping[str, str]) -> str:
    """Write `model.yaml`: what the model is, where it comes from, and what it scored."""
    card = {
        "name": "fashion",
        "description": f"MobileNetV1 in small, {network.count_params()} parameters: "
                       "which of ten kinds of clothing is on a grey picture",
        "origin": {
            "trained_by": f"models/fashion/train.py --seed {arguments.seed} "
                          f"--epochs {arguments.epochs}",
            "trained_on": "Fashion-MNIST's train split, less the calibration samples",
            "packages": {"keras": keras.__version__, "tensorflow": tf.__version__},
            "upstream": "https://github.com/zalandoresearch/fashion-mnist",
            "debian_package": "dataset-fashion-mnist",
        },
        "licence": {"data": "MIT, Copyright 2017 Zalando SE", "weights": "MIT, with the project"},
        "input": {"shape": [1, *INPUT_SHAPE], "dtype": "float32", "samples_dtype": "uint8",
                  "meaning": "grey pixels 0..255 as they are, background 0, not scaled"},
        "output": {"shape": [1, len(LABELS)], "dtype": "float32",
                   "meaning": "probability of each label"},
        "labels": list(LABELS),
        "sha256": dict(digests),
        "float_accuracy": dict(accuracy),
    }
    return "# Written by train.py: do not edit.\n" + yaml.safe_dump(
        card, sort_keys=False, width=100)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model and cut its samples.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"),
                        help="folder of the four IDX files (default: Debian's, %(default)s)")
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).parent,
                        help="where to write (default: beside this file)")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    return parser.parse_args()


def _idx(path: Path) -> Array:
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _normalized(flow: Any, name: str) -> Any:
    # PyTorch's epsilon: Keras's own, a hundred times larger, would hide what a dead channel does.
    flow = keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_regularizer=_l2(), beta_regularizer=_l2(),
        name=f"{name}_norm")(flow)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(flow)


def _weights(kind: str) -> dict[str, Any]:
    return {"use_bias": False, f"{kind}_regularizer": _l2()}


def _l2() -> keras.Regularizer:
    return keras.regularizers.L2(L2)


def _write(folder: Path, network: keras.Model, files: Mapping[str, Samples]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in files.items():
        np.savez_compressed(folder / name, x=samples.x, y=samples.y)
    network.save(folder / "model.keras")
    _canonicalize(folder / "model.keras")


def _canonicalize(archive: Path) -> None:
    """Rewrite a `.keras` archive without what differs from run to run: times and addresses."""
    with zipfile.ZipFile(archive) as old:
        entries = {name: old.read(name) for name in sorted(old.namelist())}
    metadata = json.loads(entries["metadata.json"])
    entries["metadata.json"] = json.dumps({**metadata, "date_saved": ""}).encode()
    entries["config.json"] = _renumbered(entries["config.json"].decode()).encode()
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in entries.items():
            new.writestr(zipfile.ZipInfo(name), content)


def _renumbered(config: str) -> str:
    """Replace the addresses, by which Keras names objects that layers share, by 1, 2 and so on."""
    numbers: dict[str, int] = {}
    return re.sub(r'(?<="shared_object_id": )\d+',
                  lambda match: str(numbers.setdefault(match[0], len(numbers) + 1)), config)


def _digests(folder: Path, split: Split) -> dict[str, str]:
    names = ["model.keras", *split.files()]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


if __name__ == "__main__":
    main()
