"""Sources become baselines: one float input and output, batch 1, the outputs of the source."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import demo
import graphs
import numpy as np
import pytest

from edgeq.errors import ConfigError, Refused
from edgeq.frontends import FRONTENDS, kind_of
from edgeq.frontends.h5 import H5
from edgeq.frontends.keras import Keras
from edgeq.frontends.saved_model import SavedModel
from edgeq.frontends.tflite import Tflite
from edgeq.graph import read
from edgeq.interpret import run_litert
from edgeq.recipes.dynamic_int8 import DynamicInt8
from edgeq.recipes.float16 import Float16
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.trust import h5_config

KINDS = ("keras", "h5", "saved-model", "tflite")  # those of PyTorch are in test_exported_frontends.py
SAMPLES = np.random.default_rng(0).random((4, 6, 6, 1)).astype(np.float32)


def network(keras, seed: int = 1):
    """A small network of convolutions, with a batch that is open."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential([
        keras.Input((6, 6, 1)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(),
        layers.Flatten(), layers.Dense(3, activation="softmax")])


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> dict[str, Path]:
    """A source of each kind, all but Keras 2's of one network, and `expected.npy` of its outputs."""
    import keras
    import tf_keras

    folder = tmp_path_factory.mktemp("sources, häufig")
    model, older = network(keras), network(tf_keras)
    older.set_weights(model.get_weights())
    model.save(folder / "model.keras")
    model.save(folder / "keras3.h5")
    older.save(folder / "model.h5")
    model.export(folder / "saved", verbose=False)
    Keras().convert(folder, folder / "model.keras")
    opened = graphs.schema.ModelT.InitFromPackedBuf((folder / "baseline.tflite").read_bytes(), 0)
    for end in (opened.subgraphs[0].inputs[0], opened.subgraphs[0].outputs[0]):
        tensor = opened.subgraphs[0].tensors[end]
        tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    (folder / "model.tflite").write_bytes(graphs.packed(opened))
    np.save(folder / "expected.npy", model(SAMPLES).numpy())
    return {"keras": folder / "model.keras", "h5": folder / "model.h5", "saved-model": folder / "saved",
            "tflite": folder / "model.tflite", "keras3.h5": folder / "keras3.h5",
            "expected": folder / "expected.npy"}


@pytest.fixture
def convert(tmp_path):
    """Convert a source by a frontend; the baseline's path."""
    def converted(frontend, source: Path) -> Path:
        frontend.convert(tmp_path, source)
        return tmp_path / "baseline.tflite"

    return converted


@pytest.fixture(scope="session")
def baselines(sources, tmp_path_factory) -> dict[str, Path]:
    """The baseline of each source."""
    made = {}
    for name in KINDS:
        made[name] = tmp_path_factory.mktemp(name) / "baseline.tflite"
        FRONTENDS["tflite", name]().convert(made[name].parent, sources[name])
    return made


@pytest.mark.parametrize("name", KINDS)
def test_a_baseline_gives_what_its_source_gives(sources, baselines, name):
    outputs = run_litert(baselines[name], SAMPLES, "reference")
    np.testing.assert_allclose(outputs, np.load(sources["expected"]), atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_a_baseline_is_float_with_fixed_shapes_and_a_batch_of_one(baselines, name):
    graph = read(baselines[name])
    assert [graph.tensors[i].shape for i in (*graph.inputs, *graph.outputs)] == [(1, 6, 6, 1), (1, 3)]
    assert {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)} == {"FLOAT32"}
    assert not any(tensor.dynamic or tensor.quantization for tensor in graph.tensors)
    assert [op.name for op in graph.operators] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]


def test_a_baseline_is_the_same_bytes_whatever_was_converted_before(sources, baselines, convert):
    for name in reversed(KINDS):
        again = convert(FRONTENDS["tflite", name](), sources[name])
        assert again.read_bytes() == baselines[name].read_bytes(), name


@pytest.mark.parametrize("name", KINDS)
def test_each_source_is_known_by_its_name(sources, name):
    assert kind_of(sources[name]) == name


def test_a_source_of_no_known_kind_is_nobodys(tmp_path):
    assert kind_of(tmp_path / "model.onnx") is None
    assert (kind_of(tmp_path / "MODEL.H5"), kind_of(tmp_path / "model.pt2")) == ("h5", "pt2")


def test_an_h5_file_of_keras_3_is_read_by_keras_3(sources, convert):
    baseline = convert(H5(), sources["keras3.h5"])
    np.testing.assert_allclose(run_litert(baseline, SAMPLES, "reference"), np.load(sources["expected"]),
                               atol=1e-5)


def test_a_keras_2_model_of_the_bench_scores_what_was_measured(bench, convert):
    baseline = convert(H5(), bench / "models/fashion_mnist/fmdemo_relu6_s1_e3.h5")
    with np.load(bench / "datasets/fashion_mnist_small.npz") as data:
        samples, labels = data["x_test"][..., np.newaxis] / np.float32(255), data["y_test"]
    outputs = run_litert(baseline, samples, "xnnpack")
    assert np.mean(outputs.argmax(axis=1) == labels) == pytest.approx(0.8935, abs=0.0006)


@pytest.fixture(scope="module")
def signatures(tmp_path_factory) -> Path:
    """A SavedModel with the signatures `less` and `more`."""
    import tensorflow as tf

    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def less(self, x):
            return {"y": x - 1}

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def more(self, x):
            return {"y": x + 1}

    folder, made = tmp_path_factory.mktemp("signatures") / "two", Two()
    tf.saved_model.save(made, str(folder), signatures={"less": made.less, "more": made.more})
    return folder


@pytest.mark.parametrize(("signature", "difference"), [("less", -1), ("more", 1)])
def test_a_signature_is_chosen_by_its_name(signatures, convert, signature, difference):
    baseline = convert(SavedModel(signature=signature), signatures)
    assert run_litert(baseline, np.zeros((1, 4)), "reference").tolist() == [[difference] * 4]


@pytest.mark.parametrize(("signature", "found"), [
    ("", "two has 2 signatures"), ("moer", "two has no signature 'moer'")])
def test_a_signature_that_cannot_be_chosen_is_asked_for(signatures, convert, signature, found):
    with pytest.raises(ConfigError, match=found) as raised:
        convert(SavedModel(signature=signature), signatures)
    assert raised.value.hint == "say `signature:` on the model, one of: less, more"


def test_a_single_signature_may_be_named(sources, convert):
    assert convert(SavedModel(signature="serving_default"), sources["saved-model"]).exists()


@pytest.mark.parametrize("recipe", [StaticInt8(), Float16(), DynamicInt8()])
def test_a_quantized_tflite_is_no_source(store, convert, recipe):
    with pytest.raises(ConfigError, match=r"model.tflite is not a float model: tensor .* is") as raised:
        convert(Tflite(), store.path(demo.quantized(store, recipe)) / "model.tflite")
    assert "float model that it was made from" in raised.value.hint


def test_quantized_models_of_the_bench_are_no_sources(bench, convert):
    # the float32 of the first is in its name alone: its weights are in int8
    for name in ("keyword_spotting/kws_ref_model_float32", "keyword_spotting/kws_ref_model",
                 "visual_wake_words/vww_96_int8"):
        with pytest.raises(ConfigError, match="is not a float model"):
            convert(Tflite(), bench / f"models/mlperf_tiny/{name}.tflite")


def test_several_inputs_or_outputs_are_refused(convert, tmp_path):
    import keras

    a, b = keras.Input((4,)), keras.Input((4,))
    together = keras.layers.Add()([a, b])
    keras.Model([a, b], together).save(tmp_path / "inputs.keras")
    keras.Model(a, [a, keras.layers.ReLU()(a)]).save(tmp_path / "outputs.keras")
    with pytest.raises(ConfigError, match=r"inputs.keras has 2 inputs and 1 outputs"):
        convert(Keras(), tmp_path / "inputs.keras")
    with pytest.raises(ConfigError, match=r"outputs.keras has 1 inputs and 2 outputs"):
        convert(Keras(), tmp_path / "outputs.keras")


def test_several_inputs_of_a_tflite_are_named(convert, tmp_path):
    file = tmp_path / "two.tflite"
    file.write_bytes(graphs.written(
        [graphs.tensor(name, (1, 4)) for name in ("left", "right", "out")],
        [graphs.operator("MAXIMUM", "left right", "out")], "left right"))
    with pytest.raises(ConfigError, match=r"two.tflite has 2 inputs \('left', 'right'\)"):
        convert(Tflite(), file)


def test_an_open_shape_is_refused(convert, tmp_path):
    import keras

    keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)]).save(tmp_path / "open.keras")
    with pytest.raises(ConfigError, match=r"open.keras: input .* has an open shape \[1, -1, -1, 3\]"):
        convert(Keras(), tmp_path / "open.keras")


def test_a_batch_of_eight_is_refused_in_a_tflite(convert, tmp_path):
    (tmp_path / "eight.tflite").write_bytes(graphs.written(
        [graphs.tensor("in", (8, 4)), graphs.tensor("out", (8, 4))], [graphs.operator("RELU", "in", "out")]))
    with pytest.raises(ConfigError, match=r"eight.tflite: its input 'in' has the shape \[8, 4\]"):
        convert(Tflite(), tmp_path / "eight.tflite")


@pytest.mark.parametrize("shape", [[], [8, 4], [None, None]])
def test_a_signature_without_an_open_batch_and_fixed_shapes_is_refused(convert, tmp_path, shape):
    import tensorflow as tf

    function = tf.function(lambda x: {"y": x + 1},
                           input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"), signatures={"serving_default": function})
    with pytest.raises(ConfigError, match=r"saved: .*input .*shape"):
        convert(SavedModel(), tmp_path / "saved")


def test_a_model_that_was_never_built_is_refused(convert, tmp_path):
    import keras

    keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "unbuilt.keras")
    with pytest.raises(ConfigError, match=r"unbuilt.keras cannot be loaded: .* no defined inputs"):
        convert(Keras(), tmp_path / "unbuilt.keras")


def test_an_operator_that_tflite_lacks_is_refused_by_name(convert, tmp_path):
    import keras

    entry = keras.Input((4,))
    keras.Model(entry, keras.ops.erfinv(entry)).save(tmp_path / "model.keras")
    with pytest.raises(Refused, match="TFLite has no Erfinv"):
        convert(Keras(), tmp_path / "model.keras")


def test_weights_alone_are_no_model(convert, tmp_path):
    import keras

    network(keras).save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ConfigError, match="holds weights but no model"):
        convert(H5(), tmp_path / "model.weights.h5")


@pytest.mark.parametrize("name", ["keras", "h5", "keras3.h5", "tflite"])
def test_a_file_cut_short_is_a_configuration_error(sources, convert, tmp_path, name):
    content = sources[name].read_bytes()
    damaged = tmp_path / f"damaged{sources[name].suffix}"
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        damaged.write_bytes(content[:length])
        with pytest.raises(ConfigError, match=f"{damaged.name} is (damaged|no |not a |empty)"):
            convert(FRONTENDS["tflite", kind_of(damaged)](), damaged)


@pytest.mark.parametrize("name", ["keras", "h5", "tflite"])
def test_a_foreign_file_is_a_configuration_error(sources, convert, tmp_path, name):
    foreign = tmp_path / f"foreign{sources[name].suffix}"
    foreign.write_bytes(b"GIF89a" + bytes(500))
    with pytest.raises(ConfigError, match=f"{foreign.name} is no"):
        convert(FRONTENDS["tflite", name](), foreign)


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [None, b"", b"{\"half"])
def test_a_keras_archive_with_a_damaged_member_is_a_configuration_error(
    sources, convert, tmp_path, member, content
):
    damaged = tmp_path / "damaged.keras"
    with zipfile.ZipFile(sources["keras"]) as whole, zipfile.ZipFile(damaged, "w") as archive:
        for each in whole.namelist():
            if each != member:
                archive.writestr(each, whole.read(each))
        if content is not None:
            archive.writestr(member, content)
    with pytest.raises(ConfigError, match=r"damaged.keras (is no Keras archive|cannot be loaded)"):
        convert(Keras(), damaged)


def test_an_h5_file_with_a_damaged_configuration_is_a_configuration_error(sources, convert, tmp_path):
    import h5py

    damaged = Path(shutil.copy(sources["h5"], tmp_path / "damaged.h5"))
    for config in ("{\"half", 7, "{}", "[]"):
        with h5py.File(damaged, "a") as file:
            file.attrs["model_config"] = config
        with pytest.raises(ConfigError, match=r"damaged.h5 (is no HDF5 file|cannot be loaded)"):
            convert(H5(), damaged)


def test_the_version_of_keras_may_be_written_as_bytes(sources, tmp_path):
    import h5py

    older = Path(shutil.copy(sources["h5"], tmp_path / "older.h5"))
    with h5py.File(older, "a") as file:
        file.attrs["keras_version"] = np.bytes_("2.4.0")
    assert h5_config(older)[1] == "2.4.0"


@pytest.mark.parametrize(("name", "length"), [
    ("saved_model.pb", 0), ("saved_model.pb", 100), ("saved_model.pb", -1), ("saved_model.pb", None),
    ("variables/variables.index", 0), ("variables/variables.index", 20), ("variables/variables.index", None),
    ("variables/variables.data-00000-of-00001", 0), ("variables/variables.data-00000-of-00001", None),
])
def test_a_saved_model_with_a_damaged_file_is_a_configuration_error(sources, convert, tmp_path, name, length):
    damaged = shutil.copytree(sources["saved-model"], tmp_path / "damaged")
    content = (damaged / name).read_bytes()
    (damaged / name).unlink()
    if length is not None:
        (damaged / name).write_bytes(content[:length])
    with pytest.raises(ConfigError, match=r"damaged (is no SavedModel|cannot be loaded)"):
        convert(SavedModel(), damaged)


def test_an_empty_folder_is_no_saved_model(convert, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty is no SavedModel"):
        convert(SavedModel(), tmp_path / "empty")
