"""The networks that firmware is measured on, and what an interpreter takes for them today.

The MLPerf Tiny models come from $EDGEQ_BENCH; a larger one is drawn here, layer by layer as MobileNetV1
(A. Howard et al., 2017) at half its width, with random weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests import graphs

# TFLM 90b983c2 with CMSIS-NN 4ab83cc3, gcc 12.2, -O2, measured on QEMU: millions of instructions an
# inference; flash with int8-only registrations and RAM (arena and data, without stack) on the Cortex-M4,
# in KB of 1000 bytes.
INTERPRETER = "TFLM 90b983c2 with CMSIS-NN 4ab83cc3"
FOLDER = "models/mlperf_tiny"
GRID, SPREAD = 6 / 255, 0.024  # of activations; of weights, to be divided by the root of what is summed up
# Channels and stride of MobileNetV1's pairs of layers.
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


@dataclass(frozen=True)
class Network:
    """A model's content, and the interpreter's figures for it, where they were measured."""

    content: Callable[[], bytes]
    millions: Mapping[str, float] = field(default_factory=dict)
    flash_kb: float | None = None
    ram_kb: float | None = None
    flash_share: float = 1.0


class Absent(Exception):
    """A model that is not here, and why."""


def _file(name: str) -> Callable[[], bytes]:
    def content() -> bytes:
        bench = os.environ.get("EDGEQ_BENCH")
        if not bench:
            raise Absent("EDGEQ_BENCH does not name the bench of real models")
        return (Path(bench) / FOLDER / name).read_bytes()
    return content


def mobilenet(size: int = 128, width: float = 0.5) -> bytes:
    """The .tflite file of MobileNetV1 over images of `size` x `size`, in int8; every layer's outputs vary."""
    net = _Drawn([graphs.tensor("in", (1, size, size, 3), "INT8", scale=GRID, zero=-128)])
    net.layer("CONV_2D", (1, -(-size // 2), -(-size // 2), int(32 * width)), (3, 3), 2)
    for channels, stride in PAIRS:
        batch, high, wide, depth = net.shape
        image = (batch, -(-high // stride), -(-wide // stride))
        net.layer("DEPTHWISE_CONV_2D", (*image, depth), (3, 3), stride)
        net.layer("CONV_2D", (*image, int(channels * width)), (1, 1), 1)
    _, *size_left, depth = net.shape
    net.add("AVERAGE_POOL_2D", "", (1, 1, 1, depth), padding=1, filterHeight=size_left[0],
            filterWidth=size_left[1], strideH=1, strideW=1)
    net.layer("FULLY_CONNECTED", (1, 1000), (), 1)
    return graphs.written(net.tensors, net.operators, "in", net.last)


class _Drawn:
    """A network whose weights are drawn so that the outputs of every layer spread over ReLU6's range."""

    def __init__(self, tensors: list[Any]) -> None:
        self.tensors, self.last = tensors, "in"
        self.operators: list[Any] = []
        self.chance = np.random.default_rng(0)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self.tensors[-1].shape)

    def layer(self, name: str, shape: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> None:
        """A layer to `shape` with ReLU6, and as much padding as keeps the size but for the stride."""
        deep, dense = name == "DEPTHWISE_CONV_2D", name == "FULLY_CONNECTED"
        channels, depth = shape[-1], 1 if deep else self.shape[-1]
        sizes = (1, *kernel, channels) if deep else (channels, *kernel, depth)
        scales = self.chance.uniform(0.8, 1.2, 1 if dense else channels) * SPREAD
        scales /= math.sqrt(math.prod((*kernel, depth)))
        weights, bias = (f"{each}{len(self.operators)}" for each in ("weights", "bias"))
        drawn = self.chance.integers(-127, 128, sizes).astype(np.int8)
        made = graphs.tensor(weights, sizes, "INT8", scale=scales, data=drawn)
        made.quantization.quantizedDimension = 3 if deep else 0
        zeros = np.zeros(channels, np.int32)
        biased = graphs.tensor(bias, (channels,), "INT32", scale=scales * GRID, data=zeros)
        self.tensors[-1:] = [made, biased, self.tensors[-1]]
        window = {} if dense else {"strideH": stride, "strideW": stride, "padding": 0,
                                   "dilationHFactor": 1, "dilationWFactor": 1}
        multiplier = {"depthMultiplier": 1} if deep else {}
        self.add(name, f" {weights} {bias}", shape, fusedActivationFunction=3, **window, **multiplier)

    def add(self, name: str, constants: str, shape: tuple[int, ...], **options: int) -> None:
        """An operator on the last value."""
        made = f"value{len(self.operators)}"
        self.tensors.append(graphs.tensor(made, shape, "INT8", scale=GRID, zero=-128))
        self.operators.append(graphs.operator(name, f"{self.last}{constants}", made, **options))
        self.last = made


NETWORKS: Mapping[str, Network] = {
    "kws": Network(_file("keyword_spotting/kws_ref_model.tflite"),
                   {"cortex-m4": 7.697, "cortex-m55": 1.813}, 107.5, 23.4, flash_share=0.8),
    "vww": Network(_file("visual_wake_words/vww_96_int8.tflite"),
                   {"cortex-m4": 24.10, "cortex-m55": 6.558}, 386.9, 101.3),
    "ic": Network(_file("image_classification/pretrainedResnet_quant.tflite"),
                  {"cortex-m4": 29.87, "cortex-m55": 4.913}, 149.9, 55.6, flash_share=0.8),
    "ad": Network(_file("anomaly_detection/ad01_int8.tflite"),
                  {"cortex-m4": 0.583, "cortex-m55": 0.150}, 305.2, 2.8),
    "mobilenet": Network(mobilenet),
}
