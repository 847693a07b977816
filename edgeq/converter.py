"""TensorFlow sources as TFLiteConverters, with the batch fixed to 1.

Shared by the frontends, which convert to float, and by the recipes whose engine is the converter.
Loading runs what is in the file, so a frontend looks for code in it first (trust.py); a recipe
only ever sees a source that its frontend has let through.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import ConfigError, Refused
from edgeq.quantization import Static
from edgeq.trust import h5_config

NAME = "tflite-converter"
WITHOUT_KERNEL = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def converter_of(source: Path, signature: str = "") -> Any:
    """A tf.lite.TFLiteConverter for the Keras file or SavedModel at `source`, batch fixed to 1.

    `signature` chooses among those of a SavedModel; it may be left out where there is one.
    Raises ConfigError where the model has several inputs or cannot be loaded.
    """
    if source.is_dir():
        return _of_saved_model(source, signature)
    return _of_keras(source)


def convert(converter: Any) -> bytes:
    """The .tflite file that `converter` makes; Refused where it has no way to."""
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        converted: bytes = converter.convert()
    except (ConverterError, tf.errors.OpError, ValueError, RuntimeError) as error:
        lacking = sorted(set(WITHOUT_KERNEL.findall(str(error))))
        reason = f"TFLite has no {', '.join(lacking)}" if lacking else _first_line(error)
        raise Refused(f"TFLiteConverter cannot convert the model: {reason}",
                      "build the model from operators that TFLite has") from error
    return converted


def static(converter: Any, samples: Array, wanted: Static) -> bytes:
    """What `converter` makes with weights and activations as `wanted`, ranges over `samples`.

    Raises Refused where `wanted` asks for a granularity by operator that the converter has not.
    """
    import tensorflow as tf

    others = [name for name in wanted.by_operator if name != "FULLY_CONNECTED"]
    if others:
        raise Refused(f"TFLiteConverter has no granularity of its own for {', '.join(others)}",
                      "leave out `engine: tflite-converter`")
    sets = tf.lite.OpsSet
    wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [
        wide if wanted.activation_bits == 16 else sets.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([sample[np.newaxis]] for sample in samples)
    converter.inference_input_type, converter.inference_output_type = (
        tf.as_dtype(end) for end in wanted.ends)
    converter._experimental_disable_per_channel = wanted.granularity == "per_tensor"
    converter._experimental_disable_per_channel_quantization_for_dense_layers = (
        wanted.granularity_of("FULLY_CONNECTED") == "per_tensor")
    return convert(converter)


def dynamic(converter: Any) -> bytes:
    """What `converter` makes with int8 weights, activations quantized at run time."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return convert(converter)


def float16(converter: Any) -> bytes:
    """What `converter` makes with its weights stored as float16."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return convert(converter)


def keras_of(source: Path) -> Any:
    """The `keras` package that reads `source`: Keras 3, or tf_keras for files of Keras 2."""
    if source.suffix.lower() == ".keras" or not h5_config(source)[1].startswith("2"):
        import keras

        return keras
    import tf_keras

    return tf_keras


def loaded(source: Path) -> Any:
    """The Keras model at `source`, by the Keras that wrote it, uncompiled.

    Raises ConfigError where it has several inputs or outputs, or cannot be loaded.
    """
    keras = keras_of(source)
    with _loading(source):
        keras.backend.clear_session()  # names, and so the bytes, do not depend on what came before
        # The frontend has looked for code already: Keras's own check would only refuse it twice.
        model = keras.models.load_model(source, compile=False, safe_mode=False)
        inputs, outputs = len(model.inputs), len(model.outputs)
    if (inputs, outputs) != (1, 1):
        raise ConfigError(f"{source.name} has {inputs} inputs and {outputs} outputs",
                          "export a model with one input and one output")
    return model


def converter_for(model: Any) -> Any:
    """A tf.lite.TFLiteConverter for the tf_keras `model` in memory, batch fixed to 1.

    It starts from the function that the model computes: Keras's own way, through a SavedModel, takes
    five times as long with the wrappers of TF-MOT around the layers.
    """
    import tensorflow as tf

    given = model.inputs[0]
    taken = tf.TensorSpec((1, *given.shape[1:]), given.dtype, name="input")
    function = tf.function(lambda samples: model(samples, training=False))
    holder = tf.Module()
    holder.variables_of_the_model = model.variables  # the converter asks who holds them
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function(taken)], holder)


def _of_keras(source: Path) -> Any:
    import tensorflow as tf

    keras, model = keras_of(source), loaded(source)
    entry = keras.Input(batch_shape=(1, *model.inputs[0].shape[1:]), dtype=model.inputs[0].dtype)
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(entry, model(entry)))


def _of_saved_model(source: Path, signature: str) -> Any:
    import tensorflow as tf

    with _loading(source):
        loaded = tf.saved_model.load(str(source))
    function = loaded.signatures[_choose(sorted(loaded.signatures), signature, source)]
    specs = function.structured_input_signature[1]
    if len(specs) != 1:
        raise ConfigError(f"{source.name}: the signature takes {len(specs)} inputs "
                          f"({', '.join(specs)})", "export a signature with one input")
    name, spec = next(iter(specs.items()))
    if not spec.shape.rank or spec.shape[0] not in (None, 1):
        raise ConfigError(f"{source.name}: its input {name!r} has the shape {spec.shape}",
                          "export a signature whose input has a batch of 1, or an open one, first")
    fixed = tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, name=name)
    concrete = tf.function(function).get_concrete_function(**{name: fixed})
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], loaded)


def _choose(known: list[str], wanted: str, source: Path) -> str:
    if wanted in known:
        return wanted
    if not wanted and len(known) == 1:
        return known[0]
    if not wanted and "serving_default" in known:
        return "serving_default"
    found = f"no signature {wanted!r}" if wanted else f"{len(known)} signatures"
    raise ConfigError(f"{source.name} has {found}",
                      f"say `signature:` on the model, one of: {', '.join(known) or 'none there'}")


@contextlib.contextmanager
def _loading(source: Path) -> Iterator[None]:
    """Whatever the loader trips over in the file is the file's fault, and is said so."""
    import tensorflow as tf

    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError,
            tf.errors.OpError) as error:
        raise ConfigError(f"{source.name} cannot be loaded: {_first_line(error)}",
                          "save it again with the library that trained it") from error


def _first_line(error: Exception) -> str:
    cause = str(error).rpartition("Exception encountered: ")[2]  # Keras wraps one in the other
    return (cause.strip().splitlines() or [type(error).__name__])[0]
