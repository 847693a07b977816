"""Running models: the arithmetic of their ends by hand, and two interpreters that must agree."""

from __future__ import annotations

import demo
import graphs
import numpy as np
import pytest
from graphs import operator, tensor, written

from edgeq.errors import ConfigError, Refused
from edgeq.graph import Quantization, read
from edgeq.interpret import arena_total, dequantize, quantize, run_litert, run_tflm
from edgeq.recipes.dynamic_int8 import DynamicInt8
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.samples import samples_in

REPORT = """[RecordingMicroAllocator] Arena allocation total 5340 bytes
[RecordingMicroAllocator] Arena allocation head 4096 bytes
[RecordingMicroAllocator] Arena allocation tail 1244 bytes"""


def grid(scale: float, zero: int) -> Quantization:
    """One scale and one zero point for a whole tensor."""
    return Quantization(np.array([scale], np.float32), np.array([zero]), 0)


@pytest.mark.parametrize(("value", "expected"), [
    (0, 10), (0.5, 11), (-0.5, 9),
    (0.25, 11), (-0.25, 9), (0.75, 12), (-0.75, 8),  # halves of a step, away from zero
    (0.24, 10), (0.26, 11), (58.5, 127), (59, 127), (1e30, 127), (-69, -128), (-70, -128), (-1e30, -128),
])
def test_a_value_is_put_on_the_grid(value, expected):
    found = quantize(np.array([value], np.float32), "INT8", grid(0.5, 10))
    assert (found.dtype, found.tolist()) == (np.int8, [expected])


def test_what_lies_just_below_a_half_is_not_rounded_up():
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert quantize(np.array([below, -below]), "INT8", grid(1, 0)).tolist() == [0, 0]


@pytest.mark.parametrize(("dtype", "least", "most"), [("UINT8", 0, 255), ("INT16", -32768, 32767)])
def test_each_type_saturates_at_its_own_ends(dtype, least, most):
    found = quantize(np.array([-1e9, 1e9], np.float32), dtype, grid(1, 0))
    assert found.tolist() == [least, most]


def test_without_a_grid_values_are_only_cast():
    assert quantize(np.array([1.0, -2.0]), "FLOAT32", None).dtype == np.float32
    assert quantize(np.array([1.9, -2.0]), "INT32", None).tolist() == [1, -2]
    assert dequantize(np.array([3], np.int32), None).dtype == np.float32


def test_a_value_is_read_off_the_grid():
    found = dequantize(np.array([-128, 10, 127], np.int8), grid(0.5, 10))
    assert (found.dtype, found.tolist()) == (np.float32, [-69, 0, 58.5])


def test_both_interpreters_quantize_as_the_formula_does(tmp_path):
    values = np.concatenate([np.arange(-140, 140) * 0.125, np.random.default_rng(0).normal(0, 9, 1000)])
    values = values.astype(np.float32).reshape(-1, 4)
    file = tmp_path / "quantize.tflite"
    file.write_bytes(written([tensor("in", (1, 4)), tensor("out", (1, 4), "INT8", scale=0.25, zero=-3)],
                             [operator("QUANTIZE", "in", "out")]))
    by_formula = dequantize(quantize(values, "INT8", grid(0.25, -3)), grid(0.25, -3))
    for outputs in (run_litert(file, values, "reference"), run_tflm(file, values)[0]):
        np.testing.assert_array_equal(outputs, by_formula)


def test_the_demo_in_int8_is_the_same_bit_for_bit_in_both_interpreters(store):
    # With other ranges LiteRT's dense kernel, which requantizes in floats, can be one step beside TFLM's.
    model = store.path(demo.quantized(store, StaticInt8(range="minmax"))) / "model.tflite"
    samples = samples_in(store.path(demo.samples(store, "evaluation", 50)))
    outputs, arena = run_tflm(model, samples)
    assert outputs.shape == (50, 10)
    np.testing.assert_array_equal(outputs, run_litert(model, samples, "reference"))
    assert 10_000 < arena < 60_000


def test_outputs_are_floats_whatever_the_model_gives(store):
    model = store.path(demo.quantized(store)) / "model.tflite"
    samples = samples_in(store.path(demo.samples(store, "evaluation", 50)))
    outputs = run_litert(model, samples, "xnnpack")
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=0.05)


@pytest.mark.parametrize("name", ["tflm/trained_lstm", "tflm/trained_lstm_int8"])
def test_a_model_with_state_forgets_the_sample_before(bench, name):
    model = bench / f"models/{name}.tflite"
    assert any(each.variable for each in read(model).tensors)
    samples = np.random.default_rng(0).random((3, 28, 28), np.float32)
    for run in (lambda given: run_litert(model, given, "reference"), lambda given: run_tflm(model, given)[0]):
        np.testing.assert_array_equal(run(samples[::-1])[::-1], run(samples))


def test_tflm_refuses_hybrid_kernels_in_its_own_words(store):
    model = store.path(demo.quantized(store, DynamicInt8())) / "model.tflite"
    samples = samples_in(store.path(demo.samples(store, "evaluation", 50)))
    with pytest.raises(Refused, match=r"Lite Micro cannot run the model: .*Hybrid models are not supported"):
        run_tflm(model, samples)


@pytest.fixture
def custom(tmp_path):
    """A model with an operator that nobody has."""
    file = tmp_path / "custom.tflite"
    file.write_bytes(written([tensor("in", (1, 4)), tensor("out", (1, 4))],
                             [operator("CUSTOM:Frobnicate", "in", "out")]))
    return file


def test_an_operator_that_nobody_has_is_refused_by_litert_with_its_name(custom):
    with pytest.raises(Refused, match=r"LiteRT cannot run the model: .*Frobnicate"):
        run_litert(custom, np.ones((1, 4), np.float32), "reference")


def test_an_operator_that_nobody_has_is_refused_by_tflm_in_its_own_words(custom):
    with pytest.raises(Refused, match=r"Lite Micro cannot run the model: .*op code CUSTOM"):
        run_tflm(custom, np.ones((1, 4), np.float32))


def test_a_version_of_an_operator_that_litert_lacks_is_refused_not_called_damage(tmp_path):
    made = graphs.model([tensor("in", (1, 4)), tensor("out", (1, 4))], [operator("RELU", "in", "out")],
                        "in", "out")
    made.operatorCodes[0].version = 99
    (tmp_path / "new.tflite").write_bytes(graphs.packed(made))
    with pytest.raises(Refused, match="RELU' version '99'"):
        run_litert(tmp_path / "new.tflite", np.ones((1, 4), np.float32), "reference")


def test_data_that_is_too_short_for_its_tensor_is_damage(tmp_path):
    made = graphs.model(
        [tensor("in", (1, 4)), tensor("weights", (3, 4), data=np.ones(5, np.float32)), tensor("out", (1, 3))],
        [operator("FULLY_CONNECTED", "in weights none", "out")], "in", "out")
    (tmp_path / "short.tflite").write_bytes(graphs.packed(made))
    with pytest.raises(ConfigError, match=r"short.tflite is damaged"):
        run_litert(tmp_path / "short.tflite", np.ones((1, 4), np.float32), "reference")


def test_the_arena_is_the_total_of_the_report():
    assert arena_total(REPORT) == 5340
