"""The portable kernels: what they compute is what TensorFlow Lite Micro computes, to the bit."""

import itertools

import numpy as np
import pytest

from tests.firmware_nets import ACTIVATIONS, Net, by_firmware, by_tflm, case, sizes
from tests.graphs import noise, spelled


def same(folder, cases):
    """Fails where the firmware of a case differs from TFLM."""
    wrong = []
    for each, ours, theirs in zip(cases, by_firmware(cases, folder), by_tflm(cases, folder), strict=True):
        assert len(np.unique(theirs)) > 1, f"{each.name}: TFLM's outputs are all the same"
        if not np.array_equal(ours, theirs):
            wrong.append(f"{each.name}: {(ours != theirs).sum()} of {ours.size} differ, by up to "
                         f"{np.abs(ours.astype(float) - theirs).max()}")
    assert not wrong, "\n".join(wrong)


def convolutions(dtype):
    shapes = [((1, 5, 6, 3), 4, (3, 3)), ((1, 4, 4, 8), 5, (1, 1)), ((1, 7, 5, 2), 3, (2, 4)), ((2, 4, 3, 4), 2, (3, 1))]
    options = [{}, {"stride": (2, 2)}, {"padding": "VALID"}, {"dilation": (2, 2)}, {"stride": (2, 1), "padding": "VALID"},
               {"dilation": (1, 3)}]
    for seed, ((shape, channels, size), option) in enumerate(itertools.product(shapes, options)):
        if "VALID" in option.values() and min(n - k for n, k in zip(shape[1:3], size, strict=True)) < 0:
            continue
        net = Net(shape, seed, dtype)
        net.conv("in", channels, size, per_channel=seed % 2 == 0, bias=seed % 5 != 0,
                 options={"activation": ACTIVATIONS[seed % 4], **option})
        yield case(f"conv{seed}", net.file())
        net = Net(shape, seed, dtype)
        net.conv("in", 1 + seed % 2, size, kind="DEPTHWISE_CONV_2D", per_channel=seed % 2 == 0, bias=seed % 5 != 0,
                 options={"activation": ACTIVATIONS[seed % 4], **option})
        yield case(f"depthwise{seed}", net.file())


@pytest.mark.parametrize("dtype", ["INT8", "INT16"])
def test_convolutions(dtype, tmp_path):
    same(tmp_path, [*convolutions(dtype)])


def operators(dtype):
    """One operator each, of all kinds but convolutions: name -> net."""
    for seed, activation in enumerate(ACTIVATIONS):
        options = {"fusedActivationFunction": seed}
        for name in ("ADD", "SUB", "MUL"):
            for shape in ([1, 4, 5, 3], [3], [1, 1, 1, 3], [1, 4, 1, 1], [1, 1, 5, 3], []):
                net = Net((1, 4, 5, 3), seed, dtype)
                other = net.constant(noise(dtype.lower(), shape, seed), dtype, scale=net.scale(), zero=net.zero(dtype))
                given = ["in", other] if seed % 2 else [other, "in"]
                grid = None if name != "MUL" else {"scale": net.grid("in")["scale"] * 30 * net.grid(other)["scale"]}
                net.add(name, " ".join(given), (1, 4, 5, 3), grid, **options)
                yield f"{name}_{activation}_{len(shape)}{sum(shape)}", net
        for size, stride, padding in (((2, 2), (2, 2), "VALID"), ((3, 2), (2, 1), "SAME"), ((5, 4), (1, 1), "VALID")):
            for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
                net = Net((1, 5, 4, 3), seed, dtype)
                option = {"stride": stride, "padding": padding}
                net.add(name, "in", [1, *sizes([1, 5, 4, 3], size, option), 3], net.grid("in"),
                        filterHeight=size[0], filterWidth=size[1],
                        **spelled({**option, "activation": activation}))
                yield f"{name}_{activation}_{size[0]}", net
        net = Net((2, 7), seed, dtype)
        net.dense("in", 5, activation=activation, per_channel=seed % 2 == 1 and dtype == "INT8", bias=seed != 2)
        yield f"FULLY_CONNECTED_{activation}", net
    for axes, keep in (((1, 2), True), ((2, 1), False), ((3,), False), ((-1, 1), True), ((1, 2, 3), False)):
        net = Net((1, 4, 5, 3), len(axes) + keep, dtype)
        shape = [n if i not in {a % 4 for a in axes} else 1 for i, n in enumerate((1, 4, 5, 3))]
        shape = shape if keep else [n for i, n in enumerate((1, 4, 5, 3)) if i not in {a % 4 for a in axes}]
        net.add("MEAN", f"in {net.integers(*axes)}", shape, {"scale": net.grid("in")["scale"] * (0.3 + keep)},
                keepDims=keep)
        yield f"MEAN_{len(axes)}{axes[0] % 4}{keep}", net
        net = Net((1, 4, 5, 3), len(axes) + keep, dtype)
        net.add("MEAN", f"in {net.integers(*axes)}", shape, net.grid("in"), keepDims=keep)
        yield f"MEAN_same_{len(axes)}{axes[0] % 4}{keep}", net


@pytest.mark.parametrize("dtype", ["INT8", "INT16"])
def test_operators(dtype, tmp_path):
    same(tmp_path, [case(name.lower(), net.file()) for name, net in operators(dtype)])
