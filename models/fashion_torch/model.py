"""The demo model `fashion` in PyTorch: the same layers, channels first, and logits for probabilities.

`model:fashion` is what pipeline.yaml names as the source: the network and one example of what it takes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

CLASSES = 10
BLOCKS = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))


class Fashion(nn.Module):
    """A MobileNetV1 in small (Howard et al. 2017, https://arxiv.org/abs/1704.04861).

    Grey pixels 0..255, float32 (batch, 1, 28, 28), go in as they are, and ten logits come out. The first
    convolution is followed by a normalization, so that there is nothing to scale.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = normalized(nn.Conv2d(1, 16, 3, 2, 1, bias=False))
        blocks, width = OrderedDict[str, nn.Module](), 16
        for number, (filters, stride) in enumerate(BLOCKS, start=1):
            blocks[f"depthwise_{number}"] = normalized(
                nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False))
            blocks[f"pointwise_{number}"] = normalized(nn.Conv2d(width, filters, 1, bias=False))
            width = filters
        self.blocks = nn.Sequential(blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.label = nn.Linear(width, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (batch, 10) of `image`, (batch, 1, 28, 28)."""
        pooled = self.pool(self.blocks(self.stem(image)))
        logits: torch.Tensor = self.label(pooled.flatten(1))
        return logits


def normalized(convolution: nn.Conv2d) -> nn.Sequential:
    """`convolution`, a normalization and the ReLU that 8 bits like best."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU6())


def fashion() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """The network, untrained, and an example of its input: pipeline.yaml says where its weights are."""
    return Fashion(), (torch.zeros(1, 1, 28, 28),)
