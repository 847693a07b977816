"""Training an exported program with its grids simulated, so that its weights allow for them.

Jacob et al. 2018 (arXiv 1712.05877), by torchao's PT2E. The graph is that of inference: normalizations
are folded into the weights before, and nothing is dropped at random. The ranges of activations are found
before the first epoch, and follow those of its batches. Of all epochs, and of the weights before them, those
with the least loss on held-back samples are kept: training can make things worse.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from edgeq import progress
from edgeq.arrays import Array
from edgeq.errors import ConfigError, Refused
from edgeq.exported.opening import Module, single

HELD_BACK = 0.1  # of the samples
FIRST = 512  # samples that the ranges are found by
HINT = "give a class number a sample, as integers, or floats of the output's shape"


@dataclass(frozen=True)
class Course:
    """How a graph is trained, by Adam, and the seed that its batches are drawn by."""

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int


def train(module: Module, x: Array, y: Array | None, course: Course) -> None:
    """Train the graph of `module` in place on samples x (n, …) and what it shall give for them, y.

    Class numbers are learned by cross entropy, values of the output's shape by the mean squared error; a
    model that gives back its input's shape learns its input. Raises ConfigError where y is neither,
    Refused where the training diverges.
    """
    import torch

    torch.manual_seed(course.seed)
    loss_of = _loss(module, x, y)
    learned, held_back = _parted(len(x), course)
    module.outputs(x[learned[:FIRST]])
    best = (_mean_loss(loss_of, held_back, course), copy.deepcopy(module.graph.state_dict()))
    weights = [each for each in module.graph.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(weights, course.learning_rate)
    for epoch in range(course.epochs):
        _set_observing(module.graph, observing=epoch == 0)
        for share, chosen in _batches(learned, course, epoch):
            optimizer.zero_grad()
            with _converging():
                loss_of(chosen).backward()
            optimizer.step()
            progress.tell((epoch + share) / course.epochs, f"epoch {epoch + 1} of {course.epochs}")
        _set_observing(module.graph, observing=False)
        if (found := _mean_loss(loss_of, held_back, course)) < best[0]:
            best = (found, copy.deepcopy(module.graph.state_dict()))
    module.graph.load_state_dict(best[1])


def _parted(count: int, course: Course) -> tuple[Array, Array]:
    """The samples that are learned, and those that are held back, by the seed."""
    order = np.random.default_rng(course.seed).permutation(count)
    held = max(1, round(count * HELD_BACK))
    return order[held:], order[:held]


def _mean_loss(loss_of: Callable[[Array], Any], chosen: Array, course: Course) -> float:
    """The loss over the samples `chosen`; Refused where it is no number."""
    import torch

    with torch.no_grad(), _converging():
        starts = range(0, len(chosen), course.batch_size)
        batches = [chosen[start:start + course.batch_size] for start in starts]
        found = sum(float(loss_of(batch)) * len(batch) for batch in batches) / len(chosen)
    if not isfinite(found):
        raise _diverged()
    return found


@contextmanager
def _converging() -> Iterator[None]:
    """Makes a Refused of what torchao says in the block of ranges that are no numbers."""
    try:
        yield
    except AssertionError as error:
        raise _diverged() from error


def _diverged() -> Refused:
    return Refused("the training diverged: its loss is no number any more", "a smaller `learning_rate`")


def _batches(learned: Array, course: Course, epoch: int) -> Iterator[tuple[float, Array]]:
    """The samples of an epoch in batches, by the seed and its number, and how far it is with each."""
    order = np.random.default_rng((course.seed, epoch)).permutation(learned)
    for start in range(0, len(order), course.batch_size):
        yield start / len(order), order[start:start + course.batch_size]


def _loss(module: Module, x: Array, y: Array | None) -> Callable[[Array], Any]:
    """The loss over the samples of some indices."""
    import torch
    from torch.nn import functional

    shares = _gives_shares(module, x)

    def outputs(chosen: Array) -> Any:
        return torch.cat([single(module.graph(batch)) for batch in module.batches(x[np.sort(chosen)])])

    def of_classes(chosen: Array) -> Any:
        given, wanted = outputs(chosen), torch.from_numpy(np.sort(chosen))
        labels = classes[wanted]
        logs = given.clamp_min(1e-7).log() if shares else given
        return functional.nll_loss(logs, labels) if shares else functional.cross_entropy(logs, labels)

    def of_values(chosen: Array) -> Any:
        given = outputs(chosen)
        return functional.mse_loss(given, values[np.sort(chosen)].reshape(given.shape))

    if y is not None and np.issubdtype(y.dtype, np.integer) and y.size == len(x):
        classes = torch.from_numpy(np.array(y).reshape(-1).astype(np.int64))
        return of_classes
    values = torch.from_numpy(np.array(x if y is None else y, np.float32))
    if values[0].numel() != module.outputs(x[:1])[0].numel():
        raise ConfigError("training data has no labels y that the model could learn", HINT)
    return of_values


def _gives_shares(module: Module, x: Array) -> bool:
    """Whether the model ends in a softmax, by what it gives for a few samples."""
    outputs = module.outputs(x[:8])
    return bool((outputs >= 0).all()) and bool(((outputs.sum(-1) - 1).abs() < 0.05).all())


def _set_observing(graph: Any, *, observing: bool) -> None:
    """Let the grids of activations follow what is seen, or stand; those of weights always follow."""
    from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize

    for each in graph.modules():
        if isinstance(each, FusedMovingAvgObsFakeQuantize):
            each.enable_observer(observing)
