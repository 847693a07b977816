"""Recipes: what they make loads, runs, is as small and as much in integers as they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import demo
import graphs
import numpy as np
import pytest
from conftest import MODEL
from graphs import operator, tensor, written

from edgeq.baseline import write_baseline
from edgeq.errors import Refused
from edgeq.frontends.h5 import H5
from edgeq.frontends.keras import Keras
from edgeq.graph import Graph, not_integer, parse, read
from edgeq.interpret import run_litert, run_tflm
from edgeq.judging.scoring import agreement
from edgeq.recipes import RECIPES
from edgeq.recipes.dynamic_int8 import DynamicInt8
from edgeq.recipes.float16 import Float16
from edgeq.recipes.float32 import Float32
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.recipes.static_int16x8 import StaticInt16x8
from edgeq.samples import samples_in

CONVERTER = "tflite-converter"
ENGINES = ["litert-quantizer", CONVERTER]
# Those that train have tests of their own, on a smaller model: test_training.py.
ALL = [*(demo.quick(kind) for (form, _), kind in RECIPES.items()
         if form == "tflite" and "training" not in kind().inputs),
       StaticInt8(engine=CONVERTER)]
SHARES = {"float32": 1.0, "float16": 0.62, "dynamic-int8": 0.45, "int8": 0.5, "int16x8": 0.55,
          "int4": 0.42}
ENDS = {"int8": "INT8", "int16x8": "INT16", "int4": "INT8"}
AGREEING = {"int4": 0.95}  # of the decisions, where it is not 0.97


def made(store, recipe) -> Path:
    """The demo by `recipe`."""
    return store.path(demo.quantized(store, recipe)) / "model.tflite"


def scales(graph: Graph) -> dict[str, set[int]]:
    """How many scales the weights of each kind of operator have."""
    found: dict[str, set[int]] = {}
    for each in graph.operators:
        if each.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights = graph.tensors[each.inputs[1]]
            found.setdefault(each.name, set()).add(weights.quantization.scales.size)
    return found


@pytest.mark.parametrize("recipe", ALL, ids=repr)
def test_what_a_recipe_makes_decides_nearly_as_the_float_model(store, recipe):
    samples = samples_in(store.path(demo.samples(store, "evaluation", 200)))
    expected = run_litert(made(store, Float32()), samples, "xnnpack")
    assert agreement(run_litert(made(store, recipe), samples, "xnnpack"), expected) >= AGREEING.get(
        recipe.precision, 0.97)


@pytest.mark.parametrize("recipe", ALL, ids=repr)
def test_what_a_recipe_makes_is_smaller_by_what_its_precision_promises(store, recipe):
    size, before = (made(store, each).stat().st_size for each in (recipe, Float32()))
    assert size <= SHARES[recipe.precision] * before


@pytest.mark.parametrize("recipe", ALL, ids=repr)
def test_what_a_recipe_makes_has_the_ends_of_its_precision(store, recipe):
    graph = read(made(store, recipe))
    wanted = ENDS.get(recipe.precision, "FLOAT32")
    assert [graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)] == [wanted, wanted]


WHOLE = [each for each in ALL if each.precision in ENDS and not hasattr(each, "keep_as")]


@pytest.mark.parametrize("recipe", WHOLE, ids=repr)
def test_a_static_recipe_leaves_nothing_in_float(store, recipe):
    graph = read(made(store, recipe))
    kind = ENDS[recipe.precision]
    assert list(not_integer(graph, kind, (kind, kind))) == []
    assert {"QUANTIZE", "DEQUANTIZE"}.isdisjoint(op.name for op in graph.operators)
    assert min(min(counts) for counts in scales(graph).values()) > 1


@pytest.mark.parametrize("recipe", [each for each in ALL if each.precision == "int4"], ids=repr)
def test_weights_of_four_bits_are_those_of_convolutions_and_dense_layers(store, recipe):
    graph = read(made(store, recipe))
    kinds = {op.name: graph.tensors[op.inputs[1]].dtype for op in graph.operators if len(op.inputs) == 3}
    assert kinds == {"CONV_2D": "INT4", "DEPTHWISE_CONV_2D": "INT8", "FULLY_CONNECTED": "INT4"}


@pytest.mark.parametrize("recipe", [each for each in WHOLE if each.precision == "int8"], ids=repr)
def test_what_an_int8_recipe_makes_computes_on_the_micro_what_it_does_on_the_host(store, recipe):
    samples = samples_in(store.path(demo.samples(store, "evaluation", 200)))[:20]
    host, (micro, _) = (run(made(store, recipe), samples) for run in (on_the_host, run_tflm))
    np.testing.assert_array_equal(host, micro)


def on_the_host(model: Path, samples: np.ndarray) -> np.ndarray:
    """What the reference kernels make of `samples`."""
    return run_litert(model, samples, "reference")


def test_float32_is_the_baseline_itself(store):
    baseline = store.path(demo.baseline(store)) / "baseline.tflite"
    assert made(store, Float32()).read_bytes() == baseline.read_bytes()


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A small network in all forms that an engine starts from, with 16 samples."""
    import keras

    folder, layers = tmp_path_factory.mktemp("network"), keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((6, 6, 2)), layers.Conv2D(24, 3, activation="relu"), layers.DepthwiseConv2D(2),
        layers.Flatten(), layers.Dense(12), layers.Softmax()])
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.export(folder / "saved", verbose=False)
    Keras().convert(folder, folder / "model.keras")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype(np.float32))
    return folder


@pytest.fixture
def quantized(network, tmp_path):
    """Quantize the small network by a recipe, from this of its forms; the file."""
    def made_by(recipe, source: str = "model.keras") -> Path:
        given = {"source": network / source, "baseline": network, "calibration": network}
        recipe.quantize(tmp_path, *(given[name] for name in recipe.inputs))
        return tmp_path / "model.tflite"

    return made_by


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("recipe", "kind"), [(Float16, "FLOAT16"), (DynamicInt8, "INT8")])
def test_weights_are_stored_as_the_recipe_says(quantized, recipe, kind, engine):
    graph = read(quantized(recipe(engine)))
    large = [each for each in graph.tensors if each.constant and each.elements > 1000]
    assert {each.dtype for each in large} == {kind}
    assert [graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)] == ["FLOAT32", "FLOAT32"]


@pytest.mark.parametrize("engine", ENGINES)
def test_per_tensor_gives_every_weight_one_scale(quantized, engine):
    found = scales(read(quantized(StaticInt8("per_tensor", engine=engine))))
    assert found == {"CONV_2D": {1}, "DEPTHWISE_CONV_2D": {1}, "FULLY_CONNECTED": {1}}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("recipe", [StaticInt8, StaticInt16x8])
def test_an_exception_for_dense_layers_is_one_for_them_alone(quantized, recipe, engine):
    exception = {"FULLY_CONNECTED": "per_tensor"}
    found = scales(read(quantized(recipe(granularity_by_operator=exception, engine=engine))))
    assert found == {"CONV_2D": {24}, "DEPTHWISE_CONV_2D": {24}, "FULLY_CONNECTED": {1}}


def test_an_exception_may_be_for_the_better(quantized):
    found = scales(read(quantized(StaticInt8("per_tensor", {"DEPTHWISE_CONV_2D": "per_channel"}))))
    assert found == {"CONV_2D": {1}, "DEPTHWISE_CONV_2D": {24}, "FULLY_CONNECTED": {1}}


def test_the_converter_refuses_an_exception_that_it_cannot_make(quantized):
    with pytest.raises(Refused, match="no granularity of its own for CONV_2D"):
        quantized(StaticInt8(granularity_by_operator={"CONV_2D": "per_tensor"}, engine=CONVERTER))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("taken", "given"), [
    ("int8", "int8"), ("uint8", "uint8"), ("float32", "float32"), ("uint8", "int8")])
def test_the_ends_are_of_the_types_asked_for_and_the_rest_is_int8(network, quantized, engine, taken, given):
    model = quantized(StaticInt8(inference_input_type=taken, inference_output_type=given, engine=engine))
    graph = read(model)
    assert list(not_integer(graph, "INT8", (taken.upper(), given.upper()))) == []
    border = [op.name for op in graph.operators if op.name in ("QUANTIZE", "DEQUANTIZE")]
    assert len(border) == (taken != "int8") + (given != "int8")
    samples = np.load(network / "x.npy")
    expected = run_litert(network / "baseline.tflite", samples, "reference")
    np.testing.assert_allclose(run_litert(model, samples, "reference"), expected, atol=0.02)


@pytest.mark.parametrize("source", ["model.h5", "saved"])
def test_the_converter_starts_from_an_h5_file_or_a_saved_model_too(quantized, source):
    recipe = StaticInt8(engine=CONVERTER)
    weights = [[each.data for each in read(quantized(recipe, form)).tensors if each.dtype == "INT8"
                and each.constant] for form in (source, "model.keras")]
    assert len(weights[0]) == 3
    np.testing.assert_equal(*weights)


def test_int16x8_may_have_float_ends(store):
    recipe = StaticInt16x8(inference_input_type="float32", inference_output_type="float32")
    assert list(not_integer(read(made(store, recipe)), "INT16", ("FLOAT32", "FLOAT32"))) == []


def test_a_recipe_makes_the_same_bytes_again(store, tmp_path):
    calibration = store.path(demo.samples(store, "calibration", 100))
    StaticInt8().quantize(tmp_path, store.path(demo.baseline(store)), calibration)
    assert (tmp_path / "model.tflite").read_bytes() == made(store, StaticInt8()).read_bytes()


@pytest.fixture
def calibration(tmp_path):
    """A data set of these samples."""
    def saved(samples) -> Path:
        folder = tmp_path / "calibration"
        folder.mkdir(exist_ok=True)
        np.save(folder / "x.npy", np.asarray(samples, np.float32))
        return folder

    return saved


@pytest.fixture
def baseline_of(tmp_path):
    """The folder of a baseline with this content."""
    def saved(content: bytes) -> Path:
        folder = tmp_path / "baseline"
        folder.mkdir(exist_ok=True)
        write_baseline(folder, content, "by hand")
        return folder

    return saved


@pytest.mark.parametrize("recipe", [StaticInt8(), StaticInt16x8()], ids=repr)
def test_an_operator_left_in_float_is_refused_by_its_name(baseline_of, calibration, tmp_path, recipe):
    baseline = baseline_of(written(
        [tensor("in", (1, 4)), tensor("slope", (4,), data=np.ones(4, np.float32)), tensor("out", (1, 4))],
        [operator("PRELU", "in slope", "out")]))
    with pytest.raises(Refused, match=r"litert-quantizer did not make the graph promised: .* PRELU has"):
        recipe.quantize(tmp_path, baseline, calibration(np.ones((3, 4))))
    assert not (tmp_path / "model.tflite").exists()


def test_another_engine_may_make_in_integers_what_one_leaves_in_float(calibration, tmp_path):
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2), tf_keras.layers.LeakyReLU()])
    model.save(tmp_path / "model.h5")
    samples = calibration(np.random.default_rng(0).normal(size=(16, 4)))
    StaticInt8(engine=CONVERTER).quantize(tmp_path, tmp_path / "model.h5", samples)
    assert [op.name for op in read(tmp_path / "model.tflite").operators] == ["FULLY_CONNECTED", "LEAKY_RELU"]
    H5().convert(tmp_path, tmp_path / "model.h5")
    with pytest.raises(Refused, match=r"did not make the graph promised: .* LEAKY_RELU has"):
        StaticInt8().quantize(tmp_path, tmp_path, samples)


@pytest.mark.parametrize(("name", "sample"), [("LOG", -1), ("EXP", 1e6)])
def test_an_activation_that_is_not_finite_is_refused_by_its_name(baseline_of, calibration, tmp_path, name,
                                                                   sample):
    baseline = baseline_of(written(
        [tensor("in", (1, 4)), tensor("middle", (1, 4)), tensor("out", (1, 4))],
        [operator(name, "in", "middle"), operator("TANH", "middle", "out")]))
    with pytest.raises(Refused, match="gives NaN or infinity in 'middle'"):
        StaticInt8().quantize(tmp_path, baseline, calibration(np.full((3, 4), sample)))


def old(content: bytes) -> bytes:
    """The file with its operator codes where files before 2020 have them."""
    made_of = graphs.schema.ModelT.InitFromPackedBuf(content, 0)
    for code in made_of.operatorCodes:
        code.builtinCode = 0
    return graphs.packed(made_of)


@pytest.mark.parametrize("content", [
    graphs.dense(np.random.default_rng(1).normal(size=(16, 16)), np.ones(16)),
    old(graphs.dense(np.random.default_rng(1).normal(size=(16, 16)), np.ones(16))),
    graphs.dense(np.random.default_rng(1).normal(size=(640, 512)), np.ones(640)),  # more than 256 KiB of int8
], ids=["small", "old", "large"])
def test_weights_are_weights_in_files_of_any_age_and_size(baseline_of, calibration, tmp_path, content):
    baseline = baseline_of(content)
    width = parse(content, "x").tensors[0].shape[1]
    samples = np.random.default_rng(2).normal(size=(8, width)).astype(np.float32)
    StaticInt8().quantize(tmp_path, baseline, calibration(samples))
    quantized = tmp_path / "model.tflite"
    weights = read(quantized).tensors[1]
    assert (weights.constant, weights.dtype, weights.quantization.per_channel) == (True, "INT8", True)
    expected = run_litert(baseline / "baseline.tflite", samples, "reference")
    outputs = run_tflm(quantized, samples)[0]
    assert np.abs(outputs - expected).max() < 0.05 * np.abs(expected).max()
    np.testing.assert_allclose(run_litert(quantized, samples, "reference"), outputs,
                               atol=1.01 * read(quantized).tensors[-1].quantization.scales[0])


def test_a_file_without_signatures_may_have_its_ends_changed(baseline_of, calibration, tmp_path):
    baseline = baseline_of(graphs.dense(np.eye(4), np.ones(4)))
    recipe = StaticInt8(inference_input_type="uint8", inference_output_type="float32")
    recipe.quantize(tmp_path, baseline, calibration([[-1, 0, 1, 2]]))
    assert [op.name for op in read(tmp_path / "model.tflite").operators] == [
        "QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"]


def test_quantizing_a_float_tflite_never_imports_tensorflow(network, tmp_path):
    program = """
import sys
from pathlib import Path
from edgeq.frontends.tflite import Tflite
from edgeq.recipes import RECIPES
source, calibration, out = map(Path, sys.argv[1:])
Tflite().convert(out, source)
for recipe in [each for (form, _), each in RECIPES.items()
               if form == "tflite" and "source" not in each().inputs]:
    recipe().quantize(out, *[{"baseline": out, "calibration": calibration}[name] for name in recipe().inputs])
    assert (out / "model.tflite").stat().st_size > 1000
    (out / "model.tflite").unlink()
print(*({"tensorflow", "tf_keras", "keras", "torch", "jax"} & sys.modules.keys()))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, network / "baseline.tflite", network, tmp_path],
        cwd=MODEL.parents[1], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr
