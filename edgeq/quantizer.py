"""The default engine: a float .tflite through litert-quantizer. Needs no TensorFlow.

Activation ranges are the true minimum and maximum over the calibration samples. The library's own
calibrator keeps a moving average instead, which clips outliers and loses points where they matter
(8.6 points of AUC on MLPerf Tiny's anomaly detection).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.errors import Refused
from edgeq.graph import Graph, read, settled
from edgeq.quantization import Static

NAME = "litert-quantizer"
SPELLED_OTHERWISE = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}


def static(baseline: Path, samples: Array, wanted: Static) -> bytes:
    """The baseline with weights and activations as `wanted`, ranges taken over `samples`."""
    from litert_quantizer import qtyping, quantizer

    names, granularities = qtyping.TFLOperationName, qtyping.QuantGranularity
    kinds = {"per_channel": granularities.CHANNELWISE, "per_tensor": granularities.TENSORWISE}
    engine = quantizer.Quantizer(bytearray(baseline.read_bytes()))
    bits = wanted.activation_bits
    engine.add_static_config(".*", names.ALL_SUPPORTED, bits, 8, kinds[wanted.granularity])
    for operator, granularity in wanted.by_operator.items():
        name = SPELLED_OTHERWISE.get(operator, operator)
        if name in names.__members__:  # the library leaves others in float, which is noticed later
            engine.add_static_config(".*", names[name], bits, 8, kinds[granularity])
    for end, kind in zip((names.INPUT, names.OUTPUT), wanted.ends, strict=True):
        _set_end(engine, end, kind)
    return _quantized(engine, ranges(baseline, samples))


def dynamic(baseline: Path) -> bytes:
    """The baseline with int8 weights, its activations quantized at run time by the kernels."""
    from litert_quantizer import quantizer, recipe

    return _quantized(quantizer.Quantizer(bytearray(baseline.read_bytes()), recipe.dynamic_wi8_afp32()))


def float16(baseline: Path) -> bytes:
    """The baseline with its weights stored as float16 and computed in float32."""
    from litert_quantizer import qtyping, quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName

    engine = quantizer.Quantizer(bytearray(baseline.read_bytes()))
    halves = qtyping.TensorQuantizationConfig(16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=halves, compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True)
    engine.update_quantization_recipe(
        ".*", qtyping.TFLOperationName.ALL_SUPPORTED, config, AlgorithmName.FLOAT_CASTING)
    return _quantized(engine)


def ranges(baseline: Path, samples: Array) -> dict[str, dict[str, Floats]]:
    """Tensor name -> {min, max} over `samples` (n, *shape), each of shape (1, …, 1).

    Kernels without a delegate are used: XNNPACK would leave the inner tensors unwritten.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph = read(baseline)
    interpreter = Interpreter(
        model_path=str(baseline), num_threads=1, experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    inner = [t for t in graph.activations() if t.dtype == "FLOAT32" and t.elements]
    low = np.full(len(inner), np.inf, np.float32)
    high = np.full(len(inner), -np.inf, np.float32)
    for sample in samples:
        interpreter.set_tensor(graph.inputs[0], sample[np.newaxis])
        interpreter.invoke()
        values = [interpreter.get_tensor(tensor.index) for tensor in inner]
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    _refuse_endless(graph, low, high, [tensor.name for tensor in inner])
    return {
        tensor.name: {"min": np.full((1,) * len(tensor.shape), least, np.float32),
                      "max": np.full((1,) * len(tensor.shape), most, np.float32)}
        for tensor, least, most in zip(inner, low, high, strict=True)
    }


def _refuse_endless(
    graph: Graph, low: Floats, high: Floats, names: list[str]
) -> None:
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.all():
        name = names[int(np.argmin(finite))]
        raise Refused(f"the float model gives NaN or infinity in {name!r} "
                      f"(of {len(graph.tensors)} tensors) on the calibration samples",
                      "an activation without a finite range cannot be quantized")


def _set_end(engine: Any, end: Any, kind: str) -> None:
    """Leave the model's input or output in float32, or make it uint8; int8 is how it is anyway."""
    from litert_quantizer import qtyping
    from litert_quantizer.algorithm_manager import AlgorithmName

    if kind == "float32":
        engine.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    elif kind == "uint8":
        unsigned = qtyping.TensorQuantizationConfig(8, symmetric=False, dtype=qtyping.TensorDataType.UINT)
        config = qtyping.OpQuantizationConfig(
            activation_tensor_config=unsigned,
            weight_tensor_config=qtyping.TensorQuantizationConfig(8),
            compute_precision=qtyping.ComputePrecision.INTEGER)
        engine.update_quantization_recipe(".*", end, config)


def _quantized(engine: Any, calibrated: Any = None) -> bytes:
    try:
        made = engine.quantize(calibrated, enable_progress_report=False)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"{NAME} cannot quantize the model: {message}",
                      "try `engine: tflite-converter`, or another recipe") from error
    return settled(bytes(made.quantized_model), NAME)
