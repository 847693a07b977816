"""Operators of an exported program spelled in the one way that quantizers and partitioners look for.

The one rule: another word for the same arithmetic, never other arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

POOLS = frozenset({"aten.max_pool1d.default", "aten.max_pool2d.default", "aten.avg_pool1d.default",
                   "aten.avg_pool2d.default"})


def spell_plainly(program: Any) -> None:
    """Rewrite the nodes of the torch.export.ExportedProgram `program`: clamps, strides and paddings.

    A ReLU6 is the hardtanh from 0 to 6; a pooling without a stride has its window's, which ExecuTorch's
    XNNPACK partitioner does not know (1.5.1); a padding of `same` is a number where both sides have the same.
    """
    import torch

    aten = torch.ops.aten
    for node in program.graph.nodes:
        name = str(node.target)
        if name == "aten.relu6.default":
            node.target, node.args = aten.hardtanh.default, (node.args[0], 0.0, 6.0)
        elif name == "aten.relu6_.default":
            node.target, node.args = aten.hardtanh_.default, (node.args[0], 0.0, 6.0)
        elif name in POOLS and (len(node.args) < 3 or not node.args[2]):
            node.args = (node.args[0], node.args[1], node.args[1], *node.args[3:])
        elif name == "aten.conv2d.padding" and (padding := _padding(node)) is not None:
            node.target, node.args = aten.conv2d.default, (*_filled(node, padding),)
    program.graph_module.recompile()


def _padding(node: Any) -> list[int] | None:
    """How much a convolution with a padding in words pads each side; None where the sides differ."""
    window = node.args[1].meta["val"].shape[2:]
    given = node.args[4] if len(node.args) > 4 else "valid"
    spread = node.args[5] if len(node.args) > 5 else [1] * len(window)
    if given == "valid":
        return [0] * len(window)
    whole = [step * (size - 1) for step, size in zip(spread, window, strict=True)]
    return [each // 2 for each in whole] if not any(each % 2 for each in whole) else None


def _filled(node: Any, padding: list[int]) -> Iterator[Any]:
    """The arguments of a convolution, with a padding in numbers in the place of that in words."""
    defaults = (None, None, None, [1] * len(padding))
    yield from (*node.args[:4], *defaults[len(node.args):])
    yield padding
    yield from node.args[5:]
