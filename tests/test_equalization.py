"""Equalization: what it moves stays in the family, and the float model computes what it did."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from graphs import Net

from edgeq.graph import layers, parse, settled, values_of
from edgeq.ptq import equalization
from edgeq.ptq.chains import by_row, chains, fan_in, incoming, outgoing
from edgeq.ptq.equalization import (
    CAP,
    HEADROOM,
    WIDEST,
    absorbed,
    alike,
    balanced,
    by_weights,
    cross_layer,
    equalized,
    high_bias,
    within_cap,
)
from edgeq.ptq.stepping import Steps

BALANCES = {"weights": by_weights, "per channel": balanced(lambda _: "per_channel"),
            "per tensor": balanced(lambda _: "per_tensor")}
UNEVEN = np.geomspace(0.02, 50, 8)


def samples(shape, count: int = 6, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape[1:])).astype(np.float32)


def uneven(net: Net, *shape) -> np.ndarray:
    """Weights whose eight output channels, the first axis or the last, differ by up to 2500."""
    weights = net.drawn(*shape)
    return weights * (UNEVEN if shape[0] == 1 else UNEVEN.reshape(-1, *(1 for _ in shape[1:])))


def test_two_channels_by_hand():
    """s = sqrt(r1 / r2): 8 and 2 meet at 4, 1 and 9 at 3."""
    first, second = np.float32([8, 1]), np.float32([2, 9])
    scale = cross_layer(first, second)
    np.testing.assert_allclose(scale, [2, 1 / 3])
    np.testing.assert_allclose(first / scale, [4, 3])
    np.testing.assert_allclose(second * scale, [4, 3])


def test_a_channel_of_zeros_on_either_side_keeps_its_scale():
    assert cross_layer(np.float32([0, 4, 0]), np.float32([4, 0, 0])).tolist() == [1, 1, 1]


def test_a_scale_goes_no_further_than_float_arithmetic_stands():
    assert cross_layer(np.float32([1e20, 1e-20]), np.float32([1, 1])).tolist() == pytest.approx(
        [WIDEST, 1 / WIDEST])


def test_a_channel_that_reaches_its_cap_keeps_its_scale_and_others_stay_below_it():
    scale, most = np.float32([0.1, 3, 0.1, 0.1]), np.float32([6, 6, 1.2, 0])
    found = within_cap(scale, most)
    np.testing.assert_allclose(found, [1, 1, 1.2 * HEADROOM / CAP, 0.1])
    assert (most[2:] / found[2:] <= CAP / HEADROOM + 1e-6).all()


KINDS = ("conv", "grouped", "depthwise", "doubled", "dense", "transposed")


def second_of(kind: str) -> tuple[Net, np.ndarray]:
    """A first layer with eight channels, and a second layer of this kind that reads them."""
    net = Net((1, 6, 6, 3))
    first = net.conv("in", uneven(net, 8, 3, 3, 3), activation="relu")
    if kind == "dense":
        net.dense(net.reshape(first, (1, 288)), net.drawn(5, 288))
    elif kind in ("depthwise", "doubled"):
        net.depthwise(first, net.drawn(1, 3, 3, 8 if kind == "depthwise" else 16))
    elif kind == "transposed":
        net.transposed(first, net.drawn(5, 3, 3, 8), stride=(2, 2))
    else:
        net.conv(first, net.drawn(4, 3, 3, 8 if kind == "conv" else 4))
    return net, samples((1, 6, 6, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_a_channel_are_found_in_every_kind_of_layer(kind):
    """Only the weights that read channel 3 count for it, and scaling them is scaling the channel."""
    net, _ = second_of(kind)
    first, second = layers(parse(net.file(), "x"))
    matrix = second.matrix(values_of(second.weights))
    scale = np.ones(8, np.float32)
    scale[3] = 100
    changed = matrix * by_row(second, matrix, scale)
    found, before = (incoming(second, each, 8) for each in (changed, matrix))
    np.testing.assert_allclose(found, before * scale, rtol=1e-6)
    assert fan_in(second) == (288 if kind == "dense" else 8)
    read = np.abs(np.random.default_rng(0).normal(size=second.source.shape)).astype(np.float32)
    scaled = read * np.tile(scale, read.shape[-1] // 8)
    np.testing.assert_allclose(second.patches(scaled) @ matrix, second.patches(read) @ changed, rtol=1e-3,
                               atol=1e-3)
    np.testing.assert_allclose(outgoing(first.matrix(values_of(first.weights))),
                               np.abs(values_of(first.weights)).reshape(8, -1).max(axis=1))


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("kind", KINDS)
def test_equalized_layers_are_more_even_and_compute_what_they_did(kind, balance):
    net, given = second_of(kind)
    content = net.file()
    made, done, undone = equalized(content, given, BALANCES[balance])
    assert (done, undone) == (1, 0)
    before, after = (Steps(each, given).rest() for each in (content, made))
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
    spreads = [np.ptp(np.log(largest(each, given))) for each in (content, made)]
    assert spreads[1] < 0.8 * spreads[0]


def largest(content: bytes, given) -> np.ndarray:
    """The largest output of each channel of the first layer."""
    outputs = Steps(content, given).outputs(parse(content, "x").operators[0])[0]
    return np.abs(outputs).reshape(-1, 8).max(axis=0)


def test_the_papers_balance_makes_the_ranges_of_both_layers_equal():
    net, given = second_of("conv")
    made, *_ = equalized(net.file(), given, by_weights)
    first, second = layers(parse(made, "x"))
    np.testing.assert_allclose(outgoing(first.matrix(values_of(first.weights))),
                               incoming(second, second.matrix(values_of(second.weights)), 8), rtol=1e-3)


def test_a_chain_of_layers_settles_together():
    net = Net((1, 6, 6, 3))
    value = net.conv("in", uneven(net, 8, 3, 3, 3), activation="relu")
    value = net.depthwise(value, uneven(net, 1, 3, 3, 8), activation="relu")
    value = net.conv(value, net.drawn(8, 1, 1, 8), activation="relu")
    net.dense(net.mean(value), net.drawn(5, 8))
    given = samples((1, 6, 6, 3))
    made, done, undone = equalized(net.file(), given, by_weights)
    assert (done, undone) == (3, 0)
    found = layers(parse(made, "x"))
    for first, second in itertools.pairwise(found):
        np.testing.assert_allclose(outgoing(first.matrix(values_of(first.weights))),
                                   incoming(second, second.matrix(values_of(second.weights)), 8), rtol=0.1)
    np.testing.assert_allclose(Steps(made, given).rest(), Steps(net.file(), given).rest(), atol=1e-4)


def test_the_same_model_is_equalized_to_the_same_bytes():
    net, given = second_of("depthwise")
    assert equalized(net.file(), given, by_weights) == equalized(net.file(), given, by_weights)


def between(name: str) -> Net:
    """Two convolutions, or a convolution and a dense layer, with this between them."""
    net = Net((1, 6, 6, 3))
    value = net.conv("in", uneven(net, 8, 3, 3, 3), activation="relu")
    pooling = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, "padding": 1}
    if name == "PAD":
        margin = net.constant(np.int32([[0, 0], [1, 1], [1, 1], [0, 0]]))
        value = net.add("PAD", f"{value} {margin}", (1, 8, 8, 8))
    elif name.endswith("POOL_2D"):
        value = net.add(name, value, (1, 3, 3, 8), **pooling)
    elif name in ("RELU", "TANH", "LOGISTIC"):
        value = net.add(name, value, (1, 6, 6, 8))
    elif name == "MEAN and RESHAPE":
        value = net.reshape(net.mean(value), (1, 1, 1, 8))
    elif name == "a shift":
        value = net.add("ADD", f"{value} {net.constant(np.ones(8, np.float32))}", (1, 6, 6, 8))
    net.conv(value, net.drawn(4, 1, 1, 8))
    return net


@pytest.mark.parametrize(("name", "found"), [
    ("PAD", 1), ("MAX_POOL_2D", 1), ("AVERAGE_POOL_2D", 1), ("RELU", 1), ("MEAN and RESHAPE", 1),
    ("TANH", 0), ("LOGISTIC", 0), ("a shift", 0)])
def test_a_scale_passes_only_through_what_is_homogeneous(name, found):
    net = between(name)
    pairs = chains(parse(net.file(), "x"))
    assert len(pairs) == found
    given = samples((1, 6, 6, 3))
    made, done, undone = equalized(net.file(), given, by_weights)
    assert (done, undone) == (found, 0)
    np.testing.assert_allclose(Steps(made, given).rest(), Steps(net.file(), given).rest(), atol=1e-4)
    assert (made == settled(net.file(), "x")) == (not found)


def consumed_twice() -> Net:
    net = Net((1, 6, 6, 3))
    first = net.conv("in", uneven(net, 8, 3, 3, 3), activation="relu")
    second = net.conv(first, net.drawn(8, 1, 1, 8))
    net.add("ADD", f"{first} {second}", (1, 6, 6, 8))
    return net


def two_outputs() -> tuple[Net, str]:
    net = Net((1, 6, 6, 3))
    first = net.conv("in", uneven(net, 8, 3, 3, 3), activation="relu")
    net.conv(first, net.drawn(4, 1, 1, 8))
    return net, first


def shared_weights() -> Net:
    net = Net((1, 4))
    weights = net.constant(net.drawn(4, 4))
    net.dense(net.dense("in", weights, activation="relu"), weights)
    return net


def another_nonlinearity() -> Net:
    net = Net((1, 4))
    net.dense(net.dense("in", net.drawn(4, 4), activation="relu_n1_to_1"), net.drawn(4, 4))
    return net


@pytest.mark.parametrize("net", [consumed_twice(), shared_weights(), another_nonlinearity()],
                         ids=["two consumers", "shared weights", "another nonlinearity"])
def test_pairs_that_cannot_be_equalized_are_left_alone(net):
    content = settled(net.file(), "x")
    assert chains(parse(content, "x")) == ()
    given = samples(net.shape("in"))
    assert equalized(content, given, by_weights) == (content, 0, 0)
    assert absorbed(content, given) == (content, 0)


def test_an_output_of_the_model_is_not_scaled():
    net, first = two_outputs()
    assert len(chains(parse(net.file(), "x"))) == 1
    assert chains(parse(net.file("value1", first), "x")) == ()


def capped(height: float) -> Net:
    """Two convolutions with a ReLU6 between, whose first channels reach `height` times the cap."""
    net = Net((1, 6, 6, 3))
    weights = uneven(net, 8, 3, 3, 3)
    value = net.conv("in", weights * height / np.abs(weights).max(), activation="relu6")
    net.conv(value, net.drawn(8, 1, 1, 8), activation="relu6")
    return net


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("height", [0.1, 3, 30])
def test_a_cap_stays_exact_whether_it_is_reached_or_not(height, balance):
    net = capped(height)
    given = samples((1, 6, 6, 3))
    made, done, undone = equalized(net.file(), given, BALANCES[balance])
    assert (done, undone) == (1, 0)
    np.testing.assert_allclose(Steps(made, given).rest(), Steps(net.file(), given).rest(), atol=1e-4)
    before, after = (largest(each, given) for each in (net.file(), made))
    np.testing.assert_allclose(after[before > 5.995], before[before > 5.995])
    assert (after[before < 5.9] <= CAP / HEADROOM + 1e-4).all()


def test_a_scale_that_forgets_the_cap_moves_the_outputs_and_is_undone(monkeypatch):
    monkeypatch.setattr(equalization, "within_cap", lambda scale, most: scale)
    net, given = capped(30), samples((1, 6, 6, 3))
    made, done, undone = equalized(net.file(), given, by_weights)
    assert (done, undone) == (0, 1)
    assert made == settled(net.file(), "x")


def test_one_pair_that_is_undone_leaves_the_others_done(monkeypatch):
    monkeypatch.setattr(equalization, "within_cap", lambda scale, most: scale)
    net = capped(30)
    value = net.conv("value1", uneven(net, 8, 1, 1, 8), activation="relu")
    net.conv(value, net.drawn(4, 1, 1, 8))
    given = samples((1, 6, 6, 3))
    made, done, undone = equalized(net.file(), given, by_weights)
    assert done >= 1
    assert undone >= 1
    before, after = (Steps(each, given).rest() for each in (net.file(), made))
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())


def test_outputs_are_alike_where_they_move_by_a_hundred_thousandth_of_their_power():
    wanted = np.float32([3, 4])
    assert alike(wanted + np.float32([0.01, 0]), wanted)
    assert not alike(wanted + np.float32([0.02, 0]), wanted)
    assert not alike(np.float32([np.nan, 4]), wanted)
    assert alike(np.zeros(2), np.zeros(2))


def test_what_is_always_there_is_three_deviations_below_the_mean_and_at_most_the_least():
    outputs = np.float32([[10, 1, 0], [12, -1, 0], [11, 5, 0], [11, 5, 0]])
    by_hand = 11 - 3 * np.sqrt(0.5)
    assert high_bias(outputs).tolist() == pytest.approx([by_hand, 0, 0])
    far = np.float32([[10], *[[11]] * 99])
    assert high_bias(far).tolist() == [10]


def high() -> Net:
    """A first layer whose outputs are always far above zero, and a second that reads them."""
    net = Net((1, 6))
    value = net.dense("in", net.drawn(8, 6), np.full(8, 20), activation="relu")
    net.dense(value, net.drawn(4, 8))
    return net


def test_high_biases_move_on_and_the_model_computes_what_it_did():
    content, given = high().file(), samples((1, 6), count=50)
    made, count = absorbed(content, given)
    assert count == 8
    np.testing.assert_allclose(Steps(made, given).rest(), Steps(content, given).rest(), atol=1e-3)
    before, after = (Steps(each, given).outputs(parse(each, "x").operators[0])[0] for each in (content, made))
    assert after.min() >= 0
    assert after.max() < 0.7 * before.max()
    assert absorbed(content, given) == (made, count)


@pytest.mark.parametrize(("padding", "absorbs"), [("VALID", True), ("SAME", False)])
def test_no_bias_moves_on_where_padding_puts_zeros_beside_it(padding, absorbs):
    net = Net((1, 6, 6, 2))
    value = net.conv("in", 0.01 * net.drawn(4, 3, 3, 2), np.full(4, 20), activation="relu")
    net.conv(value, net.drawn(4, 3, 3, 4), padding=padding)
    given = samples((1, 6, 6, 2))
    made, count = absorbed(net.file(), given)
    assert (count > 0) == absorbs
    np.testing.assert_allclose(Steps(made, given).rest(), Steps(net.file(), given).rest(), atol=1e-3)
