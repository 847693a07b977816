"""Code in models: found in the file and refused before any of it has run, unless it is trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.errors import ConfigError
from edgeq.frontends.h5 import H5, _known_classes
from edgeq.frontends.keras import Keras
from edgeq.frontends.saved_model import SavedModel
from edgeq.trust import code_in_keras, code_in_keras2, code_in_saved_model, h5_config, keras_config

KNOWN = frozenset({"Dense", "Functional", "InputLayer"})


@pytest.fixture
def marker(tmp_path):
    """A path where code that runs leaves something."""
    return tmp_path / "marker"


@pytest.fixture
def convert(tmp_path):
    """Convert a source by a frontend, and return the size of what it made."""
    def converted(frontend, source: Path) -> int:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        frontend.convert(out, source)
        return (out / "baseline.tflite").stat().st_size

    return converted


def with_lambda(keras, marker: Path, source: Path) -> Path:
    """A model with a Lambda layer that leaves a mark wherever it runs, saved at `source`."""
    entry, place = keras.Input((4,)), str(marker)
    touch = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(place).touch(), x + 1)[1])
    keras.Model(entry, touch(keras.layers.Dense(2)(entry))).save(source)
    marker.unlink()  # building the model has run it, too
    return source


def test_a_lambda_in_a_keras_file_does_not_run(convert, marker, tmp_path):
    import keras

    source = with_lambda(keras, marker, tmp_path / "model.keras")
    with pytest.raises(ConfigError, match=r"model.keras holds code .*: a Lambda layer, a lambda") as raised:
        convert(Keras(), source)
    assert "trust: true" in raised.value.hint
    assert not marker.exists()


def test_a_lambda_in_a_keras_file_runs_where_it_is_trusted(convert, marker, tmp_path):
    import keras

    assert convert(Keras(trust=True), with_lambda(keras, marker, tmp_path / "model.keras")) > 500
    assert marker.exists()


def test_a_lambda_in_an_h5_file_does_not_run(convert, marker, tmp_path):
    import tf_keras

    source = with_lambda(tf_keras, marker, tmp_path / "model.h5")
    with pytest.raises(ConfigError, match=r"model.h5 holds code .*: a Lambda layer, a lambda"):
        convert(H5(), source)
    assert not marker.exists()


def test_a_lambda_in_an_h5_file_runs_where_it_is_trusted(convert, marker, tmp_path):
    import tf_keras

    assert convert(H5(trust=True), with_lambda(tf_keras, marker, tmp_path / "model.h5")) > 500
    assert marker.exists()


def test_a_class_of_another_package_is_code(convert, tmp_path):
    import keras

    @keras.saving.register_keras_serializable("workshop")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    source = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), Doubled()]).save(source)
    with pytest.raises(ConfigError, match=r"holds code .*Doubled"):
        convert(Keras(), source)
    assert convert(Keras(trust=True), source) > 500


def test_an_unknown_class_in_an_h5_file_is_code(convert, tmp_path):
    import tf_keras

    @tf_keras.saving.register_keras_serializable("workshop")
    class Tripled(tf_keras.layers.Layer):
        def call(self, x):
            return 3 * x

    source = tmp_path / "model.h5"
    tf_keras.Sequential([tf_keras.Input((4,)), Tripled()]).save(source)
    with pytest.raises(ConfigError, match=r"holds code .*Tripled"):
        convert(H5(), source)
    assert convert(H5(trust=True), source) > 500


def test_a_class_that_is_nowhere_cannot_be_loaded_even_where_it_is_trusted(convert, tmp_path):
    import keras

    class Local(keras.layers.Layer):
        def call(self, x):
            return x

    source = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), Local()]).save(source)
    with pytest.raises(ConfigError, match="holds code"):
        convert(Keras(), source)
    with pytest.raises(ConfigError, match=r"model.keras cannot be loaded: .*Local"):
        convert(Keras(trust=True), source)


def test_a_call_that_reads_a_file_is_code(convert, tmp_path):
    import tensorflow as tf
    import tf_keras
    from tf_keras.src.layers.core import TFOpLambda

    entry = tf_keras.Input((), 1, dtype="string")
    source = tmp_path / "model.h5"
    tf_keras.Model(entry, tf.strings.length(TFOpLambda(tf.io.read_file)(entry[0]))).save(source)
    with pytest.raises(ConfigError, match=r"model.h5 holds code .*: a call of tf.io.read_file"):
        convert(H5(), source)


@pytest.fixture
def disguised(marker, tmp_path):
    """An .h5 file whose ClassMethod layer is no class's: loading it makes a folder."""
    import h5py
    import tf_keras

    source = tmp_path / "model.h5"
    tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2, name="dense")]).save(source)
    with h5py.File(source, "a") as file:
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]["layers"]
        config["class_name"] = "Functional"
        layers[0] |= {"name": "in", "inbound_nodes": []}
        layers[0]["config"]["name"] = "in"
        layers[1] |= {"name": "dense", "inbound_nodes": [[["in", 0, 0, {}]]]}
        layers.append({
            "class_name": "ClassMethod", "name": "call",
            "config": {"name": "call", "cls_symbol": "io.gfile.makedirs", "method_name": "__call__"},
            "inbound_nodes": [["_CONSTANT_VALUE", -1, [str(marker)], {"kwargs": {}}]]})
        config["config"] |= {"input_layers": [["in", 0, 0]], "output_layers": [["dense", 0, 0]]}
        file.attrs["model_config"] = json.dumps(config)
    return source


def test_a_function_in_the_place_of_a_class_is_not_called(convert, disguised, marker):
    with pytest.raises(ConfigError, match=r"holds code .*: a call of tf.io.gfile.makedirs"):
        convert(H5(), disguised)
    assert not marker.exists()


def test_a_function_in_the_place_of_a_class_would_be_called(convert, disguised, marker):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        convert(H5(trust=True), disguised)
    assert marker.is_dir()


def saved(body, folder: Path) -> Path:
    """A SavedModel at `folder` whose function calls `body` in a function of its own."""
    import tensorflow as tf

    class Made(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.function(lambda values: tf.ensure_shape(body(values), [None, 4]))(x)}

    made = Made()
    tf.saved_model.save(made, str(folder), signatures={"serving_default": made.serve})
    return folder


def python_function(values):
    import tensorflow as tf

    return tf.py_function(lambda x: x + 1, [values], tf.float32)


def reading(values):
    import tensorflow as tf

    return values + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


@pytest.mark.parametrize(("body", "found"), [(python_function, "EagerPyFunc"), (reading, "ReadFile")])
def test_an_operator_that_runs_python_or_reads_a_file_is_found_in_an_inner_function(
    convert, tmp_path, body, found
):
    with pytest.raises(ConfigError, match=f"model holds code .*: the operator {found}"):
        convert(SavedModel(), saved(body, tmp_path / "model"))


def test_an_operator_that_writes_a_file_does_not_run(convert, marker, tmp_path):
    import tensorflow as tf

    def writing(values):
        tf.io.write_file(str(marker), "here")
        return values + 1

    source = saved(writing, tmp_path / "model")
    with pytest.raises(ConfigError, match=r"model holds code .*: the operator WriteFile"):
        convert(SavedModel(), source)
    assert not marker.exists()


def test_a_saved_model_of_plain_operators_passes(tmp_path):
    assert list(code_in_saved_model(saved(lambda values: values * 2, tmp_path / "model"))) == []


def test_calls_that_only_reckon_pass(tmp_path):
    import tensorflow as tf
    import tf_keras

    entry = tf_keras.Input((4,))
    source = tmp_path / "model.h5"
    tf_keras.Model(entry, tf.nn.relu(tf.math.abs(entry) * 2 + 1)[:, :2]).save(source)
    assert list(code_in_keras2(h5_config(source)[0], _known_classes())) == []


def ds_cnn(keras):
    """Keyword spotting's depthwise-separable network, with all kinds of settings."""
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((49, 10, 1)),
        layers.Conv2D(8, (10, 4), strides=2, padding="same", use_bias=False,
                      kernel_initializer=keras.initializers.HeNormal(seed=1),
                      kernel_regularizer=keras.regularizers.L2(1e-4)),
        layers.BatchNormalization(), layers.ReLU(6.0), layers.Dropout(0.2)])
    for _ in range(2):
        model.add(layers.DepthwiseConv2D(
            3, padding="same", depthwise_constraint=keras.constraints.MaxNorm(2)))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
        model.add(layers.Conv2D(8, 1))
    model.add(layers.AveragePooling2D((25, 5)))
    model.add(layers.Flatten())
    model.add(layers.Dense(12, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def resnet(keras):
    """Two residual blocks, the second one with a stride."""
    layers = keras.layers
    entry = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(entry)
    for width, stride in ((4, 1), (8, 2)):
        short = layers.Conv2D(width, 1, strides=stride)(x)
        x = layers.Conv2D(width, 3, strides=stride, padding="same")(x)
        x = layers.LeakyReLU()(layers.BatchNormalization()(x))
        x = layers.Add()([short, layers.SpatialDropout2D(0.1)(x)])
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    return keras.Model(entry, layers.Dense(10)(layers.PReLU()(x)))


def mobilenet(keras):
    """MobileNetV2, without its weights."""
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10)


@pytest.mark.parametrize("build", [ds_cnn, resnet, mobilenet])
def test_a_harmless_model_of_keras_3_passes(tmp_path, build):
    import keras

    model = build(keras)
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    config, by = h5_config(tmp_path / "model.h5")
    assert by.startswith("3")
    assert list(code_in_keras(keras_config(tmp_path / "model.keras"))) == []
    assert list(code_in_keras(config)) == []


@pytest.mark.parametrize("build", [ds_cnn, resnet, mobilenet])
def test_a_harmless_model_of_keras_2_passes(tmp_path, build):
    import tf_keras

    build(tf_keras).save(tmp_path / "model.h5")
    config, by = h5_config(tmp_path / "model.h5")
    assert by.startswith("2")
    assert list(code_in_keras2(config, _known_classes())) == []


def test_the_keras_models_of_the_bench_pass(bench):
    files = sorted(bench.rglob("*.h5"))
    assert len(files) >= 5
    for file in files:
        config, by = h5_config(file)
        assert by.startswith("2")
        assert list(code_in_keras2(config, _known_classes())) == [], file


def layer(name: str, **given) -> dict:
    """A configuration with one layer deep inside."""
    return {"class_name": "Functional", "config": {"layers": [{"inner": [{"class_name": name, **given}]}]}}


@pytest.mark.parametrize(("config", "found"), [
    (layer("Dense", module="keras.layers"), []),
    (layer("Dense", module="antigravity"), ["the class antigravity.Dense"]),
    (layer("Dense", module=7), ["the class 7.Dense"]),
    (layer("__typespec__", module="os", spec_name="system"), ["the class os.__typespec__"]),
    (layer("Lambda", module="keras.layers"), ["a Lambda layer"]),
    (layer("__lambda__", config={"value": "4wEA"}), ["a lambda"]),
    (layer("TFSMLayer", module="keras.layers"), ["a TFSMLayer"]),
    (layer("function", module="builtins", registered_name="function"), ["the class function"]),
    (layer("Own", module=None, registered_name="mine>Own"), ["the class mine>Own"]),
])
def test_what_in_a_configuration_of_keras_3_is_code(config, found):
    assert list(code_in_keras(config)) == found


@pytest.mark.parametrize(("config", "found"), [
    (layer("Dense"), []),
    (layer("Dense", module="keras.layers"), []),
    (layer("Dense", module="antigravity"), ["the class antigravity.Dense"]),
    (layer("__typespec__", module="os", spec_name="system"), ["the class os.__typespec__"]),
    (layer("Own"), ["the unknown class Own"]),
    (layer("Lambda", config={"function_type": "lambda"}), ["a Lambda layer", "a lambda"]),
    (layer("TFOpLambda", config={"function": "nn.relu"}), []),
    (layer("TFOpLambda", config={"function": "__operators__.add"}), []),
    (layer("TFOpLambda", config={"function": "io.write_file"}), ["a call of tf.io.write_file"]),
    (layer("TFOpLambda", config={"function": "raw_ops.WriteFile"}), ["a call of tf.raw_ops.WriteFile"]),
    (layer("TFOpLambda", config={"function": "numpy_function"}), ["a call of tf.numpy_function"]),
    (layer("ClassMethod", config={"cls_symbol": "RaggedTensor"}), []),
    (layer("ClassMethod", config={"cls_symbol": "io.write_file"}), ["a call of tf.io.write_file"]),
    (layer("TFOpLambda", config=None), []),
])
def test_what_in_a_configuration_of_keras_2_is_code(config, found):
    assert list(code_in_keras2(config, KNOWN)) == found


def test_a_vocabulary_that_a_lookup_layer_would_read_from_a_file_is_named() -> None:
    layer = {"class_name": "StringLookup", "module": "keras.layers", "config": {"vocabulary": "/etc/passwd"}}
    assert list(code_in_keras({"layers": [layer]})) == ["a reading of the file /etc/passwd"]
    assert list(code_in_keras2({"layers": [layer]}, {"StringLookup"})) == [
        "a reading of the file /etc/passwd"]
