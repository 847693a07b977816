"""A tf_keras model made to feel its own quantization while it is trained, by TF-MOT.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-
Only Inference" (arXiv 1712.05877). TF-MOT starts each range of an activation at -6..6 and lets it
follow by a thousandth a step, so that a short training ends with grids that fit nothing; here they
start at what the float activations have on some samples, and follow by a hundredth.
The one rule: no layer stays in float unsaid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeq.arrays import Array
from edgeq.converter import convert, converter_for
from edgeq.errors import Refused
from edgeq.quantization import Static, write_static

NAME = "TF-MOT"
Preserved = Literal["", "zeros", "clusters"]
# The functions that TF-MOT knows inside a layer.
FUNCTIONS = frozenset({"NoOpActivation", "gelu", "linear", "relu", "sigmoid", "softmax", "swish", "tanh"})
WEIGHTED = frozenset({"Conv2D", "Dense", "DepthwiseConv2D"})
# What TF-MOT does not know and TFLite has for integers, once it is told the range of the output.
COMPUTING = frozenset({"Conv1D", "Maximum", "Minimum", "Multiply", "PReLU", "Subtract"})
HINTS = {
    "BatchNormalization": "put it right after a convolution or a dense layer, into which it can be folded",
    "Normalization": "leave it out of the model, and say `mean` and `std` on its data instead",
    "Rescaling": "leave it out of the model, and say `mean` and `std` on its data instead",
}
HINT = "leave it out, or use a recipe that can keep layers in float, such as selective-int8"
AFTERWARDS = "use a recipe that quantizes after training, such as static-int8"
FOLLOWING = 0.01
NARROWEST = 1e-4  # what is always zero has no range of its own, and kernels abort on grids too fine
SAMPLES = 256  # that the ranges start from
BATCH = 32

Quantizer = Callable[..., Any]
Range = dict[str, Any]  # the variables min_var and max_var


@dataclass(frozen=True)
class Aware:
    """A model that feels its quantization, and the layers that TF-MOT does not know, by their names."""

    model: Any
    unknown: dict[str, str]
    ranges: list[Range]

    def write(self, out: Path, wanted: Static) -> None:
        """Write `out/model.tflite`, in integers throughout.

        Raises Refused, naming the layers that TF-MOT does not know, where anything is left in float.
        """
        import tensorflow as tf

        for held in self.ranges:
            narrowest = held["min_var"].numpy() + NARROWEST
            held["max_var"].assign(max(held["max_var"].numpy(), narrowest))
        converter = converter_for(self.model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type, converter.inference_output_type = (
            tf.as_dtype(end) for end in wanted.ends)
        content = convert(converter)
        try:
            write_static(out, content, wanted, NAME)
        except Refused as refusal:
            if not self.unknown:
                raise Refused(refusal.message, AFTERWARDS) from refusal
            kind = next(iter(self.unknown.values()))
            raise Refused(f"{NAME} has no way to train these layers as they are quantized: {self.named()}",
                          HINTS.get(kind, HINT)) from refusal

    def named(self) -> str:
        """The layers that TF-MOT does not know, in words."""
        return ", ".join(f"{name!r} ({kind})" for name, kind in self.unknown.items())


def aware(model: Any, samples: Array, preserved: Preserved = "") -> Aware:
    """The tf_keras `model` with its quantization simulated, ranges from `samples` (n, *shape).

    `preserved` says what of the weights shall outlast the training: its zeros, or its clusters.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    tf_keras.backend.reset_uids()  # names, and so the bytes, do not depend on what came before
    combined = tfmot.experimental.combine
    schemes: dict[str, Any] = {
        "": tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme,
        "zeros": combined.Default8BitPrunePreserveQuantizeScheme,
        "clusters": lambda: combined.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False)}
    scheme = _Scheme(schemes[preserved]())
    keras = tfmot.quantization.keras
    with refusals("quantize"):
        made = keras.quantize_apply(keras.quantize_annotate_model(model), scheme)
    ranges = _start(made, samples)
    for holder, name, value in _activations(made, _follow):
        setattr(holder, name, value)
    return Aware(made, scheme.unknown, ranges)


def see_some(model: Any, kinds: Collection[str], verb: str) -> None:
    """See that the tf_keras `model` has a layer of these `kinds`; Refused where there is none to `verb`."""
    if not any(type(layer).__name__ in kinds for layer in model.layers):
        raise Refused(f"the model has no layer to {verb}: none is {' or '.join(sorted(kinds))}", AFTERWARDS)


@contextmanager
def refusals(verb: str) -> Iterator[None]:
    """What TF-MOT raises in the block, in words: it has no class of its own for what it cannot do."""
    try:
        yield
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError,
            NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"{NAME} cannot {verb} the model: {reason}",
                      AFTERWARDS) from error


@dataclass(frozen=True)
class _Scheme:
    """A scheme of TF-MOT's that lets layers pass that it does not know, and notes which they are."""

    inner: Any
    unknown: dict[str, str] = field(default_factory=dict)

    def get_layout_transformer(self) -> _Scheme:
        """Who lays out the layers, as TF-MOT asks for it."""
        return self

    def apply(self, model: Any, known: Any) -> tuple[Any, Any]:
        """The layers laid out by TF-MOT, and how they are quantized.

        It forgets the weights of a layer that a ReLU follows at once; here they are not forgotten.
        """
        from tensorflow_model_optimization.python.core.quantization.keras import (
            quantize_aware_activation as functions,
        )

        made, quantized = self.inner.get_layout_transformer().apply(model, known)
        for layer in made.layers:
            config = quantized.get(layer.name, {}).get("quantize_config")
            if type(config).__name__ == "NoOpQuantizeConfig" and type(layer).__name__ in WEIGHTED:
                quantized[layer.name] = {}
                if getattr(layer.activation, "__name__", "") == "linear":
                    layer.activation = functions.NoOpActivation()
            if type(layer).__name__ == "Conv2DTranspose":  # the converter leaves it in float all the same
                self.unknown[layer.name] = "Conv2DTranspose"
        return made, quantized

    def get_quantize_registry(self) -> _Scheme:
        """Who knows how a layer is quantized, as TF-MOT asks for it."""
        return self

    def supports(self, _: Any) -> bool:
        """Whether a layer may pass, as TF-MOT asks for it."""
        return True

    def get_quantize_config(self, layer: Any) -> Any:
        """What of `layer` is quantized, as TF-MOT asks for it: nothing where it has no way to."""
        from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
            default_8bit_quantize_configs as configs,
        )

        try:
            config = self.inner.get_quantize_registry().get_quantize_config(layer)
            config.get_output_quantizers(layer)
            functions = [function for function, _ in config.get_activations_and_quantizers(layer)]
        except (ValueError, RuntimeError, NotImplementedError, AttributeError):
            functions = [None]
        names = {getattr(each, "__name__", type(each).__name__) for each in functions}
        if names <= FUNCTIONS:
            return config
        said = "".join(f" with {name}" for name in names - FUNCTIONS if name != "NoneType")
        self.unknown[layer.name] = type(layer).__name__ + said
        if type(layer).__name__ in COMPUTING:
            return configs.Default8BitOutputQuantizeConfig()
        return configs.NoOpQuantizeConfig()


def _start(model: Any, samples: Array) -> list[Range]:
    """The ranges of the activations, which start at the mean extremes of batches of `samples`."""
    seen: dict[int, tuple[Any, list[tuple[float, float]]]] = {}

    def observe(values: Any, _: Any, weights: Any, **__: Any) -> Any:
        flat = values.numpy()
        extremes = seen.setdefault(id(weights["min_var"]), (weights, []))[1]
        extremes.append((float(flat.min()), float(flat.max())))
        return values

    with _instead(model, observe):
        for start in range(0, len(samples), BATCH):
            model(np.asarray(samples[start:start + BATCH]), training=False)
    for weights, extremes in seen.values():
        low, high = np.mean(extremes, axis=0)
        weights["min_var"].assign(min(0.0, low))
        weights["max_var"].assign(max(0.0, high))
    return [weights for weights, _ in seen.values()]


@contextmanager
def _instead(model: Any, observe: Quantizer) -> Iterator[None]:
    """Let `observe` take the place of all that quantizes activations; weights stay as they are."""
    places = [*_activations(model, observe)]
    for layer in model.layers:
        if getattr(layer, "quantizer", None):  # of the model's input
            places.append((layer, "quantizer", observe))
        if hasattr(layer, "quantize_config"):
            unchanged = [(own, _unchanged, held) for own, _, held in layer._weight_vars]
            places.append((layer, "_weight_vars", unchanged))
    kept = [getattr(holder, name) for holder, name, _ in places]
    for holder, name, value in places:
        setattr(holder, name, value)
    try:
        yield
    finally:
        for (holder, name, _), value in zip(places, kept, strict=True):
            setattr(holder, name, value)


def _activations(model: Any, quantizer: Quantizer) -> Iterator[tuple[Any, str, Any]]:
    """Where in `model` TF-MOT keeps what quantizes activations, with `quantizer` to be there instead."""
    for layer in model.layers:
        if hasattr(layer, "quantize_config"):
            yield layer, "_output_quantizers", [quantizer for _ in layer._output_quantizers]
            yield from ((function, "quantizer", quantizer) for function in layer._quantize_activations)


def _follow(values: Any, training: Any, weights: Any, **_: Any) -> Any:
    """`values` on the grid of a range that follows those of the batches."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    return quant_ops.MovingAvgQuantize(values, weights["min_var"], weights["max_var"],
                                       ema_decay=1 - FOLLOWING, is_training=training)


def _unchanged(values: Any, *_: Any, **__: Any) -> Any:
    return values
