"""The default engine: a float .tflite through litert-quantizer. Needs no TensorFlow.

Ranges come from outside (ptq/calibration.py). The library's own calibrator keeps a moving average,
which clips outliers and loses points where they matter (8.6 points of AUC on MLPerf Tiny's anomaly
detection).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.arrays import Floats
from edgeq.errors import Refused
from edgeq.graph import parse, settled
from edgeq.ptq.ranges import Range
from edgeq.quantization import NARROW, Granularity, KeptAs, Static

NAME = "litert-quantizer"
SPELLED_OTHERWISE = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
EVERYWHERE = ".*"
LONGEST = 10_000  # letters of a scope that the library looks at
STUMBLES = (ValueError, RuntimeError, NotImplementedError, AttributeError, IndexError, KeyError, TypeError)


def static(baseline: bytes, ranges: Mapping[str, Range], wanted: Static) -> bytes:
    """The baseline with weights and activations as `wanted`, the latter's `ranges` by tensor name."""
    from litert_quantizer import qtyping, quantizer

    names = qtyping.TFLOperationName
    engine = quantizer.Quantizer(bytearray(baseline))
    _set_operators(engine, EVERYWHERE, wanted.activation_bits, wanted)
    for end, kind in zip((names.INPUT, names.OUTPUT), wanted.ends, strict=True):
        _set_end(engine, EVERYWHERE, end, kind)
    for scope in _kept(baseline, wanted):
        _keep(engine, scope, wanted)
        _set_end(engine, scope, names.OUTPUT, wanted.ends[1])  # goes by the name of what it ends in
    return _quantized(engine, _calibrated(baseline, ranges))


def can_keep(operator: str, kept_as: KeptAs) -> bool:
    """Whether the library can leave an operator in `kept_as`: with activations of 16 bits it knows fewer."""
    from litert_quantizer.qtyping import TFLOperationName
    from litert_quantizer.recipe_manager import RecipeManager

    if kept_as == "float32":
        return True
    try:
        name = TFLOperationName[SPELLED_OTHERWISE.get(operator, operator)]
        RecipeManager().add_static_config(EVERYWHERE, name, 16, 8)
    except (KeyError, ValueError):
        return False
    return True


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


def _by_operator(wanted: Static) -> dict[str, tuple[int, Granularity]]:
    """Bits and granularity of the weights of those operators that are not like all others.

    The kernels of BATCH_MATMUL read one scale; with one a channel they give nonsense.
    """
    narrow = NARROW if wanted.weight_bits == 4 else ()
    found = {operator: (4 if operator in narrow else 8, wanted.granularity_of(operator))
             for operator in dict.fromkeys((*wanted.by_operator, *narrow))}
    return {**found, "BATCH_MATMUL": (8, "per_tensor")}


def _granularities() -> dict[Granularity, Any]:
    from litert_quantizer.qtyping import QuantGranularity

    return {"per_channel": QuantGranularity.CHANNELWISE, "per_tensor": QuantGranularity.TENSORWISE}


def _set_operators(engine: Any, scope: str, bits: int, wanted: Static) -> None:
    """Ask for activations of `bits` in `scope`, and for weights as `wanted`."""
    from litert_quantizer.qtyping import TFLOperationName as names  # noqa: N813  # an enumeration

    kinds = _granularities()
    engine.add_static_config(scope, names.ALL_SUPPORTED, bits, 8, kinds[wanted.granularity])
    for operator, (weight_bits, granularity) in _by_operator(wanted).items():
        name = SPELLED_OTHERWISE.get(operator, operator)
        if name in names.__members__:  # the library leaves others in float, which is noticed later
            engine.add_static_config(scope, names[name], bits, weight_bits, kinds[granularity])


def _kept(baseline: bytes, wanted: Static) -> Iterator[str]:
    """The library's scopes of the operators to be kept: the names of all that each writes."""
    graph = parse(baseline, NAME)
    for operator in graph.operators if wanted.kept else ():
        written = [tensor.name for tensor in graph.outputs_of(operator)]
        if wanted.kept.intersection(written):
            scope = "".join(f"{name};" for name in written if name)
            yield rf"\A{re.escape(scope[:LONGEST])}\Z"


def _keep(engine: Any, scope: str, wanted: Static) -> None:
    """Leave the operator in `scope` more precise than the others."""
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    if wanted.kept_as == "int16x8":
        _set_operators(engine, scope, 16, wanted)
    else:
        engine.update_quantization_recipe(
            scope, TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE)


def _calibrated(baseline: bytes, ranges: Mapping[str, Range]) -> dict[str, dict[str, Floats]]:
    """`ranges` as the library has them: arrays of the tensor's rank, with one entry."""
    ranks = {tensor.name: len(tensor.shape) for tensor in parse(baseline, NAME).tensors}
    return {name: {"min": np.full((1,) * ranks[name], low, np.float32),
                   "max": np.full((1,) * ranks[name], high, np.float32)}
            for name, (low, high) in ranges.items()}


def _set_end(engine: Any, scope: str, end: Any, kind: str) -> None:
    """Leave the model's input or output in float32, or make it int8 or uint8."""
    from litert_quantizer import qtyping
    from litert_quantizer.algorithm_manager import AlgorithmName

    if kind == "float32":
        engine.update_quantization_recipe(scope, end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    elif kind == "uint8":
        unsigned = qtyping.TensorQuantizationConfig(8, symmetric=False, dtype=qtyping.TensorDataType.UINT)
        config = qtyping.OpQuantizationConfig(
            activation_tensor_config=unsigned,
            weight_tensor_config=qtyping.TensorQuantizationConfig(8),
            compute_precision=qtyping.ComputePrecision.INTEGER)
        engine.update_quantization_recipe(scope, end, config)
    else:
        engine.add_static_config(scope, end, int(kind.removeprefix("int")), 8)


def _quantized(engine: Any, calibrated: Any = None) -> bytes:
    try:
        made = engine.quantize(calibrated, enable_progress_report=False)
    except STUMBLES as error:
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"{NAME} cannot quantize the model: {message}",
                      "try `engine: tflite-converter`, or another recipe") from error
    return settled(bytes(made.quantized_model), NAME)
