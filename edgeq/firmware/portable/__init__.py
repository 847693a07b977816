"""Portable kernels: plain C99 that is bit-exact with TensorFlow Lite Micro's reference kernels."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.firmware.kernel import Generator
from edgeq.firmware.portable.activations import ACTIVATIONS
from edgeq.firmware.portable.convolution import convolution
from edgeq.firmware.portable.copying import concatenation, pad, split, strided_slice, transpose
from edgeq.firmware.portable.dense import dense
from edgeq.firmware.portable.depthwise import depthwise
from edgeq.firmware.portable.elementwise import add, multiply, subtract
from edgeq.firmware.portable.pooling import average_pool, max_pool
from edgeq.firmware.portable.quantizing import dequantize, quantize
from edgeq.firmware.portable.reduction import mean
from edgeq.firmware.portable.resize import bilinear, nearest
from edgeq.firmware.portable.softmax import softmax
from edgeq.firmware.portable.transposed import transposed

PORTABLE: Mapping[str, Generator] = {
    "ADD": add,
    "AVERAGE_POOL_2D": average_pool,
    "CONCATENATION": concatenation,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "DEQUANTIZE": dequantize,
    "FULLY_CONNECTED": dense,
    "MAX_POOL_2D": max_pool,
    "MEAN": mean,
    "MUL": multiply,
    "PAD": pad,
    "PADV2": pad,
    "QUANTIZE": quantize,
    "RESIZE_BILINEAR": bilinear,
    "RESIZE_NEAREST_NEIGHBOR": nearest,
    "SOFTMAX": softmax,
    "SPLIT": split,
    "STRIDED_SLICE": strided_slice,
    "SUB": subtract,
    "TRANSPOSE": transpose,
    "TRANSPOSE_CONV": transposed,
    **ACTIVATIONS,
}
