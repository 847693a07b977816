"""Small .tflite graphs, written out by hand for the tests."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def tensor(name, shape, dtype="FLOAT32", *, scale=None, zero=0, data=None, open_batch=False):
    """A tensor; `data` (an array) makes it a constant, `scale` may be one number or one a channel."""
    made = schema.TensorT()
    made.name, made.shape = name.encode(), np.array(shape, np.int32)
    made.type = getattr(schema.TensorType, dtype)
    made.data = None if data is None else np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if open_batch:
        made.shapeSignature = np.array([-1, *shape[1:]], np.int32)
    if scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = np.atleast_1d(np.array(scale, np.float32))
        made.quantization.zeroPoint = np.full(np.size(scale), zero, np.int64)
    return made


def operator(name, inputs, outputs):
    """An operator over tensors by their names; `CUSTOM:NAME` is a custom one."""
    return name, inputs.split(), outputs.split()


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
    made.operatorCodes = [_code(name) for name, _, _ in operators]
    graph.operators = [_operator(i, name, [places.get(n, -1) for n in taken], [places[n] for n in given])
                       for i, (name, taken, given) in enumerate(operators)]
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


def dense(weights, bias, **ends):
    """The file of a float FULLY_CONNECTED with weights (out, in); `ends` go to its input and output."""
    outputs, width = weights.shape
    return written(
        [tensor("in", (1, width), **ends),
         tensor("weights", weights.shape, data=weights.astype(np.float32)),
         tensor("bias", bias.shape, data=bias.astype(np.float32)),
         tensor("out", (1, outputs), **ends)],
        [operator("FULLY_CONNECTED", "in weights bias", "out")])


def _code(name):
    made = schema.OperatorCodeT()
    custom = name.startswith("CUSTOM:")
    made.builtinCode = getattr(schema.BuiltinOperator, "CUSTOM" if custom else name)
    made.deprecatedBuiltinCode = min(made.builtinCode, 127)
    made.customCode = name.removeprefix("CUSTOM:").encode() if custom else None
    made.version = 1
    return made


def _operator(code, name, inputs, outputs):
    made = schema.OperatorT()
    made.opcodeIndex = code
    made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    if name == "FULLY_CONNECTED":
        made.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        made.builtinOptions = schema.FullyConnectedOptionsT()
    return made
