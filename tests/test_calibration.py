"""Ranges by what they do to the outputs: `auto` is no worse than the better of the plain methods."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from graphs import Net, operator, tensor, written
from outputs import float_outputs

from edgeq.errors import Refused
from edgeq.ptq import calibration, quantizer
from edgeq.ptq.aims import aim
from edgeq.ptq.calibration import affordable, proposals, ranges
from edgeq.ptq.ranges import METHODS, ends_by, on_grid
from edgeq.quantization import Static

INT8 = Static(8, "per_channel", {}, ("int8", "int8"))


def convolved(seed: int = 0) -> Net:
    """Two convolutions, a pooling and a dense layer with a softmax."""
    net = Net((1, 6, 6, 2), seed)
    value = net.conv("in", net.drawn(6, 3, 3, 2), activation="relu")
    value = net.conv(value, net.drawn(8, 3, 3, 6), activation="relu", stride=(2, 2))
    pooled = net.add("MAX_POOL_2D", value, (1, 1, 1, 8), strideH=3, strideW=3, filterHeight=3, filterWidth=3,
                     padding=1)
    logits = net.dense(net.reshape(pooled, (1, 8)), 3 * net.drawn(4, 8))
    net.add("SOFTMAX", logits, (1, 4), beta=1.0)
    return net


def seen(kind: str) -> np.ndarray:
    """Calibration samples: even ones, one with a single value far off, or a few that are much larger."""
    samples = np.random.default_rng(1).normal(size=(24, 6, 6, 2)).astype(np.float32)
    if kind == "a value far off":
        samples[3, 0, 0, 0] = 60
    elif kind == "larger samples at the end":
        samples[-4:] *= 12
    return samples


KINDS = ["even", "a value far off", "larger samples at the end"]


def quantized(baseline: bytes, found) -> bytes:
    return quantizer.static(baseline, found, INT8)


@pytest.fixture(scope="module", params=itertools.product(KINDS, [0, 1]), ids=str)
def compared(request) -> dict[str, float]:
    """The loss of each choice on one network with one kind of samples."""
    kind, seed = request.param
    baseline, samples = convolved(seed).file(), seen(kind)
    goal = aim(baseline, samples)
    build = functools.partial(quantized, baseline)
    made = {choice: build(ranges(baseline, samples, choice, build))
            for choice in ("minmax", "average", "auto")}
    return {choice: goal.loss(content, samples) for choice, content in made.items()}


def test_auto_is_no_worse_than_the_better_of_the_plain_methods(compared):
    assert compared["auto"] <= min(compared["minmax"], compared["average"])


def test_neither_of_the_plain_methods_is_always_the_better():
    found = set()
    for kind in KINDS:
        baseline, samples = convolved().file(), seen(kind)
        goal = aim(baseline, samples)
        losses = [goal.loss(quantized(baseline, proposals(baseline, samples, (method,))[method]), samples)
                  for method in ("minmax", "average")]
        found.add(losses[0] < losses[1])
    assert found == {True, False}


@pytest.mark.parametrize("method", METHODS)
def test_one_method_gives_every_activation_its_own_range(method):
    baseline, samples = convolved().file(), seen("even")
    found = ranges(baseline, samples, method, functools.partial(quantized, baseline))
    assert [*found] == ["in", *(f"value{i}" for i in range(6))]
    assert found["in"] == ends_by(method, samples)
    assert found["value5"] == pytest.approx(ends_by(method, float_outputs(baseline, samples)), rel=1e-5)


def test_auto_lets_what_only_moves_values_or_has_a_grid_of_its_own_be(monkeypatch):
    monkeypatch.setattr(calibration, "CLEARLY", np.inf)
    baseline, samples = convolved().file(), seen("larger samples at the end")
    found = ranges(baseline, samples, "auto", functools.partial(quantized, baseline))
    plain = proposals(baseline, samples, ("minmax",))["minmax"]
    for moved in ("value2", "value3", "value5"):
        assert found[moved] == plain[moved]
    assert any(found[free] != plain[free] for free in ("in", "value0", "value1", "value4"))


def test_auto_gives_a_tensor_the_range_that_moves_the_scores_least(monkeypatch):
    monkeypatch.setattr(calibration, "CLEARLY", np.inf)
    net = Net((1, 4))
    net.dense("in", net.drawn(3, 4))
    baseline = net.file()
    samples = np.random.default_rng(2).standard_t(3, size=(16, 4)).astype(np.float32)
    found = ranges(baseline, samples, "auto", functools.partial(quantized, baseline))
    goal = aim(baseline, samples)

    def moved(ends) -> float:
        return goal.distance(float_outputs(baseline, on_grid(samples, ends)))

    assert moved(found["in"]) <= 1.1 * min(moved(ends_by(method, samples)) for method in METHODS)


def test_ranges_are_tried_on_as_many_samples_as_the_model_is_small():
    small = convolved().file()
    large = written([tensor("in", (1, 30_000)), tensor("w", (30_000, 30_000)), tensor("out", (1, 30_000))],
                    [operator("FULLY_CONNECTED", "in w", "out")])
    assert [affordable(small, count) for count in (1, 20, 500)] == [1, 20, 32]
    assert 10 < affordable(large, 500) < 32


def test_where_nothing_is_affordable_auto_is_the_better_plain_method(monkeypatch):
    monkeypatch.setattr(calibration, "EFFORT", 0)
    baseline, samples = convolved().file(), seen("a value far off")
    plain = proposals(baseline, samples, ("minmax", "average"))
    assert ranges(baseline, samples, "auto", functools.partial(quantized, baseline)) in plain.values()


@pytest.mark.parametrize("choice", ["auto", "minmax", "entropy"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused(choice, bad):
    samples = seen("even")
    samples[2, 1, 1, 0] = bad
    with pytest.raises(Refused, match="gives NaN or infinity in 'in'"):
        ranges(convolved().file(), samples, choice, bytes)


def test_a_model_is_refused_by_its_first_tensor_that_is_not_finite():
    net = Net((1, 4))
    net.add("TANH", net.add("LOG", net.add("NEG", "in", (1, 4)), (1, 4)), (1, 4))
    with pytest.raises(Refused, match="gives NaN or infinity in 'value1'"):
        ranges(net.file(), np.ones((3, 4), np.float32), "auto", bytes)
