"""SmoothQuant: scales by hand, the constants they go into, and a transformer that plain int8 spoils."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from graphs import ACTIVATIONS, Net
from hypothesis import given, settings
from hypothesis import strategies as st
from outputs import float_outputs, integer_outputs

from edgeq.baseline import write_baseline
from edgeq.converter import convert, converter_of
from edgeq.errors import Refused
from edgeq.graph import Graph, parse, values_of, with_integer_kernels, with_own_factors
from edgeq.interpret import run_litert, run_tflm
from edgeq.ptq.aims import aim
from edgeq.ptq.gains import Gain, gains
from edgeq.ptq.smoothing import smoothed, smoothing
from edgeq.quantization import notes_in
from edgeq.recipes.smooth_int8 import SmoothInt8
from edgeq.recipes.static_int8 import StaticInt8

TOKENS, WIDTH, CLASSES = 6, 16, 5
OUTLIERS = [3, 9]
MAGNITUDES = st.floats(0, 2.0**100, width=32)
PAPER_X = np.array([[1, -16, 2, 6], [-2, 8, -1, -9]], np.float32)
PAPER_W = np.array([[2, 1, -2], [1, -1, -1], [2, -1, -2], [-1, -1, 1]], np.float32)


@dataclass(frozen=True)
class Transformer:
    """A block of attention and one of dense layers, normalized as `norm` says, and a classifier.

    Two channels of each normalization are `outlier` times as large, and the weights that read them
    as much smaller: the function is the same for all.
    """

    outlier: float
    norm: str = "before"

    def convert(self, out: Path) -> None:
        import keras

        keras.utils.set_random_seed(3)
        model = self._model(keras)
        for name, readers in {"attended": ("queries", "keys", "values"), "fed": ("up",),
                              "last": ("head",)}.items():
            self._grow(model, name, readers)
        model.save(out / "model.keras")
        write_baseline(out, convert(converter_of(out / "model.keras")), "the transformer")

    def _model(self, keras):
        layers = keras.layers

        def block(x, name, inside):
            if self.norm == "before":
                return layers.Add()([x, inside(layers.LayerNormalization(name=name)(x))])
            return layers.LayerNormalization(name=name)(layers.Add()([x, inside(x)]))

        def attention(x):
            queries, keys, values = (layers.Dense(WIDTH, name=name)(x)
                                     for name in ("queries", "keys", "values"))
            return layers.Dense(WIDTH)(layers.Attention(use_scale=False)([queries, values, keys]))

        start = keras.Input((TOKENS, WIDTH))
        x = block(layers.Dense(WIDTH)(start), "attended", attention)
        x = block(x, "fed", lambda y: layers.Dense(WIDTH)(layers.Dense(WIDTH, "relu", name="up")(y)))
        x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(name="last")(x))
        return keras.Model(start, layers.Dense(CLASSES, name="head")(x))

    def _grow(self, model, name, readers):
        scale = np.ones(WIDTH, np.float32)
        scale[OUTLIERS] = self.outlier
        chance = np.random.default_rng(1)
        gamma, beta = chance.normal(1, 0.2, WIDTH), chance.normal(0, 0.2, WIDTH)
        model.get_layer(name).set_weights([gamma * scale, beta * scale])
        for reader in readers if self.norm == "before" else ():
            weights, bias = model.get_layer(reader).get_weights()
            model.get_layer(reader).set_weights([weights / scale[:, None], bias])


def noise(count, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def sqnr(outputs, wanted):
    return 10 * np.log10(np.square(wanted).sum() / np.square(outputs - wanted).sum())


def found_in(content: bytes) -> tuple[Gain, ...]:
    return gains(parse(content, "by hand"))


def places(content: bytes) -> list[tuple[int, list[int], tuple[str, ...]]]:
    """Of each normalization: its channels, the operators that read it, and what else does."""
    return [(each.channels, [reader.operator.index for reader in each.readers], each.foreign)
            for each in found_in(content)]


def named(graph: Graph, name: str):
    """The values of the constant of this name."""
    return values_of(next(tensor for tensor in graph.tensors if tensor.name == name))


def normalized(net: Net, source="in", activation="none", names=("gamma", "beta")) -> str:
    """`source` times gamma plus beta, both new constants where they are not there."""
    shape = net.shape(source)
    for name in names:
        if name not in net.tensors:
            net.constant(net.chance.uniform(0.5, 2, shape[-1]).astype(np.float32), name)
    product = net.add("MUL", f"{source} {names[0]}", shape)
    return net.add("ADD", f"{product} {names[1]}", shape, fusedActivationFunction=ACTIVATIONS[activation])


@pytest.fixture(scope="module")
def transformer(store):
    """The folder with baseline.tflite of a Transformer, converted once."""
    return lambda *fields: store.path(store.make(Transformer(*fields).convert))


@pytest.fixture
def quantized(tmp_path):
    """Quantize a baseline, content or folder, by a recipe on these samples: the file, and its notes."""
    def made_by(recipe, baseline, samples, name="out"):
        folder, out = tmp_path / "given", tmp_path / name
        folder.mkdir(exist_ok=True)
        out.mkdir()
        np.save(folder / "x.npy", samples)
        if isinstance(baseline, bytes):
            write_baseline(folder, baseline, "by hand")
        recipe.quantize(out, folder if isinstance(baseline, bytes) else baseline, folder)
        return out / "model.tflite", notes_in(out)

    return made_by


def test_the_scales_are_those_of_the_papers_figure_5():
    scale = smoothing(np.abs(PAPER_X).max(axis=0), np.abs(PAPER_W).max(axis=1), 0.5)
    np.testing.assert_allclose(scale, [1, 4, 1, 3], rtol=1e-6)


def test_the_papers_figure_5_comes_out_of_a_file():
    net = Net((1, 4))
    net.constant(np.ones(4, np.float32), "gamma")
    net.constant(np.zeros(4, np.float32), "beta")
    net.dense(normalized(net), net.constant(PAPER_W.T, "weights"))
    made = smoothed(net.file(), PAPER_X[:, None], 0.5)
    graph = parse(made.content, "x")
    assert (made.done, made.undone, made.left) == (1, 0, ())
    np.testing.assert_allclose(PAPER_X * named(graph, "gamma"), [[1, -4, 2, 2], [-2, 2, -1, -3]], rtol=1e-6)
    np.testing.assert_allclose(named(graph, "weights").T,
                               [[2, 1, -2], [4, -4, -4], [2, -1, -2], [-3, -3, 3]], rtol=1e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.25, [2 / 8, 2 / 64]), (0.75, [8 / 2, 8 / 4])])
def test_alpha_says_how_much_goes_to_the_weights(alpha, expected):
    found = smoothing(np.array([16, 16], np.float32), np.array([16, 256], np.float32), alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_channel_of_zeros_alone_gets_the_mean_of_the_others():
    found = smoothing(np.array([16, 0, 4, 9], np.float32), np.array([1, 1, 1, 0], np.float32), 0.5)
    np.testing.assert_allclose(found, [4, np.sqrt(8), 2, np.sqrt(8)], rtol=1e-6)
    np.testing.assert_array_equal(smoothing(np.zeros(2, np.float32), np.ones(2, np.float32), 0.5), [1, 1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(MAGNITUDES, MAGNITUDES), min_size=1),
       st.floats(0.01, 0.99))
def test_scales_are_finite_and_positive_and_no_further_apart_than_floats_bear(pairs, alpha):
    inputs, weights = (np.array(each, np.float32) for each in zip(*pairs, strict=True))
    found = smoothing(inputs, weights, alpha)
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert found.max() / found.min() <= 1.01e6


def test_one_normalization_may_be_read_by_several_layers_in_several_shapes():
    net = Net((1, 6, 8))
    source = normalized(net)
    net.dense(source, np.ones((5, 8)), keep=True)
    net.dense(net.reshape(source, [6, 8]), np.ones((3, 8)), keep=True)
    net.dense(net.reshape(source, [1, 48]), np.ones((3, 48)))
    assert places(net.file()) == [(8, [2, 4, 6], ())]


def test_a_layer_over_all_positions_has_the_scale_of_a_channel_at_each(quantized):
    net = Net((1, 3, 4))
    net.dense(net.reshape(normalized(net), [1, 12]), net.constant(net.drawn(5, 12), "weights"))
    content, samples = net.file(), noise(8, 3, 4)
    assert places(content) == [(4, [3], ())]
    made = parse(smoothed(content, samples, 0.5).content, "x")
    ratio = (named(made, "weights") / named(parse(content, "x"), "weights")).reshape(5, 3, 4)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0, 0], ratio.shape), rtol=1e-5)
    np.testing.assert_allclose(named(made, "gamma") * ratio[0, 0], named(parse(content, "x"), "gamma"),
                               rtol=1e-5)
    assert np.ptp(ratio[0, 0]) > 0.1


def test_the_largest_input_of_all_readers_counts():
    net = Net((1, 6, 8))
    source = normalized(net)
    net.dense(source, np.ones((5, 8)), keep=True)
    axis = net.constant(np.array([1], np.int32))
    net.dense(net.add("MEAN", f"{source} {axis}", [1, 8]), np.ones((3, 8)))
    content, samples = net.file(), noise(16, 6, 8)
    before, after = (parse(each, "x") for each in (content, smoothed(content, samples, 0.5).content))
    largest = np.abs(samples * named(before, "gamma") + named(before, "beta")).reshape(-1, 8).max(axis=0)
    np.testing.assert_allclose(named(before, "gamma") / named(after, "gamma"), np.sqrt(largest), rtol=1e-5)


@pytest.mark.parametrize("order", [1, -1])
def test_a_residual_connection_forbids_it(order):
    net = Net((1, 6, 8))
    source = normalized(net)
    summands = [source, net.dense(source, np.ones((8, 8)), keep=True)]
    net.add("ADD", " ".join(summands[::order]), [1, 6, 8])
    content = net.file()
    assert places(content) == [(8, [2], ("ADD",))]
    made = smoothed(content, noise(4, 6, 8), 0.5)
    assert (made.content, made.done, made.left) == (content, 0, (("ADD",),))


def test_a_square_of_what_is_normalized_forbids_it():
    net = Net((1, 8))
    source = normalized(net)
    net.dense(net.add("MUL", f"{source} {source}", [1, 8]), net.drawn(4, 8))
    assert places(net.file()) == [(8, [3], ("MUL",))]


def test_what_the_model_puts_out_stays_as_it_is():
    net = Net((1, 8))
    source = normalized(net)
    net.dense(source, np.ones((8, 8)))
    assert [each.foreign for each in found_in(net.file(source, "value2"))] == [("the caller",)]


def test_constants_that_several_normalizations_share_are_written_out_for_each():
    net = Net((1, 8))
    first = net.dense(normalized(net), net.drawn(8, 8))
    net.dense(normalized(net, first), net.drawn(4, 8))
    content, samples = net.file(), noise(4, 8)
    assert [set(each.foreign) for each in found_in(content)] == [{"MUL", "ADD"}]
    made = smoothed(content, samples, 0.5)
    assert (made.done, made.left) == (2, ())
    np.testing.assert_allclose(float_outputs(made.content, samples), float_outputs(content, samples),
                               rtol=1e-4, atol=1e-5)


def test_a_bias_that_is_beta_as_well_stays_as_it_is():
    net = Net((1, 8))
    net.dense(normalized(net), net.drawn(8, 8), "beta")
    content, samples = net.file(), noise(4, 8)
    assert found_in(content) == ()
    made = smoothed(content, samples, 0.5)
    assert made.done == 1
    bias = values_of(parse(made.content, "x").tensors[parse(made.content, "x").operators[2].inputs[2]])
    np.testing.assert_array_equal(bias, named(parse(content, "x"), "beta"))


def test_constants_are_written_out_only_where_others_read_them():
    net = Net((1, 8))
    two = net.constant(np.float32(2))
    first = net.add("MUL", f"{net.dense(normalized(net), net.drawn(8, 8))} {two}", [1, 8])
    net.add("MUL", f"{normalized(net, first, names=('gamma', 'beta2'))} {two}", [1, 8])
    made = parse(with_own_factors(net.file()), "x")
    assert len(made.tensors) == len(net.tensors) + 1
    assert [made.tensors[op.inputs[1]].name for op in made.operators if op.name == "MUL"] == [
        f"gamma/{len(net.tensors)}", two, "gamma", two]


def test_weights_that_two_layers_share_forbid_it():
    net = Net((1, 8))
    weights = net.constant(net.drawn(8, 8), "weights")
    first = net.dense(normalized(net), weights)
    net.dense(normalized(net, first, names=("gamma2", "beta2")), weights)
    assert places(net.file()) == []


@pytest.mark.parametrize(("activation", "found"), [("none", 1), ("relu", 1), ("relu6", 0)])
def test_a_scale_goes_through_relu_and_not_through_a_cap(activation, found):
    net = Net((1, 8))
    net.dense(normalized(net, activation=activation), net.drawn(4, 8))
    content = net.file()
    made = smoothed(content, noise(8, 8), 0.5)
    assert (len(found_in(content)), made.done) == (found, found)


def test_a_chain_of_layers_without_a_normalization_is_none():
    net = Net((1, 8))
    net.dense(net.dense("in", net.drawn(8, 8), activation="relu"), net.drawn(4, 8))
    assert places(net.file()) == []


def test_a_factor_for_all_channels_is_no_normalization():
    net = Net((1, 8))
    net.dense(net.add("MUL", f"in {net.constant(np.float32(2))}", [1, 8]), net.drawn(4, 8))
    assert places(net.file()) == []


def test_convolutions_read_normalizations_too():
    net = Net((1, 5, 5, 8))
    source = normalized(net, activation="relu")
    net.conv(source, net.drawn(4, 3, 3, 8))
    net.depthwise(source, net.drawn(1, 3, 3, 8))
    content, samples = net.file("value2"), noise(4, 5, 5, 8)
    assert places(content) == [(8, [2, 3], ())]
    made = smoothed(content, samples, 0.5)
    assert made.done == 1
    np.testing.assert_allclose(float_outputs(made.content, samples), float_outputs(content, samples),
                               rtol=1e-4, atol=1e-5)


def test_an_edit_that_moves_the_outputs_is_undone(quantized):
    net = Net((1, 4, 4))
    axis = net.constant(np.array([2], np.int32))  # the mean over channels looks like one over positions
    good = net.dense(normalized(net), net.drawn(4, 4), keep=True)
    bad = normalized(net, good, names=("gamma2", "beta2"))
    net.dense(net.add("MEAN", f"{bad} {axis}", [1, 4]), net.drawn(3, 4))
    content, samples = net.file(), noise(32, 4, 4)
    made = smoothed(content, samples, 0.5)
    before, after = (parse(each, "x") for each in (content, made.content))
    assert (made.done, made.undone) == (1, 1)
    np.testing.assert_array_equal(named(after, "gamma2"), named(before, "gamma2"))
    np.testing.assert_allclose(float_outputs(made.content, samples), float_outputs(content, samples),
                               rtol=1e-4, atol=1e-5)
    notes = quantized(SmoothInt8(range="minmax"), content, samples)[1]
    assert notes[0].startswith("1 of 2 normalizations smoothed, 1 undone because the float outputs moved")


@pytest.mark.parametrize("transposed", [False, True])
def test_constant_weights_of_a_matrix_product_are_those_of_a_dense_layer(quantized, transposed):
    net = Net((1, 6, 8))
    weights = net.drawn(1, 5, 8) if transposed else net.drawn(1, 8, 5)
    net.constant(np.array([1, 60, 1, 1, 1, 1, 1, 1], np.float32), "gamma")
    weights[..., 1 if transposed else slice(None)] /= 60 if transposed else 1
    weights[:, 1] /= 1 if transposed else 60
    net.add("BATCH_MATMUL", f"{normalized(net)} {net.constant(weights)}", [1, 6, 5], adjY=transposed)
    content, samples = net.file(), noise(32, 6, 8)
    assert places(content) == [(8, [2], ())]
    wanted = float_outputs(content, samples)
    np.testing.assert_allclose(float_outputs(smoothed(content, samples, 0.5).content, samples), wanted,
                               rtol=1e-4, atol=1e-5)
    plain, smooth = (sqnr(integer_outputs(quantized(recipe(range="minmax"), content, samples, name)[0]
                                          .read_bytes(), samples), wanted)
                     for name, recipe in {"plain": StaticInt8, "smooth": SmoothInt8}.items())
    assert 5 < plain < smooth - 6


def test_weights_of_several_matrix_products_forbid_it():
    net = Net((1, 6, 8))
    weights, source = net.constant(net.drawn(1, 8, 8)), normalized(net)
    net.add("BATCH_MATMUL", f"{source} {weights}", [1, 6, 8], adjY=False)
    net.add("BATCH_MATMUL", f"{source} {weights}", [1, 6, 8], adjY=False)
    assert places(net.file()) == []


def test_layer_normalization_of_keras_is_found_in_the_shape_that_the_converter_gives_it(transformer):
    content = with_own_factors(with_integer_kernels((transformer(20.0) / "baseline.tflite").read_bytes()))
    found = found_in(content)
    assert [(each.channels, len(each.constants), len(each.readers), each.foreign) for each in found] == [
        (WIDTH, 2, 3, ()), (WIDTH, 2, 1, ()), (WIDTH, 2, 1, ())]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_smoothing_leaves_the_float_outputs_where_they_were(transformer, alpha):
    content = with_integer_kernels((transformer(20.0) / "baseline.tflite").read_bytes())
    samples = noise(16, TOKENS, WIDTH)
    made = smoothed(content, samples, alpha)
    assert (made.done, made.undone) == (3, 0)
    wanted = float_outputs(content, samples)
    np.testing.assert_allclose(float_outputs(made.content, samples), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_a_transformer_with_outliers_is_mended(transformer, quantized, granularity):
    baseline = transformer(20.0)
    calibration, evaluation = noise(48, TOKENS, WIDTH), noise(128, TOKENS, WIDTH, seed=1)
    wanted = float_outputs((baseline / "baseline.tflite").read_bytes(), evaluation)
    plain, _ = quantized(StaticInt8(granularity, range="minmax"), baseline, calibration, "plain")
    smooth, notes = quantized(SmoothInt8(granularity, range="minmax"), baseline, calibration, "smooth")
    before, after = (sqnr(integer_outputs(each.read_bytes(), evaluation), wanted) for each in (plain, smooth))
    assert before < 24
    assert after > before + 6
    assert notes[0] == "3 of 3 normalizations smoothed"
    assert notes[1].startswith("taken: smoothed with alpha 0.5")
    outputs = run_litert(smooth, evaluation, "reference")
    step = parse(smooth.read_bytes(), "x")
    one = float(step.tensors[step.outputs[0]].grid.scales[0])
    apart = np.abs(run_tflm(smooth, evaluation[:16])[0] - outputs[:16]) / one
    assert apart.mean() < 1, "a softmax inside rounds otherwise on the micro"
    assert apart.max() < 5.5


def test_what_is_not_clearly_closer_is_left_plain(transformer, quantized):
    made = [quantized(recipe("per_tensor", range="minmax"), transformer(1.0), noise(48, TOKENS, WIDTH),
                      recipe.__name__) for recipe in (StaticInt8, SmoothInt8)]
    assert made[0][0].read_bytes() == made[1][0].read_bytes()
    assert made[1][1][0] == ("3 of 3 normalizations smoothed, "
                             "which brought the scores not clearly closer")


def test_the_same_samples_give_the_same_bytes(transformer, quantized):
    made = [quantized(SmoothInt8(range="minmax", alpha="auto"), transformer(20.0), noise(20, TOKENS, WIDTH),
                      name)[0].read_bytes() for name in ("one", "two")]
    assert made[0] == made[1]


def test_a_normalization_behind_the_sum_is_left_and_said_so(transformer, quantized):
    baseline, samples = transformer(4.0, "after"), noise(16, TOKENS, WIDTH)
    made = [quantized(recipe(range="minmax"), baseline, samples, recipe.__name__)
            for recipe in (StaticInt8, SmoothInt8)]
    assert made[1][1][0] == "1 of 2 normalizations smoothed, 1 left, read by ADD as well"
    goal = aim((baseline / "baseline.tflite").read_bytes(), samples)
    plain, smooth = (goal.loss(file.read_bytes(), samples) for file, _ in made)
    assert smooth <= plain


def test_a_model_without_a_normalization_is_the_plain_one_and_it_says_so(quantized):
    net = Net((1, 8))
    net.dense(net.dense("in", net.drawn(8, 8), activation="relu"), net.drawn(4, 8))
    content, samples = net.file(), noise(20, 8)
    smooth, notes = quantized(SmoothInt8(), content, samples, "smooth")
    plain, _ = quantized(StaticInt8(), content, samples, "plain")
    assert smooth.read_bytes() == plain.read_bytes()
    assert notes == ("no normalization can be smoothed: the float model is as it was",
                     "taken: the plain model: nothing came closer")


@pytest.mark.parametrize("samples", [noise(1, 8), np.zeros((4, 8), np.float32), np.ones((9, 8), np.float32)],
                         ids=["one sample", "zeros", "all alike"])
@pytest.mark.parametrize("dead", [None, 2])
def test_few_and_dull_samples_and_dead_channels_give_a_model(quantized, samples, dead):
    net = Net((1, 8))
    net.constant(np.where(np.arange(8) == dead, 0, [1, 50, 1, 1, 1, 1, 1, 1]).astype(np.float32), "gamma")
    net.constant(np.zeros(8, np.float32), "beta")
    weights = net.drawn(4, 8)
    weights[:, 4] *= dead is None
    net.dense(normalized(net), weights)
    content = net.file()
    made, _ = quantized(SmoothInt8(alpha="auto"), content, samples)
    outputs = integer_outputs(made.read_bytes(), samples)
    wanted = float_outputs(content, samples)
    np.testing.assert_allclose(outputs, wanted, atol=0.05 * max(1, np.abs(wanted).max()))


def test_a_model_that_gives_no_numbers_is_refused(quantized):
    net = Net((1, 8))
    net.constant(np.full(8, np.nan, np.float32), "gamma")
    net.dense(normalized(net), net.drawn(4, 8))
    with pytest.raises(Refused, match="NaN or infinity"):
        quantized(SmoothInt8(), net.file(), noise(4, 8))


@pytest.mark.parametrize("alpha", [0, 1, -0.5, "all", None])
def test_alpha_lies_between_0_and_1_or_is_auto(alpha):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"alpha": alpha}, SmoothInt8)
    assert msgspec.convert({"alpha": 0.3}, SmoothInt8).alpha == 0.3


@pytest.mark.parametrize("name", ["NEG", "SQUARE"])
def test_what_has_no_integer_kernels_becomes_a_product_with_the_same_values(quantized, name):
    net = Net((1, 8))
    net.dense(net.add(name, "in", [1, 8]), net.drawn(4, 8))
    content, samples = net.file(), noise(20, 8)
    made = with_integer_kernels(content)
    assert [op.name for op in parse(made, "x").operators] == ["MUL", "FULLY_CONNECTED"]
    np.testing.assert_array_equal(float_outputs(made, samples), float_outputs(content, samples))
    assert with_integer_kernels(made) == made
    file, _ = quantized(StaticInt8(), content, samples)
    assert sqnr(run_tflm(file, samples)[0], float_outputs(content, samples).reshape(20, 4)) > 25
