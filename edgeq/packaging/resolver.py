"""The operators of a .tflite as TensorFlow Lite Micro registers them: one method of its resolver for each.

Names are those of tensorflow/lite/micro/micro_mutable_op_resolver.h in github.com/tensorflow/tflite-micro,
as of 2025; schema.fbs has the names of the operators.
"""

from __future__ import annotations

CUSTOM = "CUSTOM:"
CUSTOMS = {"ethos-u": "EthosU", "TFLite_Detection_PostProcess": "DetectionPostprocess",
           "CIRCULAR_BUFFER": "CircularBuffer"}
IRREGULAR = {"BATCH_MATMUL": "BatchMatMul", "CUMSUM": "CumSum", "PADV2": "PadV2",
             "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM"}
REGULAR = frozenset({
    "ABS", "ADD", "ADD_N", "ARG_MAX", "ARG_MIN", "ASSIGN_VARIABLE", "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND",
    "BROADCAST_ARGS", "BROADCAST_TO", "CALL_ONCE", "CAST", "CEIL", "CONCATENATION", "CONV_2D", "COS",
    "DEPTH_TO_SPACE", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV", "DYNAMIC_UPDATE_SLICE", "ELU",
    "EMBEDDING_LOOKUP", "EQUAL", "EXP", "EXPAND_DIMS", "FILL", "FLOOR", "FLOOR_DIV", "FLOOR_MOD",
    "FULLY_CONNECTED", "GATHER", "GATHER_ND", "GREATER", "GREATER_EQUAL", "HARD_SWISH", "IF",
    "L2_NORMALIZATION", "L2_POOL_2D", "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOG_SOFTMAX",
    "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC", "MAX_POOL_2D", "MAXIMUM", "MEAN", "MINIMUM",
    "MIRROR_PAD", "MUL", "NEG", "NOT_EQUAL", "PACK", "PAD", "PRELU", "QUANTIZE", "READ_VARIABLE",
    "REDUCE_ALL", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND", "RSQRT", "SELECT_V2", "SHAPE", "SIN", "SLICE",
    "SOFTMAX", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQRT", "SQUARE",
    "SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "SVDF", "TANH", "TRANSPOSE",
    "TRANSPOSE_CONV", "UNPACK", "VAR_HANDLE", "WHILE", "ZEROS_LIKE"})


def method(operator: str) -> str | None:
    """What registers `operator` (`CONV_2D`, `CUSTOM:ethos-u`): `AddConv2D`; None where nothing does."""
    if operator.startswith(CUSTOM):
        known = CUSTOMS.get(operator.removeprefix(CUSTOM))
        return known and f"Add{known}"
    if operator in REGULAR:
        return "Add" + "".join(_capital(word) for word in operator.split("_"))
    return f"Add{IRREGULAR[operator]}" if operator in IRREGULAR else None


def _capital(word: str) -> str:
    """`CONV` as `Conv`, and `2D` as it is."""
    return word if word[0].isdigit() else word.capitalize()
