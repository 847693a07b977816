"""Of several integer models the best is kept: no recipe is worse than plain where it was calibrated."""

from __future__ import annotations

import demo
import numpy as np
import pytest
from outputs import float_outputs

from edgeq.graph import with_own_biases
from edgeq.ptq.aims import aim
from edgeq.ptq.equalization import balanced, by_weights, equalized
from edgeq.ptq.posttraining import CLEARLY, Candidate, best
from edgeq.quantization import notes_in
from edgeq.recipes.adaquant_int8 import AdaquantInt8
from edgeq.recipes.adaround_int8 import AdaroundInt4, AdaroundInt8
from edgeq.recipes.equalized_int8 import EqualizedInt8
from edgeq.recipes.gptq_int8 import GptqInt4, GptqInt8
from edgeq.recipes.static_int4 import StaticInt4
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.samples import samples_in


@pytest.fixture(scope="module")
def float_model(store) -> bytes:
    return (store.path(demo.baseline(store)) / "baseline.tflite").read_bytes()


@pytest.fixture(scope="module")
def calibration(store) -> np.ndarray:
    return samples_in(store.path(demo.samples(store, "calibration", 100)))


@pytest.fixture(scope="module")
def lost(store, float_model, calibration):
    """The loss on the calibration samples of what a recipe makes of the demo."""
    goal = aim(float_model, calibration)

    def found(recipe) -> float:
        content = (store.path(demo.quantized(store, recipe)) / "model.tflite").read_bytes()
        return goal.loss(content, calibration)

    return found


@pytest.mark.parametrize("kind", [EqualizedInt8, GptqInt8, AdaroundInt8, AdaquantInt8])
def test_no_recipe_is_worse_than_plain_int8_on_the_samples_that_it_sees(lost, kind):
    assert lost(demo.quick(kind)) <= lost(StaticInt8(range="minmax"))


@pytest.mark.parametrize("kind", [GptqInt4, AdaroundInt4])
def test_learning_mends_much_of_what_four_bits_lose(lost, kind):
    assert lost(demo.quick(kind)) <= 0.6 * lost(StaticInt4(range="minmax"))


def test_equalizing_mends_much_of_what_one_scale_for_all_channels_loses(lost):
    assert lost(EqualizedInt8("per_tensor", range="minmax")) <= 0.5 * lost(
        StaticInt8("per_tensor", range="minmax"))


@pytest.mark.parametrize("range_", ["minmax", "average"])
def test_auto_is_no_worse_than_the_better_of_the_plain_methods_on_the_demo(lost, range_):
    assert lost(StaticInt8()) <= lost(StaticInt8(range=range_))


@pytest.mark.parametrize("balance", [by_weights, balanced(lambda _: "per_tensor")], ids=["weights", "both"])
def test_the_equalized_float_model_computes_what_it_did_on_samples_it_never_saw(
        store, float_model, calibration, balance):
    made, done, undone = equalized(with_own_biases(float_model), calibration, balance)
    assert (done, undone) == (11, 0)
    fresh = samples_in(store.path(demo.samples(store, "evaluation", 200)))
    np.testing.assert_allclose(float_outputs(made, fresh), float_outputs(float_model, fresh), atol=1e-4)


def test_the_notes_say_what_there_was_to_do_and_what_was_taken(store):
    found = notes_in(store.path(demo.quantized(store, demo.quick(EqualizedInt8))))
    assert found[0] == "11 of 11 pairs of layers equalized"
    assert found[1].startswith("taken: ")


def candidate(lost: float, edits: str = "", learnt: str = "") -> Candidate:
    return Candidate(b"", b"", b"", lost, edits, learnt)


def test_a_later_candidate_is_taken_only_where_it_is_clearly_better():
    plain, little, much = candidate(1.0), candidate(CLEARLY + 0.01), candidate(CLEARLY - 0.01)
    assert best([plain, little]) is plain
    assert best([plain, little, much]) is much
    assert best([candidate(float("inf")), plain]) is plain
    nothing_lost = candidate(0.0)
    assert best([nothing_lost, candidate(0.0)]) is nothing_lost


def test_a_candidate_says_what_was_done():
    assert candidate(1).said == "the plain model: nothing came closer"
    assert candidate(1, "equalized").said == "equalized"
    assert candidate(1, "equalized", "biases corrected").said == "equalized, biases corrected"
