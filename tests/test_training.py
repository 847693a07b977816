"""Recipes that train: what they learn and make, how they go on where they were stopped, what they refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODEL

from edgeq.arrays import Array
from edgeq.artifact import Origin
from edgeq.errors import ConfigError, EdgeqError, Refused
from edgeq.frontends.keras import Keras
from edgeq.graph import Graph, not_integer, read
from edgeq.interpret import run_litert
from edgeq.modules import PACKAGE
from edgeq.pipeline import load
from edgeq.plan import Chosen, plan
from edgeq.progress import heard_by
from edgeq.recipes.clustered_int8 import ClusteredInt8
from edgeq.recipes.pruned_int8 import PrunedInt8
from edgeq.recipes.qat_int8 import QatInt8
from edgeq.store import Store, fill
from edgeq.training.aware import aware
from edgeq.training.fitting import KEPT, Schedule, Stage, Standing, ends_in, held_back, lessons, train
from edgeq.training.int8 import Trained

IMAGE, CLASSES = (10, 10, 4), 4
FAST = {"epochs": 2, "learning_rate": 0.01, "batch_size": 8}
QAT = QatInt8(**{**FAST, "epochs": 8})
PRUNED, PRUNED_ONLY = PrunedInt8(**FAST, pattern="2:4"), PrunedInt8(**FAST, sparsity=0.75, qat=False)
CLUSTERED, CLUSTERED_ONLY = ClusteredInt8(**FAST), ClusteredInt8(**FAST, qat=False)
HOW = Schedule(epochs=3, learning_rate=0.1, batch_size=4, seed=0, validation_split=0.25, patience=3)
KILLED = """
import functools, sys
from pathlib import Path
from edgeq.artifact import Origin
from edgeq.store import Store, fill
from test_training import QAT
if __name__ == "__main__":
    root, source, training = map(Path, sys.argv[1:])
    store = Store(root, functools.partial(fill, root))
    store.make(QAT.quantize, store.take(Origin(source)), store.take(Origin(training)))
"""


class Stopped(Exception):
    """What stops a training in a test."""


def convolutional(entry: Any) -> Any:
    """A network with what is particular to TF-MOT: a ReLU right behind a convolution, and Dropout."""
    from keras import layers

    flow = layers.ReLU()(layers.Conv2D(16, 3, padding="same")(entry))
    flow = layers.Conv2D(32, 1, use_bias=False)(flow)
    flow = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(flow))
    flow = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(layers.DepthwiseConv2D(3, 2)(flow)))
    flow = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(flow))
    return layers.Dense(CLASSES, "softmax")(flow)


def saved(folder: Path, build: Callable[[Any], Any], shape: tuple[int, ...]) -> Path:
    """A Keras 3 model with weights by a seed."""
    import keras

    keras.utils.set_random_seed(1)
    keras.backend.clear_session()
    entry = keras.Input(shape)
    keras.Model(entry, build(entry)).save(folder / "model.keras")
    return folder / "model.keras"


def data(folder: Path, x: Array, y: Array | None = None) -> Path:
    """A data set as Samples.load writes it."""
    folder.mkdir()
    np.save(folder / "x.npy", x)
    if y is not None:
        np.save(folder / "y.npy", y)
    return folder


@dataclass(frozen=True)
class Project:
    """A small model, what it is to learn, and what recipes made of it, each made once."""

    folder: Path
    source: Path
    training: Path
    made: dict[object, Path]

    def of(self, recipe: Trained) -> Path:
        """The folder that `recipe` made."""
        key = repr(recipe)
        if key not in self.made:
            self.made[key] = self.run(recipe, self.folder / f"made{len(self.made)}")
        return self.made[key]

    def run(self, recipe: Trained, out: Path, partial: Path | None = None) -> Path:
        """`out`, with what `recipe` makes, calibrated with the samples that it learns."""
        out.mkdir(exist_ok=True)
        given = {"source": self.source, "training": self.training, "calibration": self.training}
        recipe.quantize(out, *(given[name] for name in recipe.inputs), partial=partial)
        return out

    def accuracy(self, made: Path) -> float:
        """Of what was made, on what was learned."""
        x, y = np.load(self.training / "x.npy"), np.load(self.training / "y.npy")
        return float(np.mean(run_litert(made / "model.tflite", x, "reference").argmax(1) == y))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """Images of four classes that are easily told apart."""
    folder = tmp_path_factory.mktemp("project")
    generator = np.random.default_rng(0)
    y = np.arange(200) % CLASSES
    x = generator.normal(size=(CLASSES, *IMAGE))[y] + generator.normal(size=(200, *IMAGE)) / 4
    return Project(folder, saved(folder, convolutional, IMAGE),
                   data(folder / "training", x.astype(np.float32), y), {})


def weights(graph: Graph, *kinds: str) -> Iterator[tuple[str, Array]]:
    """The integers of each operator of these kinds, (outputs, …, inputs)."""
    for operator in graph.operators:
        if operator.name in kinds:
            tensor = graph.tensors[operator.inputs[1]]
            yield operator.name, tensor.data.reshape(tensor.shape)


# What they make


@pytest.mark.parametrize("recipe", [QAT, PRUNED, CLUSTERED, PRUNED_ONLY, CLUSTERED_ONLY], ids=[
    "qat", "pruned", "clustered", "pruned only", "clustered only"])
def test_what_is_made_has_learned_and_is_in_integers_throughout(project, recipe):
    made = project.of(recipe)
    graph = read(made / "model.tflite")
    assert list(not_integer(graph, "INT8", ("INT8", "INT8"))) == []
    assert [op.name for op in graph.operators] == [
        "CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert graph.tensors[graph.inputs[0]].shape == (1, *IMAGE)
    scales = [graph.tensors[op.inputs[1]].quantization.scales.size for op in graph.operators
              if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert scales == [16, 32, 32, 1]
    assert project.accuracy(made) >= 0.9


def test_the_ends_are_of_the_types_asked_for(tmp_path):
    recipe = QatInt8(inference_input_type="uint8", inference_output_type="float32")
    aware(sum_of_inputs(4, "softmax"), np.ones((8, 3), np.float32)).write(tmp_path, recipe.wanted())
    graph = read(tmp_path / "model.tflite")
    assert list(not_integer(graph, "INT8", ("UINT8", "FLOAT32"))) == []


def test_a_granularity_that_tf_mot_has_not_is_refused(project, tmp_path):
    told: list[str] = []
    with heard_by(lambda _, text: told.append(text)), pytest.raises(Refused, match="weights per channel"):
        project.run(replace(QAT, granularity_by_operator={"CONV_2D": "per_tensor"}), tmp_path)
    assert told == [], "before anything is trained"


@pytest.mark.parametrize(("recipe", "share"), [(PRUNED, 0.5), (PRUNED_ONLY, 0.75)])
def test_as_many_weights_are_zero_as_were_asked_for(project, recipe, share):
    graph = read(project.of(recipe) / "model.tflite")
    for name, integers in weights(graph, "CONV_2D", "FULLY_CONNECTED"):
        zero = np.mean(integers == 0)
        assert share - 1 / integers.size <= zero <= share + 0.05, name  # a small weight may be rounded to it


def test_of_four_weights_along_the_inputs_two_are_zero(project):
    graph = read(project.of(PRUNED) / "model.tflite")
    for _, integers in weights(graph, "CONV_2D", "FULLY_CONNECTED"):
        blocks = integers.reshape(-1, 4)
        assert np.count_nonzero(blocks, axis=1).max() == 2
    depthwise, = (integers for _, integers in weights(graph, "DEPTHWISE_CONV_2D"))
    assert np.count_nonzero(depthwise) > 0.9 * depthwise.size


@pytest.mark.parametrize("recipe", [CLUSTERED, CLUSTERED_ONLY])
def test_the_weights_on_one_grid_have_few_values(project, recipe):
    graph = read(project.of(recipe) / "model.tflite")
    for name, integers in weights(graph, "CONV_2D", "FULLY_CONNECTED"):
        grids = integers.reshape(len(integers) if name == "CONV_2D" else 1, -1)
        assert 2 <= max(len(np.unique(grid)) for grid in grids) <= 16


def test_a_pattern_and_another_share_of_zeros_contradict_each_other(project, tmp_path):
    with pytest.raises(ConfigError, match="pattern 2:4 leaves half"):
        project.run(PrunedInt8(**FAST, pattern="2:4", sparsity=0.9), tmp_path)


def test_keras_3_converts_as_ever_in_the_process_that_has_trained(project, store, baseline, tmp_path):
    project.of(QAT)
    Keras().convert(tmp_path, MODEL / "model.keras")
    assert (tmp_path / "baseline.tflite").read_bytes() == (baseline / "baseline.tflite").read_bytes()


# Trainings that were stopped


def test_a_training_that_is_killed_goes_on_after_its_last_epoch_to_the_same_bytes(project, tmp_path):
    command = [sys.executable, "-c", KILLED, tmp_path, project.source, project.training]
    killed = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL, env={
        **os.environ, "PYTHONPATH": f"{PACKAGE.parent}:{Path(__file__).parent}"})
    store = Store(tmp_path, lambda task: fill(tmp_path, task))
    while not [*tmp_path.glob("partial/*/epoch.npz")]:
        assert killed.poll() is None, "it ended before its first epoch"
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    told: list[str] = []
    with heard_by(lambda _, text: told.append(text)):
        made = store.path(store.make(QAT.quantize, store.take(Origin(project.source)),
                                     store.take(Origin(project.training))))
    assert "epoch 1/8" not in told
    assert told[-1] == "epoch 8/8"
    assert (made / "model.tflite").read_bytes() == (project.of(QAT) / "model.tflite").read_bytes()
    assert [*(tmp_path / "partial").iterdir()] == []


@pytest.mark.parametrize(("recipe", "again"), [(PRUNED, "epoch 2/2"), (CLUSTERED, "clustering epoch 2/2")])
def test_each_of_several_trainings_is_gone_on_with(project, tmp_path, recipe, again):
    def stop(_: float, text: str) -> None:
        if text == again:
            raise Stopped

    with heard_by(stop), pytest.raises(Stopped):
        project.run(recipe, tmp_path / "out", kept(tmp_path))
    told: list[str] = []
    with heard_by(lambda _, text: told.append(text)):
        made = project.run(recipe, tmp_path / "out", kept(tmp_path))
    assert told[0] == again
    assert (made / "model.tflite").read_bytes() == (project.of(recipe) / "model.tflite").read_bytes()


def kept(folder: Path) -> Path:
    """A folder for what a training keeps."""
    (folder / "partial/key").mkdir(parents=True, exist_ok=True)
    return folder / "partial/key"


def test_what_was_kept_only_in_part_is_not_gone_on_with(tmp_path):
    partial = kept(tmp_path)
    course = taught(tmp_path, sum_of_inputs(), np.ones((8, 1), np.float32))
    found = []
    for content in (b"", b"PK\3\4 torn"):
        if content:
            (partial / "epoch.npz").write_bytes(content)
        model = sum_of_inputs()
        model.set_weights([np.ones((3, 1)), np.zeros(1)])
        train(model, course, HOW, Stage(partial))
        found.append(model.get_weights()[0])
    np.testing.assert_array_equal(*found)


# Trainings that lead nowhere


def test_a_training_that_diverges_is_refused_with_its_epoch_and_rate(project, tmp_path):
    store = Store(tmp_path, lambda task: fill(tmp_path, task))
    given = store.take(Origin(project.source)), store.take(Origin(project.training))
    recipe = replace(QAT, learning_rate=1e30)
    for _ in range(2):  # the second time by the store
        with pytest.raises(Refused, match=r"diverged in epoch 1: at the learning rate 1e\+30") as refusal:
            store.make(recipe.quantize, *given)
        assert "smaller `learning_rate`" in refusal.value.hint


def sum_of_inputs(outputs: int = 1, activation: str | None = None) -> Any:
    """A tf_keras model of one dense layer, to learn with quickly."""
    import tf_keras

    return tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(outputs, activation)])


def taught(tmp_path: Path, model: Any, y: Array | None, x: Array | None = None) -> Any:
    """What a data set of eight samples teaches `model`."""
    values = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32) if x is None else x
    return lessons(data(tmp_path / "training", values, y), model)


def test_the_last_good_weights_of_a_training_that_diverges_are_kept(tmp_path):
    import tensorflow as tf

    model = sum_of_inputs()
    steps = tf.Variable(0)

    def loss(wanted, found):  # a batch an epoch, and one to validate
        return tf.where(steps.assign_add(1) > 2, np.nan, tf.reduce_mean((wanted - found) ** 2))

    course = replace(taught(tmp_path, model, np.ones((8, 1), np.float32)), loss=loss)
    partial = kept(tmp_path)
    with pytest.raises(Refused, match="diverged in epoch 2") as refusal:
        train(model, course, replace(HOW, validation_split=0.125), Stage(partial))
    assert f"partial/{partial.name}/{KEPT}" in refusal.value.hint
    assert [file.name for file in partial.iterdir()] == [KEPT]
    good = sum_of_inputs()
    good.load_weights(partial / KEPT)
    assert np.isfinite(good.get_weights()[0]).all()
    np.testing.assert_array_equal(good.get_weights()[0], model.get_weights()[0])


def test_the_best_epoch_is_kept_and_a_training_in_vain_ends_early():
    how = replace(HOW, epochs=10, patience=2)
    standing = Standing()
    for loss in (3.0, 1.0, 2.0, 1.5):
        assert not standing.ended(how)
        standing = standing.after(loss)
    assert standing == Standing(epoch=4, best=2, loss=1.0)
    assert standing.ended(how)
    assert not standing.ended(replace(how, patience=3))
    assert standing.ended(replace(how, epochs=4, patience=3))


def test_a_training_ends_with_the_weights_of_its_best_epoch(tmp_path):
    """At this rate no epoch comes nearer than the one before it for long."""
    model = sum_of_inputs()
    model.set_weights([np.full((3, 1), 2.0), np.zeros(1)])
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    course = taught(tmp_path, model, x.sum(axis=1, keepdims=True), x)
    told: list[str] = []
    with heard_by(lambda _, text: told.append(text)):
        train(model, course, replace(HOW, epochs=9, learning_rate=9.0, patience=1), Stage(kept(tmp_path)))
    last = int(told[-1].split()[1].partition("/")[0])
    assert last < 9
    with np.load(tmp_path / "partial/key/epoch.npz") as arrays:
        np.testing.assert_array_equal(model.get_weights()[0], arrays["best0"])
        assert np.abs(arrays["now0"] - arrays["best0"]).max() > 0


@pytest.mark.parametrize(("count", "split", "held"), [
    (100, 0.1, 10), (8, 0.25, 2), (3, 0.1, 0), (2, 0.9, 1), (1, 0.5, 0), (10, 0.0, 0)])
def test_some_samples_are_held_back_and_never_all(count, split, held):
    y = np.arange(count) % 2
    chosen = held_back(y, replace(HOW, validation_split=split))
    assert len(chosen) == held
    if held == 10:
        assert y[chosen].sum() == 5
    np.testing.assert_array_equal(chosen, held_back(y, replace(HOW, validation_split=split)))


@pytest.mark.parametrize("count", [1, 3])
def test_a_set_that_is_smaller_than_a_batch_is_learned_all_the_same(tmp_path, count):
    model = sum_of_inputs()
    before = model.get_weights()[0]
    x = np.ones((count, 3), np.float32)
    course = taught(tmp_path, model, np.full((count, 1), 9.0, np.float32), x)
    train(model, course, replace(HOW, batch_size=64), Stage())
    assert (model.get_weights()[0] > before).all()


# What there is to learn


@pytest.mark.parametrize(("outputs", "activation", "y", "loss"), [
    (4, "softmax", np.arange(8) % 4, "SparseCategoricalCrossentropy"),
    (4, None, np.arange(8) % 4, "SparseCategoricalCrossentropy from logits"),
    (4, "sigmoid", np.arange(8) % 4, "BinaryCrossentropy"),
    (1, "sigmoid", np.arange(8)[:, None] % 2, "BinaryCrossentropy"),
    (1, None, np.arange(8) % 2, "BinaryCrossentropy from logits"),
    (4, "softmax", np.zeros((8, 4), np.float32), "mean_squared_error"),
    (1, None, np.zeros(8, np.float32), "mean_squared_error"),
    (3, None, None, "mean_squared_error"),
    (3, None, np.zeros(8, np.int64), "mean_squared_error"),  # labels of a set without anomalies
    (3, "softmax", np.zeros(8, np.int64), "SparseCategoricalCrossentropy"),
])
def test_the_loss_follows_from_the_labels_and_what_the_model_ends_in(tmp_path, outputs, activation, y, loss):
    model = sum_of_inputs(outputs, activation)
    course = taught(tmp_path, model, y)
    found = course.loss
    said = found if isinstance(found, str) else (
        f"{type(found).__name__}{' from logits' if found.get_config()['from_logits'] else ''}")
    assert said == loss
    train(model, course, replace(HOW, epochs=1), Stage())


def test_a_model_without_labels_learns_its_input(tmp_path):
    course = taught(tmp_path, sum_of_inputs(3), None)
    assert course.y is course.x


@pytest.mark.parametrize(("x", "y", "said"), [
    (np.zeros((8, 4), np.float32), np.zeros(8, int), r"x has the shape .*4\], the model wants .*3\]"),
    (None, None, "has no labels y, and the model does not give back its input"),
    (None, np.arange(8), "4 labels lie outside 0..3"),
    (None, np.full(8, -1), "8 labels lie outside 0..3"),
    (None, np.zeros((8, 4), int), r"y is int64 of the shape \['n', 4\], the model gives \['n', 4\]"),
    (None, np.zeros((8, 7), np.float32), r"y is float32 of the shape \['n', 7\], the model gives \['n', 4\]"),
    (None, np.array(["cat"] * 8), "y is <U3"),
    (None, np.full((8, 4), np.nan, np.float32), "y holds NaN or infinity"),
])
def test_data_that_does_not_fit_the_model_is_refused_in_words(tmp_path, x, y, said):
    with pytest.raises(ConfigError, match=said):
        taught(tmp_path, sum_of_inputs(4, "softmax"), y, x)


def test_what_a_model_ends_in_is_seen_through_what_only_passes_it_on():
    import tf_keras

    layers = tf_keras.layers
    linear, sigmoid = layers.Activation("linear"), layers.Activation("sigmoid")
    entry = tf_keras.Input((3,))
    for build, name in [
        (lambda x: layers.Reshape((2, 1))(layers.Softmax()(x)), "softmax"),
        (lambda x: linear(layers.Dropout(0.1)(sigmoid(x))), "sigmoid"),
        (lambda x: layers.Flatten()(layers.ReLU()(x)), "linear"), (lambda x: x, "linear"),
    ]:
        assert ends_in(tf_keras.Model(entry, build(layers.Dense(2)(entry)))) == name


# What TF-MOT refuses


def rescaled(entry: Any) -> Any:
    from keras import layers

    return convolutional(layers.Rescaling(1 / 127.5, -1.0, name="scale")(entry))


def normalized(entry: Any) -> Any:
    from keras import layers

    return convolutional(layers.BatchNormalization(name="norm")(entry))


def layer_normalized(entry: Any) -> Any:
    from keras import layers

    return layers.Dense(CLASSES)(layers.Flatten()(layers.LayerNormalization(name="norm")(entry)))


def recurrent(entry: Any) -> Any:
    from keras import layers

    return layers.Dense(CLASSES)(layers.LSTM(4, name="memory")(layers.Reshape((10, 40))(entry)))


@pytest.mark.parametrize(("build", "named", "hint"), [
    (rescaled, r"'scale' \(Rescaling\)", "`mean` and `std`"),
    (normalized, r"'norm' \(BatchNormalization\)", "right after a convolution"),
    (layer_normalized, r"'norm' \(LayerNormalization\)", "selective-int8"),
    (recurrent, r"'memory' \(LSTM\)", "selective-int8"),
])
def test_a_layer_that_tf_mot_does_not_take_is_named_at_once(project, tmp_path, build, named, hint):
    told: list[str] = []
    elsewhere = replace(project, source=saved(tmp_path, build, IMAGE))
    with heard_by(lambda _, text: told.append(text)), pytest.raises(Refused, match=named) as refusal:
        elsewhere.run(replace(QAT, epochs=1), tmp_path / "out")
    assert hint in refusal.value.hint
    assert told == []


def attentive(entry: Any) -> Any:
    """Channels weighted by themselves, as in squeeze-and-excitation; TF-MOT knows no Multiply."""
    from keras import layers

    inner = layers.Conv2D(8, 3, name="frozen", trainable=False)(entry)
    weighted = layers.Dense(8, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(inner))
    return layers.Dense(CLASSES)(layers.Flatten()(layers.Multiply(name="attend")([inner, weighted])))


def test_a_layer_that_tf_mot_does_not_know_is_let_through_where_all_is_integers_and_said(project, tmp_path):
    source = saved(tmp_path, attentive, IMAGE)
    made = replace(project, source=source).run(replace(QAT, epochs=1), tmp_path / "out")
    graph = read(made / "model.tflite")
    assert "MUL" in [op.name for op in graph.operators]
    assert list(not_integer(graph, "INT8", ("INT8", "INT8"))) == []
    said = (made / "notes.json").read_text()
    assert "frozen layers were trained as well: frozen" in said
    assert "not simulated in the training, or in their outputs alone: 'attend' (Multiply)" in said


def dead(entry: Any) -> Any:
    """A convolution of which nothing is left after its ReLU, beside one that is alive."""
    from keras import layers
    from keras.initializers import Constant

    least = layers.Conv2D(
        8, 3, activation="relu", kernel_initializer="zeros", bias_initializer=Constant(-1.0))
    both = layers.Add()([layers.Conv2D(8, 3, activation="relu")(entry), layers.Conv2D(8, 1)(least(entry))])
    return layers.Dense(CLASSES)(layers.Flatten()(both))


def test_what_is_always_zero_has_a_grid_all_the_same(project, tmp_path):
    made = replace(project, source=saved(tmp_path, dead, IMAGE)).run(replace(QAT, epochs=1), tmp_path / "out")
    graph = read(made / "model.tflite")
    assert list(not_integer(graph, "INT8", ("INT8", "INT8"))) == []
    assert project.accuracy(made) > 0.3


# What a pipeline says of it

TEXT = """\
version: 1
models:
  tiny:
    source: SOURCE
    calibration: {data: samples.npz}
    evaluation: {data: samples.npz, metric: top1}
    training: {data: samples.npzEPOCHS}
targets: [host]
ladder: [static-int8, LADDER]
gates: [{metric: accuracy, min: 0.9}]
"""


@pytest.fixture
def rungs(tmp_path) -> Callable[..., Any]:
    """The rungs that a pipeline means."""
    for name in ("samples.npz", "model.keras", "model.h5", "model.tflite", "exported/saved_model.pb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")

    def planned(source: str = "model.keras", epochs: str = "", ladder: str = "qat-int8") -> Any:
        text = TEXT.replace("SOURCE", source).replace("EPOCHS", epochs).replace("LADDER", ladder)
        (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
        job, = plan(load(tmp_path / "pipeline.yaml"), Chosen())
        return job.rungs[1:]

    return planned


@pytest.mark.parametrize(("source", "skipped"), [
    ("model.keras", ""), ("model.h5", ""),
    ("model.tflite", "it needs a source of the kind keras or h5, and this is a tflite"),
    ("exported", "it needs a source of the kind keras or h5, and this is a saved-model")])
@pytest.mark.parametrize("name", ["qat-int8", "pruned-int8", "clustered-int8"])
def test_a_source_that_cannot_be_trained_is_skipped_with_the_reason(rungs, source, skipped, name):
    assert [rung.skipped for rung in rungs(source, ladder=name)] == [skipped]


@pytest.mark.parametrize(("epochs", "ladder", "expected"), [
    ("", "qat-int8", 1), (", epochs: 4", "qat-int8", 4), (", epochs: 4", "{recipe: qat-int8, epochs: 2}", 2)])
def test_the_epochs_are_the_recipes_own_or_the_datas_or_one(rungs, epochs, ladder, expected):
    assert [rung.recipe.epochs for rung in rungs(epochs=epochs, ladder=ladder)] == [expected]


@pytest.mark.parametrize(("parts", "said"), [
    ({"epochs": ", epochs: 0"}, "pipeline.yaml:7: epochs: at least 1, not 0"),
    ({"epochs": "}\n    calibration: {data: samples.npz, epochs: 1"}, "stands here twice"),
    ({"ladder": "{recipe: qat-int8, learning_rate: 0}"}, "learning_rate"),
    ({"ladder": "{recipe: qat-int8, validation_split: 1.0}"}, "validation_split"),
    ({"ladder": "{recipe: qat-int8, granularity: per_channel}"}, "granularity"),
    ({"ladder": "{recipe: pruned-int8, sparsity: 1}"}, "sparsity"),
    ({"ladder": "{recipe: pruned-int8, pattern: '1:4'}"}, "pattern"),
    ({"ladder": "{recipe: clustered-int8, clusters: 1}"}, "clusters"),
])
def test_what_is_no_training_is_said_with_its_line(rungs, parts, said):
    with pytest.raises(EdgeqError) as error:
        rungs(**parts)
    assert said in error.value.message


def test_epochs_belong_to_the_training_data(rungs, tmp_path):
    rungs()
    text = (tmp_path / "pipeline.yaml").read_text().replace("metric: top1", "metric: top1, epochs: 2")
    (tmp_path / "pipeline.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"pipeline\.yaml:6: epochs belongs to the training data"):
        load(tmp_path / "pipeline.yaml")
