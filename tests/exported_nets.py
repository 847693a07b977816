"""Small networks as exported programs, made as the frontends make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.backends.executorch import Executorch
from edgeq.baseline import End, write_ends
from edgeq.recipes.exported_float32 import ExportedFloat32

MARK = 0.123456  # a weight that can be found in a file


def network() -> Any:
    """Convolutions with a clamp behind them, a reshaping that names the batch, and a linear layer."""
    import torch
    from torch import nn

    torch.manual_seed(1)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.norm, self.last = nn.BatchNorm2d(8), nn.Linear(8 * 16, 4)

        def forward(self, x: Any) -> Any:
            inner = nn.functional.relu6(self.norm(self.first(x)))
            pooled = nn.functional.max_pool2d(nn.functional.relu(self.second(inner)), 2, 2)
            return self.last(pooled.view(x.shape[0], -1))

    made = Small().eval()
    with torch.no_grad():
        made.last.weight[0, 0] = MARK
    return made


def attention() -> Any:
    """A block of a transformer over 4 tokens of 32."""
    import torch
    from torch import nn

    torch.manual_seed(2)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.three, self.out = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)
            self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x: Any) -> Any:
            q, k, v = self.three(self.norm(x)).chunk(3, -1)
            x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
            return (x + self.down(nn.functional.gelu(self.up(x)))).mean(1)

    return Block().eval()


def write(out: Path, module: Any, shape: tuple[int, ...]) -> Path:
    """Write the baseline of `module`, whose input is of this shape with the batch, into `out`."""
    import torch

    example = torch.zeros(shape)
    exported = torch.export.export(module, (example,))
    torch.export.save(exported, out / "baseline.pt2")
    with torch.no_grad():
        given = tuple(module(example).shape)
    write_ends(out, End("x", shape, "FLOAT32"), End("y", given, "FLOAT32"))
    return out


def samples(out: Path, shape: tuple[int, ...], labels: int = 0) -> Path:
    """A data set of this shape (n, …) in `out`, with class numbers where there are `labels`."""
    out.mkdir(exist_ok=True)
    draw = np.random.default_rng(4)
    np.save(out / "x.npy", draw.random(shape).astype(np.float32))
    if labels:
        np.save(out / "y.npy", draw.integers(0, labels, shape[0]))
    return out


def made(out: Path) -> Path:
    """The baseline of `network`, and its program for the portable kernels, in `out`."""
    write(out, network(), (1, 1, 8, 8))
    quantized = out / "quantized"
    quantized.mkdir()
    ExportedFloat32().quantize(quantized, out)
    Executorch("portable").compile(out, quantized)
    return out


def mixing(out: Path) -> Path:
    """A module that adds the mean of the batch: for several samples at once it computes something else."""
    import torch

    class Mixing(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x + x.mean(0, keepdim=True)

    return write(out, Mixing(), (1, 1, 4)) / "baseline.pt2"
