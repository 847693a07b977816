"""Which range each activation gets: by one method for all, or by what each does to the scores.

`auto` gives a tensor at a time each range that the methods propose, runs the rest of the float
model, and keeps the range that moves its scores least. That looks at one tensor alone; so the
integer model with these ranges is then held against those with the plain methods, and the one that
comes closest to the float scores is taken. All of it sees calibration samples and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import Refused
from edgeq.graph import Operator, Tensor, macs, parse
from edgeq.ptq.aims import aim
from edgeq.ptq.ranges import METHODS, Choice, Method, Range, ends_by, on_grid
from edgeq.ptq.stepping import Steps

Ranges = Mapping[str, Range]
FIXED = frozenset({"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION"})
MOVED = frozenset({  # what has the grid of its input
    "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER",
    "GATHER_ND", "MAX_POOL_2D", "MIRROR_PAD", "PAD", "RESHAPE", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT",
    "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK"})
PLAIN: tuple[Method, ...] = ("minmax", "average")
ALIKE = 0.01  # ranges that differ by less than this share of the widest are one
EFFORT = 60e9  # multiply-accumulates that looking for ranges may take
SAMPLES = 32
FEWEST = 4
CLEARLY = 0.9  # of the better plain method's loss: choosing tensor by tensor fits the samples a little

Build = Callable[[Ranges], bytes]


def ranges(baseline: bytes, samples: Array, choice: Choice, build: Build) -> Ranges:
    """Tensor name -> its range over `samples` (n, *shape) by `choice`; `build` quantizes with them.

    Raises Refused where the float model gives NaN or infinity.
    """
    if choice != "auto":
        return proposals(baseline, samples, (choice,))[choice]
    count = affordable(baseline, len(samples))
    methods = tuple(METHODS) if count >= FEWEST else PLAIN
    proposed = proposals(baseline, samples, methods)
    tried = [proposed[method] for method in PLAIN]
    if methods != PLAIN:
        tried.append(_one_by_one(baseline, samples[:count], [proposed[method] for method in methods]))
    goal = aim(baseline, samples)
    losses = [goal.loss(build(each), samples) for each in tried]
    plainest = int(np.argmin(losses[: len(PLAIN)]))
    return tried[-1] if losses[-1] < CLEARLY * losses[plainest] else tried[plainest]


def proposals(baseline: bytes, samples: Array, methods: tuple[Method, ...]) -> dict[Method, Ranges]:
    """What each of `methods` gives every float activation, in one run over `samples`."""
    found: dict[Method, dict[str, Range]] = {method: {} for method in methods}
    steps = Steps(baseline, samples)
    for tensor, _ in _floats(steps):
        for method in methods:
            found[method][tensor.name] = ends_by(method, steps.values[tensor.index])
    return {**found}


def affordable(baseline: bytes, count: int) -> int:
    """On how many of `count` samples each range can be tried, by the size of the model."""
    graph = parse(baseline, "the model")
    work = max(1, macs(graph)) * max(1, len(graph.operators)) * len(METHODS) / 2
    return min(count, SAMPLES, int(EFFORT / work))


def _one_by_one(baseline: bytes, samples: Array, proposed: Sequence[Ranges]) -> Ranges:
    """Each activation with the range, of those `proposed`, that moves the scores of `samples` least."""
    goal = aim(baseline, samples)
    steps = Steps(baseline, samples)
    found: dict[str, Range] = {}
    for tensor, operator in _floats(steps):
        values = steps.values[tensor.index]
        free = operator is None or operator.name not in FIXED | MOVED
        tried = _distinct([ranges[tensor.name] for ranges in proposed]) if free else [
            proposed[0][tensor.name]]
        losses = [] if len(tried) == 1 else [
            goal.distance(steps.scores({tensor.index: on_grid(values, ends)})) for ends in tried]
        found[tensor.name] = tried[int(np.argmin(losses)) if losses else 0]
    return found


def _distinct(proposed: list[Range]) -> list[Range]:
    """`proposed` without those that are much like an earlier one."""
    width = max(high - low for low, high in proposed)
    kept: list[Range] = []
    for ends in proposed:
        if all(max(abs(ends[0] - low), abs(ends[1] - high)) > ALIKE * width for low, high in kept):
            kept.append(ends)
    return kept


def _floats(steps: Steps) -> Iterator[tuple[Tensor, Operator | None]]:
    """The float activations, each when it has been written; Refused where one is NaN or infinite."""
    for tensor, operator in steps.written():
        if tensor.dtype == "FLOAT32" and tensor.elements:
            if not np.isfinite(steps.values[tensor.index]).all():
                raise Refused(f"the float model gives NaN or infinity in {tensor.name!r} (of "
                              f"{len(steps.graph.tensors)} tensors) on the calibration samples",
                              "an activation without a finite range cannot be quantized")
            yield tensor, operator
