"""The portable kernels: what they compute is what TensorFlow Lite Micro computes, to the bit."""

import itertools

import firmware_nets
import numpy as np
import pytest
from firmware_nets import ACTIVATIONS, PLAIN, Case, Net, by_firmware, by_tflm, case, sizes
from firmware_random import random_net
from graphs import noise, spelled, tensor

from edgeq.firmware.network import network
from edgeq.firmware.portable.tables import hard_swish, relu, relu6, requantized, sigmoid, tanh
from edgeq.graph import parse


def same(folder, cases):
    """Fails where the firmware of a case differs from TFLM."""
    wrong, flat = [], 0
    for each, ours, theirs in zip(cases, by_firmware(cases, folder), by_tflm(cases, folder), strict=True):
        flat += len(np.unique(theirs)) < 2
        if not np.array_equal(ours, theirs):
            wrong.append(
                f"{each.name}: {(ours != theirs).sum()} of {ours.size} differ, by up to "
                f"{np.abs(ours.astype(float) - theirs).max()}"
            )
    assert not wrong, "\n".join(wrong)
    assert flat <= len(cases) / 4, f"{flat} of {len(cases)} cases have one output only"


def convolutions(dtype):
    shapes = [
        ((1, 5, 6, 3), 4, (3, 3)),
        ((1, 4, 4, 8), 5, (1, 1)),
        ((1, 7, 5, 2), 3, (2, 4)),
        ((2, 4, 3, 4), 2, (3, 1)),
    ]
    options = [
        {},
        {"stride": (2, 2)},
        {"padding": "VALID"},
        {"dilation": (2, 2)},
        {"stride": (2, 1), "padding": "VALID"},
        {"dilation": (1, 3)},
    ]
    for seed, ((shape, channels, size), option) in enumerate(itertools.product(shapes, options)):
        if "VALID" in option.values() and min(n - k for n, k in zip(shape[1:3], size, strict=True)) < 0:
            continue
        net = Net(shape, seed, dtype)
        net.conv(
            "in",
            channels,
            size,
            per_channel=seed % 2 == 0,
            bias=seed % 5 != 0,
            options={"activation": ACTIVATIONS[seed % 4], **option},
        )
        yield case(f"conv{seed}", net.file())
        net = Net(shape, seed, dtype)
        net.conv(
            "in",
            1 + seed % 2,
            size,
            kind="DEPTHWISE_CONV_2D",
            per_channel=seed % 2 == 0,
            bias=seed % 5 != 0,
            options={"activation": ACTIVATIONS[seed % 4], **option},
        )
        yield case(f"depthwise{seed}", net.file())


@pytest.mark.parametrize("dtype", ["INT8", "INT16"])
def test_convolutions(dtype, tmp_path):
    same(tmp_path, [*convolutions(dtype)])


SMALLER = [[1, 4, 5, 3], [3], [1, 1, 1, 3], [1, 4, 1, 1], [1, 1, 5, 3], []]  # what broadcasts to the first


def operators(dtype):
    """One operator each, of all kinds but convolutions: name -> net."""
    for seed, activation in enumerate(ACTIVATIONS):
        options = {"fusedActivationFunction": seed}
        for name in ("ADD", "SUB", "MUL"):
            for shape in SMALLER[seed % 2 :: 2]:
                net = Net((1, 4, 5, 3), seed, dtype)
                other = net.constant(
                    noise(dtype.lower(), shape, seed), dtype, scale=net.scale(), zero=net.zero(dtype)
                )
                given = ["in", other] if seed % 2 else [other, "in"]
                grid = (
                    None
                    if name != "MUL"
                    else {
                        "scale": (
                            net.grid("in")["scale"]
                            * net.grid(other)["scale"]
                            * (30 if dtype == "INT8" else 12000)
                        )
                    }
                )
                net.add(name, " ".join(given), (1, 4, 5, 3), grid, **options)
                yield f"{name}_{activation}_{len(shape)}{sum(shape)}", net
        for size, stride, padding in (
            ((2, 2), (2, 2), "VALID"),
            ((3, 2), (2, 1), "SAME"),
            ((5, 4), (1, 1), "VALID"),
        ):
            for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
                net = Net((1, 5, 4, 3), seed, dtype)
                option = {"stride": stride, "padding": padding}
                net.add(
                    name,
                    "in",
                    [1, *sizes([1, 5, 4, 3], size, option), 3],
                    net.grid("in"),
                    filterHeight=size[0],
                    filterWidth=size[1],
                    **spelled({**option, "activation": activation}),
                )
                yield f"{name}_{activation}_{size[0]}", net
        net = Net((2, 7), seed, dtype)
        net.dense(
            "in", 5, activation=activation, per_channel=seed % 2 == 1 and dtype == "INT8", bias=seed != 2
        )
        yield f"FULLY_CONNECTED_{activation}", net
    for axes, keep in (((1, 2), True), ((2, 1), False), ((3,), False), ((-1, 1), True), ((1, 2, 3), False)):
        net = Net((1, 4, 5, 3), len(axes) + keep, dtype)
        shape = [n if i not in {a % 4 for a in axes} else 1 for i, n in enumerate((1, 4, 5, 3))]
        shape = shape if keep else [n for i, n in enumerate((1, 4, 5, 3)) if i not in {a % 4 for a in axes}]
        net.add(
            "MEAN",
            f"in {net.integers(*axes)}",
            shape,
            {"scale": net.grid("in")["scale"] * (0.3 + keep)},
            keepDims=keep,
        )
        yield f"MEAN_{len(axes)}{axes[0] % 4}{keep}", net
        net = Net((1, 4, 5, 3), len(axes) + keep, dtype)
        net.add("MEAN", f"in {net.integers(*axes)}", shape, net.grid("in"), keepDims=keep)
        yield f"MEAN_same_{len(axes)}{axes[0] % 4}{keep}", net


@pytest.mark.parametrize("dtype", ["INT8", "INT16"])
def test_operators(dtype, tmp_path):
    same(tmp_path, [case(name.lower(), net.file()) for name, net in operators(dtype)])


def moves(dtype):
    """Operators that move values, and those that resize."""
    shape = (1, 4, 6, 5)
    for seed, (order, axis) in enumerate(
        (((0, 2, 1, 3), 3), ((3, 1, 0, 2), 1), ((0, 1, 3, 2), 2), ((0, 3, 1, 2), -1))
    ):
        net = Net(shape, seed, dtype)
        net.add("TRANSPOSE", f"in {net.integers(*order)}", [shape[i] for i in order], net.grid("in"))
        yield f"TRANSPOSE{seed}", net
        net = Net(shape, seed, dtype)
        paddings = net.constant(np.array([[0, 0], [1, seed], [seed, 2], [0, seed % 2]], np.int32))
        padded = [1, 5 + seed, 8 + seed, 5 + seed % 2]
        net.add("PAD", f"in {paddings}", padded, net.grid("in"))
        yield f"PAD{seed}", net
        net = Net(shape, seed, dtype)
        paddings = net.constant(np.array([[0, 0], [1, seed], [seed, 2], [0, seed % 2]], np.int32))
        value = net.constant(np.array([17], dtype.lower()), dtype, **net.grid("in"))
        net.add("PADV2", f"in {paddings} {value}", padded, net.grid("in"))
        yield f"PADV2{seed}", net
        net = Net(shape, seed, dtype)
        first = net.add(
            "STRIDED_SLICE",
            f"in {net.integers(0, 1, 0, 1)} {net.integers(1, 4, 6, 4)} {net.integers(1, 1, 2, 1)}",
            (1, 3, 3, 3),
            net.grid("in"),
            beginMask=0,
            endMask=0,
        )
        second = net.add(
            "STRIDED_SLICE",
            f"in {net.integers(0, 3, -1, 4)} {net.integers(1, 0, 0, -1)} {net.integers(1, -1, -2, 1)}",
            (1, 3, 3, 1),
            net.grid("in"),
            endMask=0b1000,
        )
        out = [1, 3, 3, 3]
        if axis % 4 == 3:
            out[3] = 4
            net.add("CONCATENATION", f"{second} {first}", out, net.grid("in"), axis=axis)
            yield f"STRIDED_SLICE{seed}", net
        net = Net((1, 4, 6, 4), seed, dtype)
        at = axis % 4
        parts = net.split("in", axis, 2)
        grown = [1, 4, 6, 4]
        grown[at] = grown[at] // 2 * 3
        net.add("CONCATENATION", f"{parts[1]} {parts[0]} {parts[1]}", grown, net.grid("in"), axis=axis)
        yield f"SPLIT{seed}", net
    for seed, (size, align, half) in enumerate(
        itertools.product(((8, 12), (3, 4), (7, 1), (5, 9)), (0, 1), (0, 1))
    ):
        for name in ("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"):
            if (align and half) or (dtype == "INT16" and name == "RESIZE_BILINEAR"):
                continue
            net = Net((1, 4, 6, 9 if seed % 2 else 2), seed, dtype)
            net.add(
                name,
                f"in {net.integers(*size)}",
                (1, *size, net.shape("in")[3]),
                net.grid("in"),
                alignCorners=bool(align),
                halfPixelCenters=bool(half),
            )
            yield f"{name}{seed}", net


@pytest.mark.parametrize("dtype", ["INT8", "INT16"])
def test_moves(dtype, tmp_path):
    same(tmp_path, [case(name.lower(), net.file()) for name, net in moves(dtype)])


def values(name, net, dtype=None, grid=None, **options):
    """The net with an operator of one value behind its input."""
    net.add(name, "in", net.shape("in"), grid, dtype, **options)
    return net


def functions():
    """Functions of single values, and SOFTMAX."""
    unit = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
    for seed, scale in enumerate((1e-4, 2**-12, 2**-11, 3.3e-4, 1e-3, 0.01)):
        for name in ("LOGISTIC", "TANH", "RELU", "RELU6"):
            net = Net((1, 300), seed, "INT16", scale, 0)
            grid = (
                {"scale": 1 / 32768} if name in unit else {"scale": scale * (1 if name == "RELU6" else 0.7)}
            )
            yield f"{name}_INT16_{seed}", values(name, net, grid={**grid, "zero": 0})
        net = Net((3, 40), seed, "INT16", scale, 0)
        yield (
            f"SOFTMAX_INT16_{seed}",
            values("SOFTMAX", net, grid={"scale": 1 / 32768, "zero": 0}, beta=1 + seed % 2),
        )
    for seed, scale in enumerate((0.001, 0.01, 0.05, 0.1, 0.25, 1.0, 3.0)):
        for width in ((1, 10), (2, 300))[seed // 2 % 2]:
            net = Net((2, width), seed, "INT8", scale)
            kind = ("INT8", "INT16")[seed % 2]
            grid = (
                {"scale": 1 / 256, "zero": -128} if kind == "INT8" else {"scale": 1 / 65536, "zero": -32768}
            )
            yield f"SOFTMAX_{width}_{seed}", values("SOFTMAX", net, kind, grid, beta=1.0)
    for seed, (one, other) in enumerate(
        (
            ("INT8", "INT16"),
            ("INT16", "INT8"),
            ("INT16", "INT16"),
            ("INT8", "INT8"),
            ("FLOAT32", "INT8"),
            ("FLOAT32", "INT16"),
            ("INT8", "FLOAT32"),
            ("INT16", "FLOAT32"),
            ("UINT8", "INT8"),
            ("INT8", "UINT8"),
        )
    ):
        for scale in ((1e-3, 0.7), (0.02, 3.0))[seed % 2]:
            net = Net((1, 200), seed, one, scale, 5 if "8" in one else 0)
            grid = {"scale": scale * 1.7 if one != "FLOAT32" else scale, "zero": -3 if other == "INT8" else 0}
            name = "DEQUANTIZE" if other == "FLOAT32" else "QUANTIZE"
            yield f"{name}_{one}_{other}_{str(scale).replace('.', '')}", values(name, net, other, grid)


def test_functions(tmp_path):
    same(tmp_path, [case(name.lower(), net.file()) for name, net in functions()])


TABLES = {
    "LOGISTIC": (sigmoid, (1 / 256, -128)),
    "TANH": (tanh, (1 / 128, 0)),
    "RELU": (relu, None),
    "RELU6": (relu6, None),
    "HARD_SWISH": (hard_swish, None),
    "QUANTIZE": (lambda *given: requantized(*given, "int8"), None),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_tflms_for_all_values(name, tmp_path):
    table, grid = TABLES[name]
    every = np.arange(-128, 128, dtype=np.int8)
    for seed in range(40):
        chance = np.random.default_rng(seed)
        scale = float(np.float32(10 ** chance.uniform(-3.5, 0.3)))
        net = Net((1, 256), seed, "INT8", scale)
        given = grid or (scale * float(chance.uniform(0.2, 3)), None)
        content = values(name, net, grid={"scale": given[0], "zero": given[1]}).file()
        each = Case("table", content, every.reshape(1, 1, 256))
        tensors = [each.graph.tensors[place[0]] for place in (each.graph.inputs, each.graph.outputs)]
        ours = table(every.astype(np.int64), *(tensor.grid for tensor in tensors))
        np.testing.assert_array_equal(
            ours, by_tflm([each], tmp_path)[0][0], err_msg=f"{name} of scale {scale}"
        )


def odd_layers(dtype):
    """Layers off the beaten track: groups, transposed convolutions, other biases."""
    for seed in range(4):
        net = Net((1, 5, 4, 6), seed, dtype)
        net.conv(
            "in", 4, (3, 2), groups=2, options={"activation": ACTIVATIONS[seed], "stride": (1 + seed % 2, 1)}
        )
        yield f"groups{seed}", net
        for padding in ("SAME", "VALID"):
            net = Net((1, 4, 3, 5), seed, dtype)
            net.transposed(
                "in",
                3,
                (3, 2),
                bias=seed % 2 == 0,
                options={
                    "stride": (1 + seed % 2, 1 + seed // 2),
                    "padding": padding,
                    "activation": ACTIVATIONS[seed],
                },
            )
            yield f"transposed{seed}{padding}", net
    if dtype == "INT16":
        for kind in ("CONV_2D",):
            net = Net((1, 5, 4, 6), 5, dtype)
            net.conv("in", 3, (3, 3), kind=kind, wide="INT32")
            yield f"bias32{kind}", net
            net = Net((1, 5, 4, 6), 5, dtype)
            net.conv("in", 3, (3, 3), kind=kind, bias=False)
            yield f"bias0{kind}", net


@pytest.mark.parametrize("dtype", ["INT8", "INT16"])
def test_odd_layers(dtype, tmp_path):
    same(tmp_path, [case(name.lower(), net.file()) for name, net in odd_layers(dtype)])


@pytest.mark.parametrize("part", range(8))
def test_random_graphs(part, tmp_path):
    drawn = [(seed, *random_net(seed)) for seed in range(part * 25, part * 25 + 25)]
    same(tmp_path, [case(f"net{seed}", net.file(last), seed=seed) for seed, net, last in drawn])


def test_layers_of_one_shape_share_their_code():
    net = Net((1, 6, 6, 4), scale=0.05, zero=-128)
    first = net.conv("in", 4, (3, 3), bias=False)
    net.tensors[first] = tensor(first, net.shape(first), "INT8", scale=0.05, zero=-128)
    weights = net.operators[0][1][1]
    again = net.put("again", net.shape(first), scale=0.05, zero=-128)
    net.operators.append(("CONV_2D", [first, weights], [again], net.operators[0][3]))
    steps = network(parse(net.file(), "shared"), PLAIN).steps
    assert steps[0].kernel.routine == steps[1].kernel.routine


@pytest.mark.parametrize("seed", [1001, 1051])
def test_no_step_is_lost_where_the_whole_program_is_optimized(seed, tmp_path, monkeypatch):
    """GCC 12.2 left the last step of these out, where it could look into the kernels from the driver."""
    monkeypatch.setattr(firmware_nets, "CHECKED", ("-std=c99", "-O2", "-flto"))
    net, last = random_net(seed)
    same(tmp_path, [case("net", net.file(last), seed=seed)])
