"""Keras models carried over to tf_keras: exactly, flat, or with the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import MODEL

from edgeq.errors import Refused
from edgeq.training.keras_graph import frozen, legacy

IMAGE, SEQUENCE = (12, 12, 3), (16, 8)
EXACT = 1e-5  # of the largest output: a few roundings of floats, in a deep network


class Layers:
    """The layers of Keras 3, imported when the first of them is wanted: that takes seconds."""

    def __getattr__(self, name: str) -> Any:
        import keras

        return getattr(keras.layers, name)


layers = Layers()


def one(kind: str, *args: Any, **options: Any) -> Callable[[Any], Any]:
    """What calls a single layer."""
    def call(entry: Any) -> Any:
        return getattr(layers, kind)(*args, **options)(entry)

    return call


def built(build: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    """A Keras 3 model of what `build` makes of an input."""
    import keras

    entry = keras.Input(shape)
    return keras.Model(entry, build(entry))


def trained(model: Any) -> Any:
    """The model with weights as they are after training: statistics and biases are not all the same."""
    generator = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, each.shape) for each in layer.get_weights()])
        elif getattr(layer, "use_bias", False) and hasattr(layer, "bias"):
            layer.bias.assign(generator.normal(size=layer.bias.shape) / 10)
    return model


def error(model: Any, twin: Any) -> float:
    """By how much the outputs differ, as a share of the largest."""
    samples = np.random.default_rng(2).random((4, *model.inputs[0].shape[1:])).astype(np.float32)
    expected, found = (np.asarray(each(samples, training=False)) for each in (model, twin))
    assert np.ptp(expected) > 0
    return float(np.abs(expected - found).max() / np.abs(expected).max())


def kinds(model: Any) -> list[str]:
    """The classes of its layers."""
    return [type(layer).__name__ for layer in model.layers]


def function(name: str) -> Callable[..., Any]:
    """One of Keras 3's operations that are no layers."""
    import keras

    return getattr(keras.ops, name)


def residual(entry: Any) -> Any:
    convolved = layers.Conv2D(8, 3, padding="same")(entry)
    normalized = layers.BatchNormalization()(convolved)
    return layers.ReLU()(layers.Add()([normalized, layers.Conv2D(8, 1)(entry)]))


def keyword_spotter(entry: Any) -> Any:
    """The DS-CNN of MLPerf Tiny (https://arxiv.org/abs/1711.07128), narrower."""
    flow = layers.Conv2D(16, (10, 4), 2, "same")(entry)
    for _ in range(2):
        flow = layers.Activation("relu")(layers.BatchNormalization()(flow))
        flow = layers.Dropout(0.2)(layers.DepthwiseConv2D(3, padding="same")(flow))
        flow = layers.Conv2D(16, 1)(layers.Activation("relu")(layers.BatchNormalization()(flow)))
    flow = layers.Flatten()(layers.AveragePooling2D((25, 5))(flow))
    return layers.Dense(12, "softmax")(flow)


def block(name: str) -> Any:
    """A model to be used inside another: its layers have the same names every time."""
    import keras

    return keras.Sequential([keras.Input(SEQUENCE), layers.Dense(8, name="dense"),
                             layers.BatchNormalization(name="norm")], name=name)


def test_the_demo_is_carried_over_exactly():
    import keras

    model = keras.models.load_model(MODEL / "model.keras")
    assert error(model, legacy(model)) <= EXACT


@pytest.mark.parametrize(("name", "options"), [
    ("MobileNet", {"alpha": 0.25}), ("MobileNetV2", {"alpha": 0.35}), ("EfficientNetB0", {}),
    ("ResNet50", {})])
def test_networks_that_everybody_has_are_carried_over_exactly(name, options):
    import keras

    model = trained(getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=10, **options))
    assert error(model, legacy(model)) <= EXACT


@pytest.mark.parametrize(("build", "shape"), [
    (keyword_spotter, (49, 10, 1)), (residual, IMAGE),
    (lambda x: layers.Dense(3)(x) + layers.Dense(3)(x), SEQUENCE),
    (lambda x: function("relu")(layers.Dense(3)(x)), SEQUENCE),
    (lambda x: layers.LeakyReLU(0.3)(layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)), SEQUENCE),
    (lambda x: layers.Bidirectional(layers.LSTM(4))(layers.GRU(4, return_sequences=True)(x)), SEQUENCE),
    (lambda x: layers.TimeDistributed(layers.Dense(3, "silu", kernel_regularizer="l2"))(x + x), SEQUENCE),
    (lambda x: layers.Normalization(mean=1.0, variance=2.0)(layers.LayerNormalization()(x)), SEQUENCE),
    (lambda x: layers.Conv2DTranspose(4, 3, 2, "same")(layers.SeparableConv2D(4, 3)(x)), IMAGE),
    (lambda x: layers.Concatenate()([layers.Rescaling(1 / 255)(x), layers.Conv2D(6, 1, groups=3)(x)]), IMAGE),
], ids=["ds-cnn", "residual", "plus", "function", "conv1d", "recurrent", "wrapper", "normalizations",
        "transposed", "two consumers"])
def test_layers_of_all_kinds_are_carried_over_exactly(build, shape):
    model = trained(built(build, shape))
    assert error(model, legacy(model)) <= EXACT


def test_a_model_of_keras_2_is_flattened_and_exact(tmp_path):
    import tf_keras

    inner = tf_keras.Sequential([tf_keras.layers.Conv2D(4, 3, name="conv"), tf_keras.layers.ReLU()])
    model = tf_keras.Sequential([tf_keras.Input(IMAGE), inner, tf_keras.layers.Flatten(),
                                 tf_keras.layers.Dense(3)])
    model.save(tmp_path / "model.h5")
    loaded = tf_keras.models.load_model(tmp_path / "model.h5", compile=False)
    twin = legacy(loaded)
    assert error(loaded, twin) <= EXACT
    assert kinds(twin) == ["InputLayer", "Conv2D", "ReLU", "Flatten", "Dense"]


def test_models_in_models_are_flattened_and_every_layer_has_a_name_of_its_own():
    first, second = trained(block("first")), trained(block("second"))
    model = built(lambda x: second(first(x), training=False), SEQUENCE)
    twin = legacy(model)
    assert error(model, twin) <= EXACT
    assert [layer.name for layer in twin.layers] == ["input", "dense", "dense_1"]


def test_a_layer_that_is_called_twice_stays_one():
    twice, shared = layers.Dense(8, "relu"), trained(block("shared"))
    model = built(lambda x: shared(shared(twice(twice(x)))), SEQUENCE)
    twin = legacy(model)
    assert error(model, twin) <= EXACT
    assert len(twin.weights) == len(model.weights)


def test_a_normalization_is_folded_into_the_dense_layer_that_it_alone_follows():
    def build(entry):
        before = layers.Dense(8)(entry)
        alone = layers.BatchNormalization(scale=False)(layers.Dense(8, use_bias=False)(before))
        return layers.Add()([before, layers.BatchNormalization()(before), alone])

    model = trained(built(build, SEQUENCE))
    twin = legacy(model)
    assert error(model, twin) <= EXACT
    assert kinds(twin).count("BatchNormalization") == 1
    assert [layer.use_bias for layer in twin.layers if type(layer).__name__ == "Dense"] == [True, True]


def test_a_function_that_tf_mot_does_not_know_inside_a_layer_stands_behind_it():
    model = built(lambda x: layers.Dense(4, "relu", name="known")(
        layers.Conv2D(4, 3, activation="relu6", name="c")(x)), IMAGE)
    twin = legacy(model)
    assert error(model, twin) <= EXACT
    assert [layer.name for layer in twin.layers] == ["input", "c", "c_relu6", "known"]


def test_names_that_tensorflow_does_not_take_are_changed():
    twin = legacy(built(lambda x: layers.Dense(4, name="a b")(layers.Dense(4, name="_ü")(x)), SEQUENCE))
    assert [layer.name for layer in twin.layers] == ["input", "layer__", "a_b"]


def test_half_precision_is_carried_over_as_float32():
    model = built(one("Dense", 4, dtype="mixed_float16"), SEQUENCE)
    twin = legacy(model)
    assert error(model, twin) <= 1e-2
    assert {variable.dtype.name for variable in twin.weights} == {"float32"}


def test_frozen_layers_are_named_and_may_be_trained():
    inner = block("inner")
    inner.trainable = False
    model = built(lambda x: layers.Dense(2, name="label")(inner(x)), SEQUENCE)
    assert frozen(model) == ("dense", "norm")
    assert len(legacy(model).trainable_weights) == 4


def own(entry: Any) -> Any:
    """A call of a layer of somebody's own."""
    class Own(layers.Layer):
        def call(self, given):
            return given * 3

    return Own(name="mine")(entry)


def subclassed() -> Any:
    """A model without a graph."""
    import keras

    class Subclassed(keras.Model):
        def call(self, given):
            return given

    return Subclassed(name="subclassed")


def without_an_input() -> Any:
    """A Sequential that does not know what it will be given."""
    import keras

    return keras.Sequential([layers.Dense(3)])


@pytest.mark.parametrize(("build", "said"), [
    (own, r"the layer 'mine' \(Own\) has no twin in tf_keras.*class of your own"),
    (one("RMSNormalization", name="rms"), r"the layer 'rms' \(RMSNormalization\) has no twin"),
    (one("Lambda", lambda v: v * 2, name="double"), r"the layer 'double' \(Lambda\) has no twin"),
    (lambda x: layers.MultiHeadAttention(2, 4, name="look")(x, x),
     r"'look' \(MultiHeadAttention\) has no twin"),
    (lambda x: x / 255.0, r"'true_divide\w*' \(TrueDivide\) has no twin"),
    (lambda x: x * 2.0, r"'multiply\w*' \(Multiply\) has no twin"),
    (lambda x: function("mean")(x, axis=1), r"'mean\w*' \(Mean\) has no twin"),
    (one("Activation", "hard_silu", name="act"), r"'act' \(Activation\) has no twin"),
    (one("Activation", "hard_sigmoid"), "the model gives other outputs"),  # as Keras 2 has it
])
def test_what_has_no_twin_is_refused_by_its_name(build, said):
    with pytest.raises(Refused, match=said) as refusal:
        legacy(built(build, SEQUENCE))
    assert "Keras 2" in refusal.value.hint


@pytest.mark.parametrize("model", [subclassed, without_an_input])
def test_a_model_without_a_graph_is_refused(model):
    with pytest.raises(Refused, match="has no graph of layers"):
        legacy(model())
