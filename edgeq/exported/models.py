"""Exported programs as the steps of a build hand them on: a .pt2 file with its ends beside it."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.arrays import Array
from edgeq.baseline import ENDS
from edgeq.baseline import EXPORTED as BASELINE
from edgeq.exported.opening import entry_of, kind_of
from edgeq.exported.running import load_exported
from edgeq.quantization import EXPORTED

EXAMPLES, EXAMPLE_COUNT = "examples.npy", 3


def baseline_in(folder: Path) -> Any:
    """The exported program of the baseline in `folder`."""
    return load_exported(folder / BASELINE)


def exported_again(graph: Any, example: Any) -> Any:
    """`graph` as an exported program with a batch of 1, without traces of the files that it came from."""
    import torch

    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        exported = torch.export.export(graph, (example,))
    for node in exported.graph.nodes:
        for trace in ("stack_trace", "from_node"):  # the latter holds addresses, other ones in each run
            node.meta.pop(trace, None)
    return exported


def save(out: Path, exported: Any, baseline: Path, calibration: Array | None = None) -> None:
    """Write `out/model.pt2`, the ends of the `baseline` and a few samples of the `calibration` beside it."""
    import torch

    with warnings.catch_warnings(action="ignore"):
        torch.export.save(exported, out / EXPORTED)
    shutil.copyfile(baseline / ENDS, out / ENDS)
    if calibration is not None:
        shape = tuple(entry_of(exported).shape)
        np.save(out / EXAMPLES, np.array(calibration[:EXAMPLE_COUNT]).reshape(-1, *shape), allow_pickle=False)


def examples_in(quantized: Path, entry: Any) -> Array:
    """A few inputs (n, *shape with the batch) of the model in `quantized`: samples, or random numbers."""
    if (quantized / EXAMPLES).exists():
        loaded: Array = np.load(quantized / EXAMPLES, allow_pickle=False)
        return loaded.astype(kind_of(entry))
    draws = np.random.default_rng(0).random((EXAMPLE_COUNT, *entry.shape))
    return draws.astype(kind_of(entry))
