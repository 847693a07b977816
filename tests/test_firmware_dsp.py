"""The kernels for the DSP extension, on the emulator, against TFLite's arithmetic in numpy."""

import dataclasses

import numpy as np
import pytest
from board import Case, operation, ran, tensor

from edgeq.firmware.arithmetic import bounds, multiplier, multipliers, scaled
from edgeq.firmware.dsp import DSP


def weighted(seed, kernel_shape, *, depth=False, linear=False, activation=0, largest=127, scale=None):
    """Weights, bias, and the scale of the output with which its grid is well used."""
    chance = np.random.default_rng(seed)
    weights = chance.integers(-largest, largest + 1, kernel_shape).astype(np.int8)
    channels = kernel_shape[-1] if depth else kernel_shape[0]
    inputs = weights.size // channels
    scales = chance.uniform(0.5, 2, channels).astype(np.float32) * np.float32(0.01)
    bias = chance.integers(-3000, 3000, channels).astype(np.int32)
    return weights, bias, scales, 0.02 * 0.01 * largest * 60 * np.sqrt(inputs) / 100


def requantized(sums, made):
    """TFLite's outputs of accumulators (…, channels)."""
    mantissas, shifts = multipliers(made.name, *(made.input(i).grid for i in (0, 1)), made.sink.grid)
    outputs = scaled(sums, mantissas, shifts) + int(made.sink.grid.zero_points[0])
    return np.clip(outputs, *bounds(made.option("fusedActivationFunction"), made.sink.grid, "INT8"))


def windows(values, kernel, strides, padding, zero, dilations=(1, 1)):
    """(rows, columns, kernel rows * kernel columns, channels) of a map, filled up as TFLite does."""
    after, before = [], []
    reaches = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    for size, reach, stride in zip(values.shape, reaches, strides, strict=False):
        out = -(-size // stride) if padding == 0 else (size - reach) // stride + 1
        after.append(out)
        before.append(max((out - 1) * stride + reach - size, 0) // 2 if padding == 0 else 0)
    room = [(b, reach + stride) for b, reach, stride in zip(before, reaches, strides, strict=True)]
    full = np.pad(values.astype(np.int64), [*room, (0, 0)], constant_values=zero)
    cut = [full[i:i + strides[0] * after[0]:strides[0], j:j + strides[1] * after[1]:strides[1]]
           for i in range(0, reaches[0], dilations[0]) for j in range(0, reaches[1], dilations[1])]
    return np.stack(cut, 2)


def conv(seed, shape, kernel, outputs, *, stride=1, padding=0, activation=0, zeros=(-128, -128), largest=127,
         depth=False, factor=1.0, dilations=(1, 1)):
    """A case of CONV_2D or DEPTHWISE_CONV_2D; its output is linear where its zero point is not -128."""
    strides = stride if isinstance(stride, tuple) else (stride, stride)
    form = (1, *kernel, outputs) if depth else (outputs, *kernel, shape[2])
    weights, bias, scales, scale = weighted(seed, form, depth=depth, largest=largest)
    values = np.random.default_rng(seed + 1000).integers(-128, 128, shape).astype(np.int8)
    cut = windows(values, kernel, strides, padding, zeros[0], dilations)
    source = tensor(0, values[None], 0.02, zeros[0])
    sink = tensor(3, np.zeros((1, *cut.shape[:2], outputs), np.int8), scale * factor, zeros[1])
    made = operation("DEPTHWISE_CONV_2D" if depth else "CONV_2D",
                     [source, tensor(1, weights, scales, constant=True), tensor(2, bias, 1, constant=True)],
                     sink, padding=padding, strideH=strides[0], strideW=strides[1],
                     dilationHFactor=dilations[0], dilationWFactor=dilations[1],
                     fusedActivationFunction=activation, depthMultiplier=1)
    wide, centred = weights.astype(np.int64), cut - zeros[0]
    sums = (np.einsum("yxkc,kc->yxc", centred, wide.reshape(-1, outputs)) if depth
            else np.einsum("yxkc,okc->yxo", centred, wide.reshape(outputs, -1, shape[2])))
    return Case(DSP[made.name](made), (values,), requantized(sums + bias, made).astype(np.int8))


def dense(seed, rows, inputs, outputs, *, zeros=(3, -7), activation=0, largest=127):
    weights, bias, _, scale = weighted(seed, (outputs, inputs), largest=largest)
    values = np.random.default_rng(seed + 1000).integers(-128, 128, (rows, inputs)).astype(np.int8)
    made = operation("FULLY_CONNECTED", [
        tensor(0, values, 0.02, zeros[0]), tensor(1, weights, 0.01, constant=True),
        tensor(2, bias, 1, constant=True)], tensor(3, np.zeros((rows, outputs), np.int8), scale, zeros[1]),
        fusedActivationFunction=activation)
    sums = (values.astype(np.int64) - zeros[0]) @ weights.T.astype(np.int64) + bias
    return Case(DSP[made.name](made), (values,), requantized(sums, made).astype(np.int8))


def added_reference(made, one, other):
    """TFLite's ADD, its three roundings."""
    grids = [made.input(0).grid, made.input(1).grid, made.sink.grid]
    scales = [float(grid.scales[0]) for grid in grids]
    twice = 2 * max(scales[:2])
    sums = sum(scaled((values.astype(np.int64) - int(grid.zero_points[0])) << 20, *multiplier(scale / twice))
               for values, grid, scale in zip((one, other), grids, scales, strict=False))
    outputs = scaled(sums, *multiplier(twice / (2**20 * scales[2]))) + int(grids[2].zero_points[0])
    return np.clip(outputs, *bounds(made.option("fusedActivationFunction"), made.sink.grid, "INT8"))


def addition(seed, elements, *, scales=(0.0213, 0.0307, 0.0411), zeros=(-128, 3, -5), activation=0):
    chance = np.random.default_rng(seed)
    values = [chance.integers(-128, 128, elements).astype(np.int8) for _ in range(2)]
    ends = [tensor(i, each, scale, zero) for i, (each, scale, zero) in
            enumerate(zip((*values, values[0]), scales, zeros, strict=True))]
    made = operation("ADD", ends[:2], ends[2], fusedActivationFunction=activation)
    return Case(DSP["ADD"](made), tuple(values), added_reference(made, *values).astype(np.int8))


def pooled_reference(made, values):
    """TFLite's AVERAGE_POOL_2D of a whole map: halves away from zero."""
    count, sums = values[0, ..., 0].size, values.astype(np.int64).sum((1, 2), keepdims=True)
    return np.sign(sums) * ((np.abs(sums) + count // 2) // count)


def pool(seed, height, width, channels):
    values = np.random.default_rng(seed).integers(-128, 128, (1, height, width, channels)).astype(np.int8)
    values[..., :4] = np.array([127, -128, 3, -3], np.int8)
    values[:, ::2, ::2, 2:4] = 0
    made = operation("AVERAGE_POOL_2D", [tensor(0, values, 0.1, 3)],
                     tensor(1, np.zeros((1, 1, 1, channels), np.int8), 0.1, 3), filterHeight=height,
                     filterWidth=width, fusedActivationFunction=0, strideH=1, strideW=1, padding=1)
    return Case(DSP[made.name](made), (values,), pooled_reference(made, values).astype(np.int8))


def right(folder, cases, core="cortex-m4"):
    assert all(case.wanted.size < 8 or np.ptp(case.wanted.astype(int)) for case in cases)
    assert ran(folder, cases, core).wrong == [0] * len(cases)


def test_pointwise(tmp_path):
    right(tmp_path, [
        conv(1, (5, 5, 64), (1, 1), 64), conv(2, (2, 2, 8), (1, 1), 16), conv(3, (3, 1, 7), (1, 1), 5),
        conv(4, (1, 2, 12), (1, 1), 6), conv(5, (1, 1, 12), (1, 1), 9), conv(6, (4, 4, 128), (1, 1), 8),
        conv(7, (7, 1, 84), (1, 1), 3, zeros=(5, 10)), conv(8, (5, 2, 33), (1, 1), 12, zeros=(-7, 30)),
        conv(9, (2, 2, 600), (1, 1), 4), conv(10, (5, 1, 30), (1, 1), 2, largest=128)])


def test_general_kernels(tmp_path):
    right(tmp_path, [
        conv(11, (6, 7, 16), (3, 3), 8), conv(12, (9, 9, 3), (3, 3), 8, stride=2),
        conv(13, (12, 5, 1), (10, 4), 6, stride=2), conv(14, (8, 8, 4), (1, 1), 8, stride=2),
        conv(15, (6, 6, 5), (3, 2), 7, padding=1), conv(16, (4, 4, 64), (3, 3), 6),
        conv(17, (2, 2, 2), (5, 5), 4), conv(18, (7, 7, 1), (3, 3), 4, zeros=(0, 9)),
        conv(19, (9, 4, 2), (3, 3), 3, stride=(2, 1), padding=1), conv(20, (5, 5, 1), (5, 5), 8),
        conv(21, (3, 3, 1), (1, 1), 4, stride=(2, 1)), conv(22, (5, 5, 200), (3, 3), 2),
        conv(24, (5, 4, 6), (5, 4), 7, padding=1), conv(25, (9, 8, 1), (5, 4), 6, depth=True, stride=2),
        conv(23, (6, 4, 8), (3, 3), 4, largest=128, zeros=(9, 9))])


def test_depthwise(tmp_path):
    shapes = [(25, 5, 8, 1), (6, 6, 8, 2), (3, 3, 4, 1), (1, 1, 4, 1), (7, 5, 8, 2), (2, 9, 4, 1),
              (13, 13, 4, 1), (11, 10, 4, 2), (5, 70, 4, 1), (4, 90, 4, 2), (12, 12, 4, 1)]
    right(tmp_path, [conv(30 + i, (h, w, c), (3, 3), c, stride=s, depth=True, padding=padding,
                          zeros=(-128, -128) if i % 2 else (4, -3))
                     for i, (h, w, c, s) in enumerate(shapes)
                     for padding in ((0, 1) if min(h, w) > 2 else (0,))])


def test_depthwise_of_many_bytes(tmp_path):
    right(tmp_path, [conv(50, (4, 14, 300), (3, 3), 300, depth=True),
                     conv(51, (4, 6, 700), (3, 3), 700, depth=True),
                     conv(52, (5, 9, 1000), (3, 3), 1000, stride=2, depth=True)])


def test_depthwise_of_other_kernels(tmp_path):
    right(tmp_path, [
        conv(55, (9, 9, 8), (5, 5), 8, depth=True),
        conv(56, (9, 8, 4), (3, 3), 4, depth=True, dilations=(2, 2)),
        conv(57, (8, 7, 12), (7, 1), 12, depth=True, stride=(3, 2), zeros=(3, 4)),
        conv(58, (7, 7, 4), (2, 3), 4, depth=True, padding=1, dilations=(1, 2)),
        conv(59, (3, 3, 4), (5, 5), 4, depth=True, largest=128),
        conv(60, (6, 6, 4), (3, 3), 4, stride=3, depth=True)])


def test_dense(tmp_path):
    right(tmp_path, [
        dense(60, 1, 640, 128), dense(61, 1, 64, 12), dense(62, 1, 64, 10), dense(63, 1, 256, 2),
        dense(64, 2, 31, 3), dense(65, 1, 128, 7, largest=128), dense(66, 1, 1030, 5), dense(67, 4, 20, 6),
        dense(68, 2, 68, 9), dense(69, 1, 9, 1), dense(70, 1, 2000, 4)])


@pytest.mark.parametrize("depth", [False, True])
def test_limits(tmp_path, depth):
    grids = [(0, 40), (1, -100), (1, 40), (3, -128), (3, -90), (2, 10), (3, 3), (1, 126)]
    kernel = (3, 3) if depth else (1, 1)
    right(tmp_path, [conv(80 + i, (6, 6, 8), kernel, 8, depth=depth, activation=activation,
                          zeros=(5, zero), factor=0.3 * (i % 3 + 1))
                     for i, (activation, zero) in enumerate(grids)])


def test_addition(tmp_path):
    right(tmp_path, [
        addition(90, 4096), addition(91, 4097, activation=1),
        addition(92, 1031, zeros=(0, 0, 17), activation=3),
        addition(93, 1022, scales=(0.101, 0.0113, 0.083)), addition(94, 7),
        addition(95, 5000, zeros=(0, 0, 0), activation=1)])


def test_addition_in_place(tmp_path):
    cases = [dataclasses.replace(addition(97, 1029), over=over) for over in (1, 2)]
    assert all(case.kernel.in_place == (0, 1) for case in cases)
    right(tmp_path, cases)


def test_additions_of_other_shapes_are_left_to_others():
    ends = [tensor(i, np.zeros(shape, np.int8), 0.1) for i, shape in enumerate([(1, 2, 4), (4,), (1, 2, 4)])]
    assert DSP["ADD"](operation("ADD", ends[:2], ends[2], fusedActivationFunction=0)) is None


def test_pooling(tmp_path):
    right(tmp_path, [pool(100 + i, *shape) for i, shape in enumerate(
        [(25, 5, 8), (8, 8, 16), (3, 3, 256), (1, 1, 4), (2, 3, 12), (15, 17, 8), (1, 254, 4)])])


def test_instructions(tmp_path):
    """Exact, as all of these kernels are assembly: what grows here grows in every firmware."""
    relu = {"activation": 1}
    cases = [conv(130, (25, 5, 64), (1, 1), 64, **relu),
             conv(131, (25, 5, 64), (3, 3), 64, depth=True, **relu),
             conv(132, (12, 12, 16), (3, 3), 16, depth=True, stride=2, **relu),
             dense(133, 1, 128, 128, zeros=(-128, -128)), addition(134, 4096), pool(135, 25, 5, 64)]
    found = ran(tmp_path, cases, counting=True)
    assert found.wrong == [0] * len(cases)
    assert found.instructions == [419263, 121578, 13430, 17544, 27146, 7095]


def some():
    """A case of each kernel."""
    return [conv(110, (5, 5, 12), (1, 1), 9), conv(111, (6, 6, 5), (3, 3), 4, zeros=(0, 9)),
            conv(113, (7, 6, 8), (3, 3), 8, depth=True), conv(114, (7, 6, 8), (5, 5), 8, depth=True),
            dense(112, 1, 70, 6), addition(115, 100), pool(116, 3, 3, 8)]


@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m33"])
def test_other_cores(tmp_path, core):
    right(tmp_path, some(), core)


@pytest.mark.parametrize("zero", [-128, 9])
def test_layers_without_fast_constants(tmp_path, monkeypatch, zero):
    monkeypatch.setattr("edgeq.firmware.dsp.requantize.fitted", lambda *_: None)
    cases = [conv(120, (5, 5, 12), (1, 1), 9, zeros=(4, zero)), dense(121, 1, 70, 6, zeros=(0, zero)),
             conv(122, (7, 6, 8), (3, 3), 8, depth=True, zeros=(0, zero), activation=1),
             conv(123, (7, 6, 8), (5, 5), 8, depth=True, zeros=(3, zero)),
             conv(124, (6, 6, 5), (3, 3), 4, zeros=(0, zero), activation=3)]
    assert all("smmulr" in case.kernel.routine.assembly for case in cases)
    right(tmp_path, cases)


def random_case(seed):
    chance = np.random.default_rng(seed)
    kind = seed % 4
    height, width, channels, outputs = (int(chance.integers(1, most)) for most in (14, 14, 20, 12))
    kernel = tuple(int(each) for each in chance.integers(1, 5, 2))
    zeros = int(chance.integers(-128, 128)), int(chance.choice([-128, chance.integers(-90, 90)]))
    given = {"zeros": zeros, "activation": int(chance.integers(0, 4)), "stride": int(chance.integers(1, 4)),
             "largest": int(chance.choice([127, 128, 30])), "padding": int(chance.integers(0, 2))}
    if kind == 0:
        return dense(seed, height % 4 + 1, channels * width, outputs, zeros=zeros)
    if kind == 1:
        del given["stride"]
        return conv(seed, (height, width, channels), (1, 1), outputs, **given)
    depth = kind == 2
    size = max(height, kernel[0], 3), max(width, kernel[1], 3)
    channels = 4 * (channels // 4 + 1) if depth else channels
    if depth and seed % 3:
        kernel, given["stride"] = (3, 3), seed % 2 + 1
    return conv(seed, (*size, channels), kernel, channels if depth else outputs, depth=depth, **given)


def test_random_layers(tmp_path):
    cases = [random_case(1000 + seed) for seed in range(60)]
    taken = [case for case in cases if case.kernel]
    assert len(taken) >= 50
    assert ran(tmp_path, taken).wrong == [0] * len(taken)
