"""Random quantized graphs for the firmware: operators, shapes, strides, paddings and grids drawn from a seed.

Each choice adds operators behind the last value of a net, or leaves it as it is where it cannot be had.
"""

import graphs
import numpy as np
from firmware_nets import ACTIVATIONS, Net, sizes


def random_net(seed):
    """A net of three to seven operators."""
    chance = np.random.default_rng(seed)
    dtype = "INT16" if chance.random() < 0.3 else "INT8"
    net = Net((1, *(int(chance.integers(2, 9)) for _ in range(2)), int(chance.integers(1, 7))), seed, dtype)
    last, wanted = "in", int(chance.integers(3, 8))
    while len(net.operators) < wanted:
        choice = STEPS[int(chance.integers(len(STEPS)))]
        last = choice(net, last, chance)
    if chance.random() < 0.4:
        last = ENDS[int(chance.integers(len(ENDS)))](net, last, chance)
    return net, last


def pick(chance, *given):
    return given[int(chance.integers(len(given)))]


def window(net, source, chance, *, dilated=True):
    """A kernel's size and the options of its window, which fit the image."""
    image = net.shape(source)[1:3]
    size = [int(chance.integers(1, min(n, 4) + 1)) for n in image]
    options = {
        "padding": pick(chance, "SAME", "VALID"),
        "activation": pick(chance, *ACTIVATIONS),
        "stride": tuple(int(chance.integers(1, 4)) for _ in range(2)),
    }
    if dilated and chance.random() < 0.3:
        dilation = tuple(int(chance.integers(1, 4)) for _ in range(2))
        if options["padding"] == "SAME" or all(
            (k - 1) * d < n for k, d, n in zip(size, dilation, image, strict=True)
        ):
            options = {**options, "dilation": dilation, "stride": (1, 1)}
    return size, options


def conv(net, source, chance):
    size, options = window(net, source, chance)
    if chance.random() < 0.3:
        size, options = (1, 1), {"activation": options["activation"]}
    depth = net.shape(source)[3]
    groups = 2 if depth % 2 == 0 and chance.random() < 0.2 else 1
    return net.conv(
        source,
        groups * int(chance.integers(1, 7)),
        size,
        groups=groups,
        options=options,
        bias=chance.random() < 0.8,
        per_channel=chance.random() < 0.7,
    )


def depthwise(net, source, chance):
    size, options = window(net, source, chance)
    multiplier = int(chance.integers(1, 3)) if net.shape(source)[3] < 6 else 1
    return net.conv(
        source,
        multiplier,
        size,
        kind="DEPTHWISE_CONV_2D",
        options=options,
        bias=chance.random() < 0.8,
        per_channel=chance.random() < 0.7,
    )


def transposed(net, source, chance):
    if max(net.shape(source)[1:3]) > 6:
        return source
    size, options = window(net, source, chance, dilated=False)
    options["stride"] = tuple(min(2, each) for each in options["stride"])
    return net.transposed(
        source, int(chance.integers(1, 5)), size, options=options, bias=chance.random() < 0.8
    )


def pool(net, source, chance):
    size, options = window(net, source, chance, dilated=False)
    shape = net.shape(source)
    return net.add(
        pick(chance, "AVERAGE_POOL_2D", "MAX_POOL_2D"),
        source,
        [1, *sizes(shape, size, options), shape[3]],
        net.grid(source),
        filterHeight=size[0],
        filterWidth=size[1],
        **graphs.spelled(options),
    )


def mix(net, source, chance):
    """ADD, SUB or MUL with an earlier value, or a constant that may broadcast."""
    shape, name = net.shape(source), pick(chance, "ADD", "SUB", "MUL")
    earlier = [each for each in net.tensors if each.startswith(("in", "value")) and net.shape(each) == shape]
    other = pick(chance, *earlier)
    if chance.random() < 0.5:
        small = [1 if chance.random() < 0.4 else n for n in shape][int(chance.integers(0, 4)) :]
        values = graphs.noise(net.dtype.lower(), small, int(chance.integers(1 << 30)))
        other = net.constant(values, net.dtype, scale=net.scale(), zero=net.zero(net.dtype))
    scales = [net.grid(each)["scale"] for each in (source, other)]
    scale = max(scales) * (1 if net.dtype == "INT8" else 2)
    if name == "MUL":
        scale = scales[0] * scales[1] * (60 if net.dtype == "INT8" else 15000)
    inputs = f"{source} {other}" if chance.random() < 0.5 else f"{other} {source}"
    activation = int(chance.integers(4)) if scale > 1e-3 else 0
    return net.add(
        name,
        inputs,
        shape,
        {"scale": scale * float(chance.uniform(0.9, 1.7))},
        fusedActivationFunction=activation,
    )


def curve(net, source, chance):
    """A function of single values."""
    name = pick(chance, "LOGISTIC", "TANH", "RELU", "RELU6", "HARD_SWISH", "QUANTIZE")
    wide = net.dtype == "INT16"
    if (wide and name == "HARD_SWISH") or (name == "HARD_SWISH" and net.grid(source)["scale"] > 1):
        return source
    unit = {
        "LOGISTIC": (1 / 32768, 0) if wide else (1 / 256, -128),
        "TANH": (1 / 32768, 0) if wide else (1 / 128, 0),
    }
    if name in unit:
        if net.grid(source)["scale"] > 2:
            return source
        grid = dict(zip(("scale", "zero"), unit[name], strict=True))
    else:
        grid = {"scale": net.grid(source)["scale"] * float(chance.uniform(0.4, 1.6))}
    return net.add(name, source, net.shape(source), grid)


def padded(net, source, chance):
    paddings = chance.integers(0, 3, (4, 2)).astype(np.int32)
    paddings[0] = 0
    shape = [int(n + sum(p)) for n, p in zip(net.shape(source), paddings, strict=True)]
    return (
        net.add("PAD", f"{source} {net.constant(paddings)}", shape, net.grid(source))
        if max(shape) < 12
        else source
    )


def joined(net, source, chance):
    """SPLIT, and CONCATENATION of what it gives, the other way round."""
    shape = net.shape(source)
    halves = [axis for axis in (1, 2, 3) if shape[axis] % 2 == 0]
    if not halves:
        return source
    axis = pick(chance, *halves)
    first, second = net.split(source, axis, 2)
    return net.add(
        "CONCATENATION", f"{second} {first}", shape, net.grid(source), axis=axis - pick(chance, 0, 4)
    )


def turned(net, source, chance):
    order = [0, *(int(axis) for axis in 1 + chance.permutation(3))]
    return net.add(
        "TRANSPOSE",
        f"{source} {net.integers(*order)}",
        [net.shape(source)[axis] for axis in order],
        net.grid(source),
    )


def sliced(net, source, chance):
    shape = net.shape(source)
    begin = [0, *(int(chance.integers(0, n)) for n in shape[1:])]
    step = [1, *(int(chance.integers(1, 3)) for _ in range(3))]
    found = [len(range(n)[b::s]) for n, b, s in zip(shape, begin, step, strict=True)]
    return net.add(
        "STRIDED_SLICE",
        f"{source} {net.integers(*begin)} {net.integers(*shape)} {net.integers(*step)}",
        found,
        net.grid(source),
        beginMask=0,
        endMask=pick(chance, 0, 15),
    )


def resized(net, source, chance):
    name = (
        "RESIZE_NEAREST_NEIGHBOR"
        if net.dtype == "INT16"
        else pick(chance, "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR")
    )
    size = [int(chance.integers(1, 9)) for _ in range(2)]
    align, half = pick(chance, (False, False), (True, False), (False, True))
    return net.add(
        name,
        f"{source} {net.integers(*size)}",
        [1, *size, net.shape(source)[3]],
        net.grid(source),
        alignCorners=align,
        halfPixelCenters=half,
    )


def averaged(net, source, chance):
    """MEAN over height and width, kept, so that more can follow."""
    grid = pick(
        chance, net.grid(source), {"scale": net.grid(source)["scale"] * float(chance.uniform(0.2, 1))}
    )
    return net.add(
        "MEAN", f"{source} {net.integers(1, 2)}", [1, 1, 1, net.shape(source)[3]], grid, keepDims=True
    )


def dense(net, source, chance):
    wide = net.dtype == "INT16"
    return net.dense(
        source,
        int(chance.integers(1, 12)),
        activation=pick(chance, *ACTIVATIONS),
        bias=chance.random() < 0.8,
        per_channel=not wide and chance.random() < 0.5,
    )


def classified(net, source, chance):
    grid = {"scale": 1 / 32768, "zero": 0} if net.dtype == "INT16" else {"scale": 1 / 256, "zero": -128}
    return net.add("SOFTMAX", dense(net, source, chance), net.shape(net.operators[-1][2][0]), grid, beta=1.0)


def regridded(net, source, chance):
    """To the other integer type, or to float."""
    kind = pick(chance, "FLOAT32", "INT8" if net.dtype == "INT16" else "INT16")
    scale = net.grid(source)["scale"] * (100 if kind == "INT8" else 0.01)
    return net.add(
        "DEQUANTIZE" if kind == "FLOAT32" else "QUANTIZE", source, net.shape(source), {"scale": scale}, kind
    )


STEPS = (
    conv,
    conv,
    conv,
    depthwise,
    depthwise,
    transposed,
    pool,
    pool,
    mix,
    mix,
    mix,
    curve,
    curve,
    padded,
    joined,
    turned,
    sliced,
    resized,
    averaged,
)
ENDS = (dense, classified, regridded)
