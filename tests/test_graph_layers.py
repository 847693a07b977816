"""Layers as matrix products: patches @ matrix + bias is what LiteRT computes, for every kind of layer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from graphs import Net, operator, tensor, written

from edgeq.graph import Layer, layers, parse, values_of
from edgeq.ptq.stepping import Steps

SAMPLES = 2
STRIDES = [(1, 1), (2, 1), (3, 2)]
DILATIONS = [(1, 1), (2, 1), (2, 3)]
KERNELS = [(1, 1), (3, 3), (2, 3)]


def only_layer(content: bytes) -> Layer:
    """The one layer of a graph."""
    (found,) = layers(parse(content, "x"))
    return found


def computed(layer: Layer, sample: np.ndarray) -> np.ndarray:
    """The outputs by the matrix product, in the shape of the layer's output."""
    matrix = layer.matrix(values_of(layer.weights))
    bias = layer.by_channel(values_of(layer.bias)) if layer.bias else 0
    return np.moveaxis(layer.patches(sample) @ matrix + bias, 0, 1).reshape(layer.sink.shape)


def assert_computes_what_litert_does(net: Net) -> None:
    content = net.file()
    layer = only_layer(content)
    samples = np.random.default_rng(1).normal(size=(SAMPLES, *net.shape("in"))).astype(np.float32)
    expected = Steps(content, samples).rest()
    for sample, wanted in zip(samples, expected, strict=True):
        np.testing.assert_allclose(computed(layer, sample), wanted, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_convolution_is_a_matrix_product(kernel, groups, padding):
    for stride, dilation in itertools.product(STRIDES, DILATIONS):
        net = Net((1, 7, 8, 4))
        net.conv("in", net.drawn(8, *kernel, 4 // groups), padding=padding, stride=stride, dilation=dilation)
        assert_computes_what_litert_does(net)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_depthwise_convolution_is_a_matrix_product_a_channel(kernel, multiplier, padding):
    for stride, dilation in itertools.product(STRIDES, DILATIONS):
        net = Net((1, 8, 7, 3))
        net.depthwise("in", net.drawn(1, *kernel, 3 * multiplier), padding=padding, stride=stride,
                      dilation=dilation)
        assert_computes_what_litert_does(net)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [*STRIDES, (2, 2), (3, 3)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_transposed_convolution_is_a_matrix_product(kernel, stride, padding):
    net = Net((1, 4, 5, 3))
    net.transposed("in", net.drawn(4, *kernel, 3), padding=padding, stride=stride)
    assert_computes_what_litert_does(net)


@pytest.mark.parametrize("shape", [(1, 6), (1, 3, 6), (1, 2, 3, 6)])
def test_a_dense_layer_is_a_matrix_product_over_all_that_stands_before_its_inputs(shape):
    net = Net(shape)
    net.dense("in", net.drawn(5, 6), keep=True)
    assert_computes_what_litert_does(net)


def test_a_dense_layer_may_flatten_what_it_reads():
    net = Net((1, 2, 3, 2))
    net.dense("in", net.drawn(5, 12))
    assert_computes_what_litert_does(net)


@pytest.mark.parametrize("kind", ["dense", "transposed"])
def test_a_layer_may_have_no_bias(kind):
    net = Net((1, 6)) if kind == "dense" else Net((1, 4, 4, 6))
    weights = net.drawn(5, 6) if kind == "dense" else net.drawn(5, 3, 3, 6)
    getattr(net, kind)("in", weights, "")
    assert only_layer(net.file()).bias is None
    assert_computes_what_litert_does(net)


def grown(kind: str) -> Net:
    """One layer of this kind, with six output channels."""
    net = Net((1, 5, 5, 6))
    shapes = {"conv": (6, 3, 2, 6), "grouped": (6, 3, 2, 2), "depthwise": (1, 3, 2, 6),
              "transposed": (6, 3, 2, 6)}
    if kind == "dense":
        net.dense("in", net.drawn(6, 150))
    else:
        getattr(net, {"grouped": "conv"}.get(kind, kind))("in", net.drawn(*shapes[kind]))
    return net


KINDS = {"conv": (1, 36, 6), "grouped": (3, 12, 2), "depthwise": (6, 6, 1), "transposed": (1, 36, 6),
         "dense": (1, 150, 6)}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_go_into_a_matrix_and_back(kind):
    layer = only_layer(grown(kind).file())
    weights = values_of(layer.weights)
    matrix = layer.matrix(weights)
    assert matrix.shape == KINDS[kind]
    np.testing.assert_array_equal(layer.filters(matrix), weights)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_to_a_channel_of_the_matrix_is_done_to_that_channel_of_the_outputs(kind):
    content = grown(kind).file()
    layer = only_layer(content)
    factor = np.arange(1, 7, dtype=np.float32)
    scaled = layer.filters(layer.matrix(values_of(layer.weights)) * layer.by_channel(factor))
    np.testing.assert_allclose(np.moveaxis(scaled, layer.axis, -1),
                               np.moveaxis(values_of(layer.weights), layer.axis, -1) * factor, rtol=1e-6)


def test_zeros_stand_where_a_patch_reaches_beyond_the_input():
    net = Net((1, 4, 4, 1))
    net.conv("in", np.ones((1, 3, 3, 1)))
    patches = only_layer(net.file()).patches(np.arange(1, 17, dtype=np.float32).reshape(1, 4, 4, 1))
    assert patches[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 0, 5, 6]
    assert patches[0, 15].tolist() == [11, 12, 0, 15, 16, 0, 0, 0, 0]


def test_the_samples_of_a_layer_can_be_cut_together():
    net = Net((1, 6, 6, 2))
    net.conv("in", net.drawn(4, 3, 3, 2), stride=(2, 2))
    layer = only_layer(net.file())
    samples = np.random.default_rng(0).normal(size=(3, 1, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(layer.patches(samples), np.concatenate(
        [layer.patches(sample) for sample in samples], axis=1))


def test_layers_that_read_the_same_weights_or_the_same_bias_are_said_to_share():
    net = Net((1, 4))
    weights, bias = net.constant(net.drawn(4, 4)), net.constant(np.zeros(4, np.float32))
    value = net.dense(net.dense("in", weights), weights)
    value = net.dense(net.dense(value, net.drawn(4, 4), bias), net.drawn(4, 4), bias)
    net.dense(value, net.drawn(4, 4))
    assert [layer.shared for layer in layers(parse(net.file(), "x"))] == [True, True, True, True, False]


def test_an_operator_whose_weights_are_computed_is_no_layer():
    net = Net((1, 4))
    weights = net.add("RELU", net.constant(net.drawn(4, 4)), (4, 4))
    net.add("FULLY_CONNECTED", f"in {weights}", (1, 4))
    assert layers(parse(net.file(), "x")) == ()


def test_an_operator_with_an_open_shape_is_no_layer():
    content = written(
        [tensor("in", (1, 3, 4), open_batch=True), tensor("w", (2, 4), data=np.ones((2, 4), np.float32)),
         tensor("out", (1, 3, 2))], [operator("FULLY_CONNECTED", "in w", "out")])
    assert layers(parse(content, "x")) == ()


def test_other_operators_are_no_layers():
    content = written([tensor("in", (1, 4)), tensor("out", (1, 4))], [operator("RELU", "in", "out")])
    assert layers(parse(content, "x")) == ()
