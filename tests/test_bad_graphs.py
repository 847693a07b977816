"""Odd graphs and odd samples through the recipes: a sound model comes out, or a refusal in words.

What is sound: no output that is no number, nothing far from the float model, the same bytes again, and
equalization that leaves the float model computing what it did.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import Net, packed, schema
from outputs import float_outputs, integer_outputs

from edgeq.baseline import write_baseline
from edgeq.errors import Refused
from edgeq.graph import with_own_biases
from edgeq.interpret import run_litert, run_tflm
from edgeq.ptq.aims import aim
from edgeq.ptq.equalization import absorbed, balanced, by_weights, equalized
from edgeq.quantization import notes_in
from edgeq.recipes import Recipe
from edgeq.recipes.adaquant_int8 import AdaquantInt8
from edgeq.recipes.adaround_int8 import AdaroundInt4, AdaroundInt8
from edgeq.recipes.equalized_int8 import EqualizedInt8
from edgeq.recipes.gptq_int8 import GptqInt4, GptqInt8
from edgeq.recipes.static_int4 import StaticInt4
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.samples import samples_in

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning:edgeq")
PICTURE = (1, 6, 6, 3)
COUNT = 6
RECIPES = {
    "static": StaticInt8(), "static per tensor": StaticInt8("per_tensor", range="minmax"),
    "equalized": EqualizedInt8("per_tensor", range="minmax"), "gptq": GptqInt8(range="minmax"),
    "adaround": AdaroundInt8("per_tensor", range="minmax", iterations=30),
    "adaquant": AdaquantInt8(range="minmax"),
}
NOTHING_TO_DO = "no two layers can be equalized: the float model is as it was"
NEAR_DB = 25.0

Case = tuple[Net, np.ndarray]


def samples(shape=PICTURE, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *shape[1:])).astype(np.float32)


def chain(**options) -> Net:
    """A convolution, a depthwise one, and a dense layer on the mean."""
    net = Net(PICTURE)
    first = net.conv("in", net.drawn(8, 3, 3, 3), activation="relu", **options)
    second = net.depthwise(first, net.drawn(1, 3, 3, 8), activation="relu", **options)
    net.dense(net.mean(second), net.drawn(4, 8))
    return net


def with_weights(change: Callable[[np.ndarray], None], bias=None) -> Net:
    """The first layer's weights changed, a chain of two layers behind it."""
    net = Net(PICTURE)
    weights = net.drawn(8, 3, 3, 3)
    change(weights)
    first = net.conv("in", weights, bias, activation="relu")
    second = net.depthwise(first, net.drawn(1, 3, 3, 8), activation="relu")
    net.dense(net.mean(second), net.drawn(4, 8))
    return net


def no_chain() -> Case:
    net = Net((1, 6))
    net.dense("in", net.drawn(4, 6))
    return net, samples((1, 6))


def shared_weights() -> Case:
    net = Net((1, 6))
    weights = net.constant(net.drawn(6, 6))
    net.dense(net.dense("in", weights, activation="relu"), weights)
    return net, samples((1, 6))


def shared_weights_and_bias() -> Case:
    net = Net((1, 6))
    weights, bias = net.constant(net.drawn(6, 6)), net.constant(net.drawn(6, 1).reshape(6))
    net.dense(net.dense("in", weights, bias, activation="relu"), weights, bias)
    return net, samples((1, 6))


def bias_added_elsewhere() -> Case:
    net = Net((1, 6))
    bias = net.constant(np.ones(6, np.float32))
    value = net.dense("in", net.drawn(6, 6), bias, activation="relu")
    net.dense(net.add("ADD", f"{value} {bias}", (1, 6)), net.drawn(4, 6))
    return net, samples((1, 6))


def two_consumers() -> Case:
    net = Net(PICTURE)
    first = net.conv("in", net.drawn(8, 3, 3, 3), activation="relu")
    second = net.conv(first, net.drawn(8, 1, 1, 8))
    net.dense(net.mean(net.add("ADD", f"{first} {second}", (1, 6, 6, 8))), net.drawn(4, 8))
    return net, samples()


def dilated() -> Case:
    return chain(dilation=(2, 2)), samples()


def grouped() -> Case:
    net = Net((1, 6, 6, 4))
    first = net.conv("in", net.drawn(8, 3, 3, 2), activation="relu")
    net.conv(net.conv(first, net.drawn(8, 3, 3, 2), activation="relu"), net.drawn(4, 1, 1, 8))
    return net, samples((1, 6, 6, 4))


def transposed() -> Case:
    net = Net(PICTURE)
    first = net.conv("in", net.drawn(8, 3, 3, 3), activation="relu", stride=(2, 2))
    net.conv(net.transposed(first, net.drawn(6, 3, 3, 8), stride=(2, 2)), net.drawn(4, 1, 1, 6))
    return net, samples()


def no_biases() -> Case:
    net = Net((1, 3, 3, 4))
    first = net.transposed("in", net.drawn(6, 3, 3, 4), "", stride=(2, 2))
    net.dense(net.dense(net.mean(first), net.drawn(8, 6), "", activation="relu"), net.drawn(4, 8), "?")
    return net, samples((1, 3, 3, 4))


def dead_channel() -> Case:
    return with_weights(lambda weights: weights[2].fill(0), np.full(8, 0.5)), samples()


def dead_layer() -> Case:
    return with_weights(lambda weights: weights.fill(0), np.ones(8)), samples()


def dead_activations() -> Case:
    bias = np.zeros(8)
    bias[3] = -100
    return with_weights(lambda weights: None, bias), samples()


def high_biases() -> Case:
    return with_weights(lambda weights: None, np.full(8, 30)), samples()


def nearly_dead_channel() -> Case:
    return with_weights(lambda weights: np.multiply(weights[2], 1e-12, out=weights[2]), np.ones(8)), samples()


def constant_input() -> Case:
    return chain(), np.full((COUNT, *PICTURE[1:]), 0.5, np.float32)


def zero_input() -> Case:
    return chain(), np.zeros((COUNT, *PICTURE[1:]), np.float32)


def nearly_constant_input() -> Case:
    given = np.full((COUNT, *PICTURE[1:]), 1, np.float32)
    given[0, 0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    return chain(), given


def one_sample() -> Case:
    return chain(), samples(count=1)


def large_input() -> Case:
    return chain(), samples() * np.float32(1e20)


def small_input() -> Case:
    return chain(), samples() * np.float32(1e-20)


def capped() -> Case:
    net = Net(PICTURE)
    first = net.conv("in", 5 * net.drawn(8, 3, 3, 3), activation="relu6")
    second = net.depthwise(first, net.drawn(1, 3, 3, 8) * np.geomspace(0.01, 10, 8), activation="relu6")
    net.dense(net.mean(net.conv(second, net.drawn(8, 1, 1, 8), activation="relu6")), net.drawn(4, 8))
    return net, samples()


def one_channel() -> Case:
    net = Net((1, 6, 6, 1))
    first = net.conv("in", net.drawn(1, 3, 3, 1), np.ones(1), activation="relu")
    net.dense(net.mean(net.depthwise(first, net.drawn(1, 3, 3, 1))), net.drawn(1, 1))
    return net, samples((1, 6, 6, 1))


def computed_weights() -> Case:
    net = Net((1, 6))
    weights = net.add("RELU", net.constant(net.drawn(6, 6)), (6, 6))
    net.dense(net.add("FULLY_CONNECTED", f"in {weights} ?", (1, 6)), net.drawn(3, 6))
    return net, samples((1, 6))


def nothing_to_weigh() -> Case:
    net = Net((1, 6))
    net.add("RELU", "in", (1, 6))
    return net, samples((1, 6))


def constant_output() -> Case:
    net = Net((1, 6))
    net.dense("in", np.zeros((4, 6)), np.zeros(4))
    return net, samples((1, 6))


CASES: tuple[Callable[[], Case], ...] = (
    no_chain, shared_weights, shared_weights_and_bias, bias_added_elsewhere, two_consumers, dilated, grouped,
    transposed, no_biases, dead_channel, dead_layer, dead_activations, high_biases, nearly_dead_channel,
    constant_input, zero_input, nearly_constant_input, one_sample, large_input, small_input, capped,
    one_channel, computed_weights, nothing_to_weigh, constant_output)
WITHOUT_PAIRS = (no_chain, shared_weights, shared_weights_and_bias, bias_added_elsewhere, two_consumers,
                 computed_weights, nothing_to_weigh, constant_output)
LITTLE_TO_GO_BY = (dead_channel, dead_activations, constant_input, zero_input, nearly_constant_input,
                   one_sample, large_input, small_input)


class Workshop:
    """A folder with a baseline and its calibration samples, in which recipes are at work."""

    def __init__(self, folder: Path, content: bytes, given) -> None:
        for name in ("baseline", "calibration"):
            (folder / name).mkdir()
        self.folder = folder
        write_baseline(folder / "baseline", content, "by hand")
        np.save(folder / "calibration/x.npy", np.asarray(given, np.float32))
        self.samples = samples_in(folder / "calibration")
        self.baseline = (folder / "baseline/baseline.tflite").read_bytes()

    def made(self, recipe: Recipe, name: str = "made") -> Path:
        """The folder of what `recipe` makes."""
        out = self.folder / name
        out.mkdir()
        recipe.quantize(out, self.folder / "baseline", self.folder / "calibration")
        return out


@pytest.fixture
def workshop(tmp_path) -> Callable[[bytes, object], Workshop]:
    return lambda content, given: Workshop(tmp_path, content, given)


def near(outputs: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether outputs are numbers, and no further from those wanted than quantizing leaves them."""
    if not np.isfinite(outputs).all():
        return False
    wrong = np.square(outputs - wanted, dtype=np.float64).sum()
    power = np.square(wanted, dtype=np.float64).sum()
    return wrong <= power * 10 ** (-NEAR_DB / 10)


def spelled(case) -> str:
    """The name of a case, or of a recipe."""
    return case if isinstance(case, str) else getattr(case, "__name__", type(case).__name__).replace("_", " ")


@pytest.mark.parametrize(("case", "name"), [
    *itertools.product(CASES, ["static", "static per tensor", "adaround", "adaquant"]),
    *itertools.product(LITTLE_TO_GO_BY, ["equalized", "gptq"])], ids=spelled)
def test_an_odd_graph_becomes_a_sound_model(workshop, case, name):
    net, given = case()
    place = workshop(net.file(), given)
    out = place.made(RECIPES[name])
    content = (out / "model.tflite").read_bytes()
    wanted = float_outputs(with_own_biases(place.baseline), place.samples)
    assert near(integer_outputs(content, place.samples), wanted)
    assert near(run_litert(out / "model.tflite", place.samples, "reference").reshape(wanted.shape), wanted)
    if name not in ("static", "static per tensor"):
        assert (notes_in(out)[0] == NOTHING_TO_DO) == (case in WITHOUT_PAIRS)


@pytest.mark.parametrize("case", CASES, ids=spelled)
def test_equalizing_and_absorbing_leave_what_an_odd_float_model_computes(case):
    net, given = case()
    content = with_own_biases(net.file())
    wanted = float_outputs(content, given)
    for balance in (by_weights, balanced(lambda _: "per_channel"), balanced(lambda _: "per_tensor")):
        made, done, undone = equalized(content, given, balance)
        assert undone == 0
        assert (done == 0) == (case in WITHOUT_PAIRS)
        again, _ = absorbed(made, given)
        for each in (made, again):
            np.testing.assert_allclose(float_outputs(each, given), wanted, rtol=1e-3,
                                       atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("case", "recipe"), [
    (transposed, StaticInt4()), (shared_weights, StaticInt4(range="minmax")),
    (grouped, GptqInt4(range="minmax")), (zero_input, GptqInt4("per_tensor", range="minmax")),
    (dead_channel, AdaroundInt4(range="minmax", iterations=30)),
    (one_sample, AdaroundInt4("per_tensor", range="minmax", iterations=30))],
    ids=spelled)
def test_an_odd_graph_becomes_a_model_with_weights_of_four_bits(workshop, case, recipe):
    net, given = case()
    place = workshop(net.file(), given)
    outputs = run_litert(place.made(recipe) / "model.tflite", place.samples, "reference")
    wanted = float_outputs(place.baseline, place.samples).reshape(outputs.shape)
    assert np.isfinite(outputs).all()
    assert np.square(outputs - wanted).sum() <= 0.1 * np.square(wanted).sum()


@pytest.mark.parametrize(("case", "name"), [
    (capped, "equalized"), (grouped, "gptq"), (dead_channel, "adaround"), (grouped, "adaquant"),
    (capped, "adaquant")], ids=spelled)
def test_a_recipe_is_no_worse_than_plain_and_gives_the_same_bytes_again(workshop, case, name):
    net, given = case()
    place, recipe = workshop(net.file(), given), RECIPES[name]
    plain = StaticInt8(recipe.granularity, range="minmax")
    made = {kind: (place.made(each, kind) / "model.tflite").read_bytes()
            for kind, each in (("plain", plain), ("once", recipe), ("again", recipe))}
    goal = aim(place.baseline, place.samples)
    assert made["once"] == made["again"]
    assert goal.loss(made["once"], place.samples) <= goal.loss(made["plain"], place.samples)


@pytest.mark.parametrize("name", ["static", "adaround", "adaquant"])
def test_what_comes_out_runs_on_the_micro_as_on_the_host(workshop, name):
    net, given = dead_channel()
    place = workshop(net.file(), given)
    model = place.made(RECIPES[name]) / "model.tflite"
    np.testing.assert_array_equal(run_tflm(model, place.samples)[0],
                                  run_litert(model, place.samples, "reference"))


def not_a_number(where: str) -> Net:
    """A network with a NaN in its first layer, or a sound one."""
    weight, bias = (np.nan if where == each else 0 for each in ("weight", "bias"))
    return with_weights(lambda weights: weights[2, 0].fill(weight), np.float32([0, bias, *[0] * 6]))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("where", ["weight", "bias", "sample"])
def test_a_model_that_computes_no_numbers_is_refused(workshop, where, name):
    given = samples()
    if where == "sample":
        given[1, 2, 2, 0] = np.inf
    place = workshop(not_a_number(where).file(), given)
    tensor = "in" if where == "sample" else "value0"
    with pytest.raises(Refused, match=f"gives NaN or infinity in '{tensor}'"):
        place.made(RECIPES[name])
    assert not (place.folder / "made/model.tflite").exists()


def shape_by_computation(declared: int) -> Net:
    """A dense layer over rows whose number an operator computes: four, whatever the file says."""
    net = Net((1, 4, 6))
    size = net.add("SHAPE", "in", (3,), outType=2)
    net.tensors[size].type = schema.TensorType.INT32
    net.dense(net.add("RESHAPE", f"in {size}", (1, declared, 6)), net.drawn(5, 6), keep=True)
    return net


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("declared", "words"), [
    (4, "litert-quantizer did not make the graph promised: .* SHAPE has"), (1, "Dimension mismatch")])
def test_a_shape_that_is_computed_is_refused(workshop, declared, words, name):
    place = workshop(shape_by_computation(declared).file(), samples((1, 4, 6)))
    with pytest.raises(Refused, match=words):
        place.made(RECIPES[name])


def renamed(net: Net, name: bytes | None) -> bytes:
    """The file with all tensors of one name, or of none."""
    made = schema.ModelT.InitFromPackedBuf(net.file(), 0)
    for each in made.subgraphs[0].tensors:
        each.name = name
    return packed(made)


def dead_end() -> bytes:
    """A file with a layer whose output nobody reads."""
    net = Net((1, 6))
    result = net.dense("in", net.drawn(6, 6), activation="relu")
    net.dense(result, net.drawn(3, 6))
    return net.file(result)


def computed_bias() -> bytes:
    net = Net((1, 6))
    bias = net.add("RELU", net.constant(np.ones(6, np.float32)), (6,))
    net.dense(net.dense("in", net.drawn(6, 6), bias, activation="relu"), net.drawn(6, 6), bias)
    return net.file()


@pytest.mark.parametrize("name", ["static", "adaquant"])
@pytest.mark.parametrize(("content", "words"), [
    (renamed(no_chain()[0], b"x"), "Tensor name x is not unique"),
    (renamed(no_chain()[0], None), "Tensor name  is not unique"),
    (dead_end(), "FULLY_CONNECTED"), (computed_bias(), "litert-quantizer cannot quantize the model")],
    ids=["one name", "no names", "dead end", "computed bias"])
def test_what_the_quantizer_cannot_do_is_refused_in_words(workshop, content, words, name):
    place = workshop(content, samples((1, 6)))
    with pytest.raises(Refused, match=words):
        place.made(RECIPES[name])


def test_a_layer_without_options_has_those_that_the_format_says(workshop):
    net, given = no_chain()
    net.dense("value0", net.drawn(4, 4))
    made = schema.ModelT.InitFromPackedBuf(net.file(), 0)
    for each in made.subgraphs[0].operators:
        each.builtinOptions, each.builtinOptionsType = None, 0
    out = workshop(packed(made), given).made(RECIPES["adaquant"])
    assert notes_in(out)[0] == "1 of 1 pairs of layers equalized"
