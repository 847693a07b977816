"""What the portable kernels do not have: it is named, with what could be done."""

import pytest
from firmware_nets import PLAIN, Net

from edgeq.errors import Refused
from edgeq.firmware.network import network
from edgeq.graph import parse


def run_time_weights():
    net = Net((1, 4, 4, 2))
    net.add("CONV_2D", f"in {net.add('RELU', 'in', (1, 4, 4, 2))}", (1, 4, 4, 1))
    return net


def other_grids(name, **options):
    net = Net((1, 4, 4, 2), scale=0.1, zero=0)
    net.add(name, "in", (1, 4, 4, 2), {"scale": 0.2, "zero": 1}, **options)
    return net


def ellipsis():
    net = Net((1, 4))
    bounds = " ".join(net.integers(*each) for each in ((0, 0), (1, 4), (1, 1)))
    net.add("STRIDED_SLICE", f"in {bounds}", (1, 4), net.grid("in"), ellipsisMask=1)
    return net


def fused_tanh():
    net = Net((1, 4))
    net.add("ADD", "in in", (1, 4), fusedActivationFunction=4)
    return net


def narrow_bias():
    net = Net((1, 4, 4, 2), dtype="INT16")
    net.conv("in", 1, (3, 3), kind="DEPTHWISE_CONV_2D", wide="INT32")
    return net


def off_centre():
    net = Net((1, 4), dtype="INT16", zero=3)
    net.dense("in", 2)
    return net


def run_time_axes():
    net = Net((1, 4))
    axes = net.add("QUANTIZE", "in", (1, 4), dtype="INT32")
    net.add("MEAN", f"in {axes}", (1,))
    return net


def to_words():
    net = Net((1, 4))
    net.add("QUANTIZE", "in", (1, 4), dtype="INT32")
    return net


REFUSED = {
    "its weights are computed at run time": run_time_weights,
    "its input and output have different grids": lambda: other_grids("MAX_POOL_2D", **POOL),
    "its inputs are on other grids than its output": lambda: other_grids("CONCATENATION", axis=1),
    "its output is on a grid other than 0.0078125 around 0": lambda: other_grids("TANH"),
    "its output is on a grid other than 0.00390625 from -128": lambda: other_grids("SOFTMAX", beta=1.0),
    "it has an ellipsis or a new axis": ellipsis,
    "its fused activation 4 has no integer kernel": fused_tanh,
    "its bias is INT32; beside int16 activations it is to be INT64": narrow_bias,
    "its int16 tensors have zero points": off_centre,
    "its axes are computed at run time": run_time_axes,
    "it takes INT8 to INT32": to_words,
}
POOL = {"filterHeight": 1, "filterWidth": 1, "strideH": 1, "strideW": 1, "padding": 0}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_refused_is_said(said):
    content = REFUSED[said]().file()
    with pytest.raises(Refused) as refusal:
        network(parse(content, "refused"), PLAIN)
    assert said in refusal.value.message
    assert refusal.value.hint
