"""Train the demo model `fashion_torch`: weights.safetensors and model.yaml are made here.

The network of model.py learns Fashion-MNIST (Xiao et al. 2017, https://arxiv.org/abs/1708.07747) from
Debian's package `dataset-fashion-mnist`, by the same schedule as its twin, models/fashion, and from the
same images: the train split, less the twin's calibration samples.

    apt-get install dataset-fashion-mnist
    python models/fashion_torch/train.py

The one rule: no figure is written that this run did not measure. The same machine, packages and
arguments give the same bytes; elsewhere the sums differ with the processor's instructions.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from model import CLASSES, fashion
from safetensors.torch import save_file
from torch import nn

LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
TWIN = Path(__file__).parent.parent / "fashion"
WEIGHTS = "weights.safetensors"
L2 = 5e-4  # times the sum of the squares, as Keras has it: its gradient is twice as much
BATCH = 128

_log = logging.getLogger("train")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Images `x`, uint8 (n, 1, 28, 28), pixels 0..255, and their classes `y`, int64 (n,)."""

    x: Array
    y: Array

    def take(self, index: Array) -> Samples:
        """Return the samples at `index`, in its order."""
        return Samples(self.x[index], self.y[index])

    def without(self, other: Samples) -> Samples:
        """Return those whose image is not in `other`, each image once."""
        seen = {image.tobytes() for image in other.x}
        kept = []
        for index, image in enumerate(self.x):
            if (content := image.tobytes()) not in seen:
                seen.add(content)
                kept.append(index)
        return self.take(np.array(kept))


def main() -> None:
    """Train, measure, and write the weights and what is to be said of them."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    network = trained(read(arguments.data, "train").without(cut("calibration")), arguments)
    accuracy = {"models/fashion/evaluation.npz": scored(network, cut("evaluation")),
                "test_split": scored(network, read(arguments.data, "t10k"))}
    # Parameters and statistics alone: how many batches were seen is nothing that inference needs.
    state = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    save_file(state, arguments.output_dir / WEIGHTS)
    card = describe(network, arguments, accuracy)
    (arguments.output_dir / "model.yaml").write_text(card, encoding="utf-8")
    _log.info("%s", card)


def read(folder: Path, name: str) -> Samples:
    """Read one of the two splits, `train` or `t10k`, in the IDX format of MNIST."""
    images = _idx(folder / f"{name}-images-idx3-ubyte.gz")
    labels = _idx(folder / f"{name}-labels-idx1-ubyte.gz")
    return Samples(images[:, np.newaxis], labels.astype(np.int64))


def cut(role: str) -> Samples:
    """Read the twin's samples for `role`, which it keeps channels last."""
    with np.load(TWIN / f"{role}.npz", allow_pickle=False) as archive:
        return Samples(np.moveaxis(archive["x"], -1, 1), archive["y"])


def trained(samples: Samples, arguments: argparse.Namespace) -> nn.Module:
    """Train a network on `samples`, and return it ready for inference."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(2)  # sums are cut by their number
    torch.use_deterministic_algorithms(mode=True)
    network = fashion()[0]
    steps = arguments.epochs * -(-len(samples.y) // BATCH)
    # As in the twin, all parameters are drawn to zero but the bias of the last layer.
    kept = [parameter for name, parameter in network.named_parameters() if name != "label.bias"]
    learner = torch.optim.SGD([{"params": kept, "weight_decay": 2 * L2}, {"params": [network.label.bias]}],
                              0.1, momentum=0.9, nesterov=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(learner, steps)
    generator = np.random.default_rng(arguments.seed)
    for epoch in range(arguments.epochs):
        losses = [_step(network, learner, rate, samples.take(index))
                  for index in _batches(generator.permutation(len(samples.y)))]
        _log.info("epoch %d of %d: loss %.4f", epoch + 1, arguments.epochs, np.mean(losses))
    return network.eval()


def scored(network: nn.Module, samples: Samples) -> dict[str, float | int]:
    """Measure top-1 accuracy, a ratio, and the number of samples `n`."""
    with torch.inference_mode():
        guesses = torch.cat([network(_pixels(samples.x[index])).argmax(1)
                             for index in _batches(np.arange(len(samples.y)))])
    return {"top1": float(np.mean(guesses.numpy() == samples.y)), "n": len(samples.y)}


def describe(network: nn.Module, arguments: argparse.Namespace,
             accuracy: Mapping[str, Mapping[str, float | int]]) -> str:
    """Write `model.yaml`: what the model is, where it comes from, and what it scored."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    weights = (arguments.output_dir / WEIGHTS).read_bytes()
    card = {
        "name": "fashion_torch",
        "description": f"MobileNetV1 in small, {parameters} parameters, in PyTorch: "
                       "which of ten kinds of clothing is on a grey picture",
        "origin": {
            "trained_by": f"models/fashion_torch/train.py --seed {arguments.seed} "
                          f"--epochs {arguments.epochs}",
            "trained_on": "Fashion-MNIST's train split, less models/fashion/calibration.npz",
            "packages": {"torch": torch.__version__.partition("+")[0]},
            "upstream": "https://github.com/zalandoresearch/fashion-mnist",
            "debian_package": "dataset-fashion-mnist",
        },
        "licence": {"data": "MIT, Copyright 2017 Zalando SE", "weights": "MIT, with the project"},
        "input": {"shape": [1, 1, 28, 28], "dtype": "float32", "samples_dtype": "uint8",
                  "meaning": "grey pixels 0..255 as they are, background 0, not scaled"},
        "output": {"shape": [1, CLASSES], "dtype": "float32", "meaning": "logit of each label"},
        "labels": list(LABELS),
        "sha256": {WEIGHTS: hashlib.sha256(weights).hexdigest()},
        "float_accuracy": dict(accuracy),
    }
    return "# Written by train.py: do not edit.\n" + yaml.safe_dump(card, sort_keys=False, width=100)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model in PyTorch.")
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


def _batches(order: Array) -> list[Array]:
    return np.array_split(order, np.arange(BATCH, len(order), BATCH))


def _pixels(images: Array) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32))


def _step(network: nn.Module, learner: Any, rate: Any, batch: Samples) -> float:
    loss = nn.functional.cross_entropy(network(_pixels(batch.x)), torch.from_numpy(batch.y))
    learner.zero_grad()
    loss.backward()
    learner.step()
    rate.step()
    return loss.item()


if __name__ == "__main__":
    main()
