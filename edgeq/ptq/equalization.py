"""Cross-layer equalization: a channel made smaller in one layer and larger in the next.

Where nothing but a positively homogeneous function f(s x) = s f(x) stands between two layers,
W1 / s and W2 * s give the same outputs for any s > 0 a channel. One grid for all channels serves
them best when they are alike:

    s_i = sqrt(r1_i / r2_i),  r1_i and r2_i the largest |W1| and |W2| of channel i

(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv
1906.04721, section 4.1). Activations have one grid for all channels as well: `balanced` lets
them count beside the weights.

The rule kept here: the float model is run again after every edit, and an edit that moves its outputs
is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import Change, Tensor, edited, parse, values_of
from edgeq.ptq.chains import RELU, Pair, by_row, chains, incoming, outgoing
from edgeq.ptq.stepping import Steps
from edgeq.quantization import Granularity

VALID = 1  # of schema.fbs: Padding
CAP = 6.0
HEADROOM = 1.25  # how far what was not seen may exceed what was, before a cap that moved clips it
CAPPED = 0.999  # of the cap: what comes that close was clipped
ALIKE = 1e-5  # share of the power of a layer's outputs by which an edit may move them
SWEEPS = 20
TINY = float(np.finfo(np.float32).tiny)
WIDEST = 1e3  # of a scale, either way: beyond, float arithmetic itself begins to move

Balance = Callable[[Pair, Floats, Floats, Floats], Floats]


def cross_layer(first: Floats, second: Floats) -> Floats:
    """The scales s (channels,) = sqrt(r1 / r2) for the largest weights r1 and r2 of each channel.

    A channel that either layer has only zeros for keeps its scale.
    """
    alive = (first > 0) & (second > 0)
    ratio = np.sqrt(np.where(alive, first, 1) / np.where(alive, second, 1))
    return np.clip(ratio, 1 / WIDEST, WIDEST).astype(np.float32)


def within_cap(scale: Floats, most: Floats) -> Floats:
    """`scale` as far as a cap at 6 stays exact for channels whose largest values are `most`.

    A channel that reaches the cap keeps its scale: its cap would move with it. The others stay
    below it, with room for larger values than were seen.
    """
    free = np.maximum(scale, most * HEADROOM / CAP)
    return np.where(most >= CAPPED * CAP, 1.0, free).astype(np.float32)


def solved(pairs: Sequence[Pair], most: Sequence[Floats], balance: Balance) -> list[Floats]:
    """The scale of each pair's channels when no sweep over all pairs changes them any more.

    `most` are the largest outputs of each first layer, in the model as it is.
    """
    matrices = {layer.operator.index: layer.matrix(values_of(layer.weights))
                for pair in pairs for layer in (pair.first, pair.second)}
    totals = [np.ones(pair.first.channels, np.float32) for pair in pairs]
    for _ in range(SWEEPS):
        before = list(totals)
        for place, pair in enumerate(pairs):
            first, second = (matrices[layer.operator.index] for layer in (pair.first, pair.second))
            total = totals[place] * balance(pair, first, second, most[place] / totals[place])
            total = np.clip(total, 1 / WIDEST, WIDEST)
            total = within_cap(total, most[place]) if pair.capped else total
            scale, totals[place] = total / totals[place], total
            matrices[pair.first.operator.index] = first / pair.first.by_channel(scale)
            matrices[pair.second.operator.index] = second * by_row(pair.second, second, scale)
        if all(np.allclose(new, old, rtol=1e-2) for new, old in zip(totals, before, strict=True)):
            break
    return totals


def by_weights(pair: Pair, first: Floats, second: Floats, most: Floats) -> Floats:  # noqa: ARG001  # a Balance
    """The paper's own balance: the weights of both layers."""
    return cross_layer(outgoing(first), incoming(pair.second, second, pair.first.channels))


def balanced(granularity: Callable[[str], Granularity]) -> Balance:
    """A balance of all that shares a grid: activations, and the weights that are scaled per tensor.

    On the left of a pair stands the fuller of weights and activations, each as a share of its
    largest, on the right the weights alone. Where the second layer is a depthwise one with a scale
    a channel, nothing on its side is lost, and the activations fill their grid.
    """
    def balance(pair: Pair, first: Floats, second: Floats, most: Floats) -> Floats:
        left = _share(most)
        if granularity(pair.first.operator.name) == "per_tensor":
            left = np.maximum(left, _share(outgoing(first)))
        depthwise = pair.second.operator.name == "DEPTHWISE_CONV_2D"
        if depthwise and granularity(pair.second.operator.name) == "per_channel":
            return np.where(left > 0, left, 1).astype(np.float32)
        return cross_layer(left, _share(incoming(pair.second, second, pair.first.channels)))

    return balance


def _share(values: Floats) -> Floats:
    share: Floats = values / max(float(values.max()), TINY)
    return share


def equalized(baseline: bytes, samples: Array, balance: Balance) -> tuple[bytes, int, int]:
    """`baseline` equalized by `balance`, how many pairs of layers were, and how many were undone."""
    pairs = chains(parse(baseline, "the model"))
    scale = solved(pairs, _largest(baseline, samples, pairs), balance)
    steps = Steps(baseline, samples)
    changes: dict[int, Change] = {}
    undone = 0
    for pair, each in zip(pairs, scale, strict=True):
        steps.advance(pair.first.operator.index)
        operators = [pair.first.operator, *pair.between, pair.second.operator]
        made = _scaled(pair, each, changes)
        if alike(steps.through(operators, changes=made), steps.through(operators)):
            steps.change(made)
            changes |= made
        else:
            undone += 1
    content = edited(baseline, changes)
    if not alike(Steps(content, samples).rest(), Steps(baseline, samples).rest()):
        return baseline, 0, len(pairs)
    return content, len(pairs) - undone, undone


def absorbed(baseline: bytes, samples: Array) -> tuple[bytes, int]:
    """`baseline` with high biases moved on to the next layer, and how many channels it was done for.

    Where a channel is never less than c > 0, it may as well start at 0 and the next layer's bias take
    up the rest: b1 - c, b2 + c W2 (section 4.1.3). Only where no padding puts zeros beside it.
    """
    pairs = [pair for pair in chains(parse(baseline, "the model")) if _absorbs(pair)]
    steps = Steps(baseline, samples)
    changes: dict[int, Change] = {}
    count = 0
    for pair in pairs:
        steps.advance(pair.first.operator.index)
        always = high_bias(steps.outputs(pair.first.operator)[0].reshape(-1, pair.first.channels))
        operators = [pair.first.operator, pair.second.operator]
        made = _shifted(pair, always, changes)
        if always.any() and alike(steps.through(operators, changes=made), steps.through(operators)):
            steps.change(made)
            changes |= made
            count += int((always > 0).sum())
    return edited(baseline, changes), count


def high_bias(outputs: Floats) -> Floats:
    """How much of each channel of outputs (positions, channels) is always there, and at least 0.

    It is mean - 3 std, at most the least that was seen. The paper takes mean and deviation from the
    batch normalization; here they are those of the calibration samples.
    """
    usual = outputs.mean(axis=0) - 3 * outputs.std(axis=0)
    always: Floats = np.maximum(0, np.minimum(usual, outputs.min(axis=0))).astype(np.float32)
    return always


def _absorbs(pair: Pair) -> bool:
    fused = pair.first.operator.options.get("fusedActivationFunction")
    second = pair.second
    kernel = second.weights.shape[1:3] if second.operator.name != "FULLY_CONNECTED" else (1, 1)
    unpadded = kernel == (1, 1) or second.operator.options.get("padding") == VALID
    plain = second.operator.name != "TRANSPOSE_CONV" and not pair.between and not pair.capped
    return bool(plain and unpadded and fused == RELU and second.bias)


def _shifted(pair: Pair, always: Floats, changes: Mapping[int, Change]) -> dict[int, Change]:
    """What takes `always` (channels,) off the first layer's bias and puts its product on the second's."""
    rows = by_row(pair.second, matrix := pair.second.matrix(values_of(pair.second.weights)), always)
    shifts = {pair.first: -always, pair.second: (matrix * rows).sum(axis=1).reshape(-1)}
    return {layer.bias.index: Change(_current(layer.bias, changes) + shift)
            for layer, shift in shifts.items() if layer.bias}


def _current(tensor: Tensor, changes: Mapping[int, Change]) -> Array:
    """The values of a constant after the `changes` that were made already."""
    earlier = changes.get(tensor.index)
    return values_of(tensor) if earlier is None or earlier.values is None else earlier.values


def alike(outputs: Floats, wanted: Floats) -> bool:
    """Whether outputs moved by no more than float arithmetic moves them."""
    moved = np.square(outputs - wanted, dtype=np.float64).sum()
    return bool(moved <= ALIKE * np.square(wanted, dtype=np.float64).sum())


def _largest(baseline: bytes, samples: Array, pairs: Sequence[Pair]) -> list[Floats]:
    """The largest magnitude of each channel that the first layer of each pair puts out."""
    steps = Steps(baseline, samples)
    found = []
    for pair in pairs:
        steps.advance(pair.first.operator.index)
        outputs = np.abs(steps.outputs(pair.first.operator)[0])
        found.append(outputs.reshape(-1, pair.first.channels).max(axis=0))
    return found


def _scaled(pair: Pair, scale: Floats, changes: Mapping[int, Change]) -> dict[int, Change]:
    """What makes the first layer's channels smaller by `scale` and the second's inputs larger.

    `changes` are those made already: a layer may be the second of one pair and the first of the next.
    """
    first, second = pair.first, pair.second
    rows = second.matrix(_current(second.weights, changes))
    columns = first.matrix(_current(first.weights, changes))
    made = {first.weights.index: Change(first.filters(columns / first.by_channel(scale))),
            second.weights.index: Change(second.filters(rows * by_row(second, rows, scale)))}
    if first.bias:
        made[first.bias.index] = Change(_current(first.bias, changes) / scale)
    return made
