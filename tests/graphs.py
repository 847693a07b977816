"""Small .tflite graphs, written out by hand for the tests."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

PADDINGS = ("SAME", "VALID")
ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
OPTIONS = {
    "ADD": "AddOptions", "AVERAGE_POOL_2D": "Pool2DOptions", "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions", "MAX_POOL_2D": "Pool2DOptions", "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SHAPE": "ShapeOptions", "SOFTMAX": "SoftmaxOptions", "SPLIT": "SplitOptions",
    "STRIDED_SLICE": "StridedSliceOptions", "SUB": "SubOptions", "SVDF": "SVDFOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions"}


def tensor(name, shape, dtype="FLOAT32", *, scale=None, zero=0, data=None, open_batch=False, variable=False):
    """A tensor; `data` (an array) makes it a constant, `scale` may be one number or one a channel."""
    made = schema.TensorT()
    made.name, made.shape = name.encode(), np.array(shape, np.int32)
    made.type, made.isVariable = getattr(schema.TensorType, dtype), variable
    made.data = None if data is None else np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if open_batch:
        made.shapeSignature = np.array([-1, *shape[1:]], np.int32)
    if scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = np.atleast_1d(np.array(scale, np.float32))
        made.quantization.zeroPoint = np.full(np.size(scale), zero, np.int64)
    return made


def operator(name, inputs, outputs, **options):
    """An operator over tensors by their names; `CUSTOM:NAME` is a custom one, `options` the schema's."""
    return name, inputs.split(), outputs.split(), options


def model(tensors, operators, inputs, outputs):
    """The schema's ModelT of these tensors and operators, the ends given by name."""
    places = {made.name.decode(): i for i, made in enumerate(tensors)}
    made = schema.ModelT()
    made.version, made.description, made.buffers = 3, b"by hand", [schema.BufferT()]
    for each in tensors:
        each.buffer = 0
        if each.data is not None:
            each.buffer = len(made.buffers)
            made.buffers.append(schema.BufferT())
            made.buffers[-1].data = each.data
    graph = schema.SubGraphT()
    graph.tensors = tensors
    made.operatorCodes = [_code(name) for name, *_ in operators]
    graph.operators = [
        _operator(i, name, ([places.get(n, -1) for n in taken], [places[n] for n in given]), options)
        for i, (name, taken, given, options) in enumerate(operators)]
    graph.inputs = np.array([places[name] for name in inputs.split()], np.int32)
    graph.outputs = np.array([places[name] for name in outputs.split()], np.int32)
    made.subgraphs = [graph]
    return made


def packed(made):
    """The .tflite file of a ModelT."""
    builder = flatbuffers.Builder()
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def written(tensors, operators, inputs="in", outputs="out"):
    """The .tflite file of these tensors and operators."""
    return packed(model(tensors, operators, inputs, outputs))


def noise(kind, shape, seed=0):
    """Seeded values of a type: all of an integer one's, those of a normal distribution of a float one's."""
    chance, kind = np.random.default_rng(seed), np.dtype(kind)
    if kind.kind in "iu":
        bounds = np.iinfo(kind)
        return chance.integers(bounds.min, bounds.max, shape, endpoint=True).astype(kind)
    return chance.normal(size=shape).astype(kind)


def dense(weights, bias, **ends):
    """The file of a float FULLY_CONNECTED with weights (out, in); `ends` go to its input and output."""
    outputs, width = weights.shape
    return written(
        [tensor("in", (1, width), **ends),
         tensor("weights", weights.shape, data=weights.astype(np.float32)),
         tensor("bias", bias.shape, data=bias.astype(np.float32)),
         tensor("out", (1, outputs), **ends)],
        [operator("FULLY_CONNECTED", "in weights bias", "out")])


class Net:
    """A float network, grown operator by operator; each method gives the name of what it adds.

    Weights are drawn by `seed`, where none are given; the input is `in`.
    """

    def __init__(self, shape, seed=0):
        self.chance = np.random.default_rng(seed)
        self.tensors = {"in": tensor("in", shape)}
        self.operators = []

    def shape(self, name):
        return [int(size) for size in self.tensors[name].shape]

    def constant(self, values, name=None):
        name = name or f"constant{len(self.tensors)}"
        values = np.asarray(values)
        self.tensors[name] = tensor(name, values.shape, values.dtype.name.upper(), data=values)
        return name

    def drawn(self, *shape):
        """Weights of about the size that keeps values as large as they were."""
        fan = np.prod(shape) / shape[0]
        return self.chance.normal(0, 1 / np.sqrt(fan), shape).astype(np.float32)

    def add(self, operator_name, inputs, shape, **options):
        name = f"value{len(self.operators)}"
        self.tensors[name] = tensor(name, shape)
        self.operators.append(operator(operator_name, inputs, name, **options))
        return name

    def conv(self, source, weights, bias=None, **options):
        """`weights` (out, h, w, in a group), or the name of a constant; `bias` likewise, "" for none."""
        weights, bias = self._parameters(weights, bias, lambda shape: shape[0])
        channels, *size, _ = self.shape(weights)
        shape = [1, *self._sizes(source, size, options), channels]
        return self.add("CONV_2D", f"{source} {weights} {bias}", shape, **spelled(options))

    def depthwise(self, source, weights, bias=None, **options):
        """`weights` (1, h, w, channels * multiplier)."""
        weights, bias = self._parameters(weights, bias, lambda shape: shape[3])
        _, *size, channels = self.shape(weights)
        shape = [1, *self._sizes(source, size, options), channels]
        multiplier = channels // self.shape(source)[3]
        return self.add("DEPTHWISE_CONV_2D", f"{source} {weights} {bias}", shape,
                        depthMultiplier=multiplier, **spelled(options))

    def dense(self, source, weights, bias=None, *, keep=False, activation="none"):
        """`weights` (out, in); `keep` the leading dimensions of the source."""
        weights, bias = self._parameters(weights, bias, lambda shape: shape[0])
        leading = self.shape(source)[:-1] if keep else [1]
        return self.add("FULLY_CONNECTED", f"{source} {weights} {bias}", [*leading, self.shape(weights)[0]],
                        keepNumDims=keep, fusedActivationFunction=ACTIVATIONS[activation])

    def transposed(self, source, weights, bias=None, **options):
        """`weights` (out, h, w, in)."""
        weights, bias = self._parameters(weights, bias, lambda shape: shape[0])
        channels, *size, _ = self.shape(weights)
        strides, padding = options.get("stride", (1, 1)), options.get("padding", "SAME")
        grown = [n * s + (0 if padding == "SAME" else max(k - s, 0)) for n, s, k in
                 zip(self.shape(source)[1:3], strides, size, strict=True)]
        shape = [1, *grown, channels]
        wanted = self.constant(np.array(shape, np.int32))
        return self.add("TRANSPOSE_CONV", f"{wanted} {weights} {source} {bias}", shape, **spelled(options))

    def mean(self, source):
        """The mean over height and width."""
        axes = self.constant(np.array([1, 2], np.int32))
        return self.add("MEAN", f"{source} {axes}", [1, self.shape(source)[3]])

    def reshape(self, source, shape):
        wanted = self.constant(np.array(shape, np.int32))
        return self.add("RESHAPE", f"{source} {wanted}", shape)

    def file(self, *outputs):
        """The .tflite file; its output is the last value, or those named."""
        named = outputs or [f"value{len(self.operators) - 1}"]
        return written(list(self.tensors.values()), self.operators, "in", " ".join(named))

    def _parameters(self, weights, bias, channels):
        weights = weights if isinstance(weights, str) else self.constant(np.float32(weights))
        if bias is None:
            bias = self.chance.normal(0, 0.1, channels(self.shape(weights)))
        return weights, bias if isinstance(bias, str) else self.constant(np.float32(bias))

    def _sizes(self, source, size, options):
        """Height and width of what a convolution puts out."""
        found = []
        for n, k, s, d in zip(self.shape(source)[1:3], size, options.get("stride", (1, 1)),
                              options.get("dilation", (1, 1)), strict=True):
            reach = 1 if options.get("padding", "SAME") == "SAME" else (k - 1) * d + 1
            found.append((n - reach) // s + 1)
        return found


def spelled(options):
    """stride, dilation, padding and activation under the schema's names."""
    (high, wide), (tall, broad) = options.get("stride", (1, 1)), options.get("dilation", None) or (0, 0)
    dilation = {"dilationHFactor": tall, "dilationWFactor": broad} if tall else {}
    return {"padding": PADDINGS.index(options.get("padding", "SAME")), "strideH": high, "strideW": wide,
            "fusedActivationFunction": ACTIVATIONS[options.get("activation", "none")], **dilation}


def _code(name):
    made = schema.OperatorCodeT()
    custom = name.startswith("CUSTOM:")
    made.builtinCode = getattr(schema.BuiltinOperator, "CUSTOM" if custom else name)
    made.deprecatedBuiltinCode = min(made.builtinCode, 127)
    made.customCode = name.removeprefix("CUSTOM:").encode() if custom else None
    made.version = 1
    return made


def _operator(code, name, ends, options):
    made = schema.OperatorT()
    made.opcodeIndex = code
    made.inputs, made.outputs = (np.array(each, np.int32) for each in ends)
    if table := OPTIONS.get(name):
        made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        made.builtinOptions = getattr(schema, f"{table}T")()
        for key, value in options.items():
            setattr(made.builtinOptions, key, value)
    return made
