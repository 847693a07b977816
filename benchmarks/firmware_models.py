"""The networks that firmware is measured on, and what an interpreter takes for them today.

The MLPerf Tiny models come from $EDGEQ_BENCH; a larger one is drawn here, layer by layer as MobileNetV1
(A. Howard et al., 2017) at half its width, with random weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.firmware_nets import Net

# TFLM 90b983c2 with CMSIS-NN 4ab83cc3, gcc 12.2, -O2, measured on QEMU: millions of instructions an
# inference; flash with int8-only registrations and RAM (arena and data, without stack) on the Cortex-M4,
# in KB of 1000 bytes.
INTERPRETER = "TFLM 90b983c2 with CMSIS-NN 4ab83cc3"
FOLDER = "models/mlperf_tiny"
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
    """The .tflite file of MobileNetV1 over images of `size` x `size`, in int8."""
    net = Net((1, size, size, 3), seed=0)
    value = net.conv("in", int(32 * width), (3, 3), options={"stride": (2, 2), "activation": "relu6"})
    for channels, stride in PAIRS:
        value = net.conv(value, 1, (3, 3), kind="DEPTHWISE_CONV_2D",
                         options={"stride": (stride, stride), "activation": "relu6"})
        value = net.conv(value, int(channels * width), (1, 1), options={"activation": "relu6"})
    high, wide, depth = net.shape(value)[1:]
    value = net.add("AVERAGE_POOL_2D", value, [1, 1, 1, depth], net.grid(value), padding=1, filterHeight=high,
                    filterWidth=wide, strideH=high, strideW=wide, fusedActivationFunction=0)
    net.dense(value, 1000, per_channel=False)
    return net.file()


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
