"""The portable kernels: what they compute is what TensorFlow Lite Micro computes, to the bit."""

import itertools

import numpy as np
import pytest

from tests.firmware_nets import ACTIVATIONS, Net, by_firmware, by_tflm, case


def same(folder, cases):
    """Fails where the firmware of a case differs from TFLM."""
    for each, ours, theirs in zip(cases, by_firmware(cases, folder), by_tflm(cases, folder), strict=True):
        assert len(np.unique(theirs)) > 1, f"{each.name}: TFLM's outputs are all the same"
        np.testing.assert_array_equal(ours, theirs, err_msg=each.name)


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
