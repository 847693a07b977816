"""What is found of calibration samples, and which of it should worry: on small arrays and on the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import demo
import numpy as np
import pytest
from graphs import operator, tensor, written

from edgeq.ptq.audit import (
    Audit,
    audit_in,
    by_chance,
    constant,
    drifts,
    missing_classes,
    outside,
    told,
    warnings,
)

CLEAN = {"calibration": 200, "distinct": 200, "constant": 0, "evaluation": 1000, "overlap": 0,
         "missing_classes": [], "looked_at": 200, "activations": []}


def worries(**changes: Any) -> list[str]:
    return [*warnings({**CLEAN, **changes})]


# The formulas


def test_values_outside_are_counted_by_value_and_by_sample():
    calibrated = np.array([[0, 1, 2], [1, 1, 3]])
    judged = np.array([[0, 1, 2], [-1, 4, 9], [3, 3, 3.5], [0, 0, 0]])
    assert outside(calibrated, judged) == (4 / 12, 2 / 4)


def test_the_ends_themselves_are_inside():
    assert outside(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])) == (0, 0)


def test_a_constant_sample_has_one_value_throughout():
    assert constant(np.array([[1, 1], [1, 2], [0, 0]])) == 2
    assert constant(np.ones((3, 1))) == 0, "one value cannot vary"


def test_classes_that_are_judged_and_not_calibrated_with_are_missing():
    found = missing_classes(np.array([0, 0, 1, 1]), np.array([0, 2, 2, 2, 3, 1, 1, 1]))
    assert found == [{"class": 2, "evaluation": 3, "expected": 1.5},
                     {"class": 3, "evaluation": 1, "expected": 0.5}]
    assert missing_classes(np.array([0, 1, 2]), np.array([1, 0])) == []


def test_where_classes_are_not_known_none_is_missing():
    assert missing_classes(None, np.array([1])) == missing_classes(np.array([1]), None) == []


def test_chance_leaves_so_much_outside_the_span_of_what_was_seen():
    # Wilks: of 473 samples, 99 % of all lie between the least and the largest with 95 % confidence
    assert by_chance(0.01, 473) < 0.05 < by_chance(0.01, 472)
    assert by_chance(0, 100) == 1
    assert by_chance(1, 100) == 0
    drawn = np.random.default_rng(0).random((4000, 40))
    missed = 1 - (drawn.max(axis=1) - drawn.min(axis=1))
    assert np.mean(missed >= 0.1) == pytest.approx(by_chance(0.1, 40), abs=0.02)


@pytest.mark.parametrize(("values", "samples", "count", "drift"), [
    (0.2, 0.5, 100, True), (0.2, 0.05, 100, False),      # a few odd samples: chance
    (0.0009, 0.9, 100, False),                           # in most samples, but hardly a value
    (0.02, 0.1, 40, False), (0.02, 0.1, 500, True)])
def test_an_activation_drifts_where_many_values_of_many_samples_lie_outside(values, samples, count, drift):
    assert drifts({"outside": values, "samples": samples}, count) is drift


# What should worry


def test_clean_samples_worry_nobody():
    assert worries() == []
    assert [*warnings({})] == []


def test_samples_in_both_sets_worry():
    assert worries(overlap=7) == ["7 evaluation samples are also calibration samples"]


@pytest.mark.parametrize(("count", "distinct", "words"), [
    (99, 99, "only 99 samples: 100 to 500 are usual"), (20, 20, "only 20 samples: 100 to 500 are usual"),
    (19, 19, "only 19 samples, which leaves the ranges to chance: give at least 100"),
    (1, 1, "only 1 sample, which leaves"), (500, 1, "only 1 different sample among 500, which leaves"),
    (500, 60, "only 60 different samples among 500: 100 to 500 are usual"),
    (500, 200, "only 200 different samples among 500: most are copies")])
def test_few_samples_worry_and_very_few_more(count, distinct, words):
    (found,) = worries(calibration=count, distinct=distinct)
    assert found.startswith(f"calibration: {words}")


def test_enough_samples_do_not_worry():
    assert worries(calibration=100, distinct=100) == worries(calibration=300, distinct=151) == []


def test_constant_samples_worry_where_they_are_many():
    assert worries(constant=10) == []
    assert worries(constant=11) == ["calibration: 11 of 200 samples are one value throughout"]


def missing(number: int, evaluation: int, expected: float) -> dict[str, Any]:
    return {"class": number, "evaluation": evaluation, "expected": expected}


def test_a_missing_class_worries_where_chance_would_have_brought_some():
    (found,) = worries(missing_classes=[missing(3, 100, 20), missing(7, 50, 10), missing(9, 1, 0.2)])
    assert found == "calibration: no sample is of class 3, 7, and 150 of the evaluation are"
    assert worries(missing_classes=[missing(i, 10, 2.0) for i in range(50)]) == []
    (many,) = worries(missing_classes=[missing(i, 10, 5.0) for i in range(50)])
    assert "18, 19 and 30 more, and 500" in many


def test_drift_names_the_first_activation_that_drifts():
    activations = [{"tensor": "input", "outside": 0.0, "samples": 0.0},
                   {"tensor": "relu;add;conv", "outside": 0.123, "samples": 0.5},
                   {"tensor": "logits", "outside": 0.5, "samples": 0.9}]
    (found,) = worries(activations=activations)
    assert found == ("drift: on the evaluation data 12.3 % of the values of 'relu' lie outside what "
                     "calibration saw; in all, 2 of 3 activations have over 1 %")


def test_a_report_has_the_activations_that_saturate():
    activations = [{"tensor": f"t{i}", "outside": i / 100, "samples": 0.1} for i in range(30)]
    found = told({**CLEAN, "activations": activations})
    assert found["activations"] == 30
    assert [each["tensor"] for each in found["saturated"]] == [f"t{i}" for i in range(29, 9, -1)]
    assert told({}) == {}


# On files


def examined(folder: Path, audit: Audit, calibration: dict, evaluation: dict, outputs: np.ndarray) -> dict:
    """What `audit` finds of these arrays and a model that adds its input to itself."""
    places = {name: folder / name for name in ("out", "calibration", "evaluation", "baseline", "reference")}
    for place in places.values():
        place.mkdir()
    for name, arrays in (("calibration", calibration), ("evaluation", evaluation)):
        for key, values in arrays.items():
            np.save(places[name] / f"{key}.npy", values)
    (places["baseline"] / "baseline.tflite").write_bytes(written(
        [tensor("in", (1, 3)), tensor("out", (1, 3))], [operator("ADD", "in in", "out")]))
    np.save(places["reference"] / "outputs.npy", outputs)
    audit.examine(*places.values())
    return audit_in(places["out"])


X = np.random.default_rng(0).random((120, 3), np.float32)
Y = np.arange(120) % 3


def test_samples_of_the_same_kind_pass_the_audit(tmp_path):
    found = examined(tmp_path, Audit(), {"x": X[:100], "y": Y[:100]}, {"x": X[100:], "y": Y[100:]}, X[100:])
    assert (found["calibration"], found["distinct"]) == (100, 100)
    assert (found["evaluation"], found["looked_at"]) == (20, 20)
    assert [each["tensor"] for each in found["activations"]] == ["in", "out"]
    assert [*warnings(found)] == []


def test_samples_on_another_scale_drift(tmp_path):
    found = examined(tmp_path, Audit(), {"x": X}, {"x": X * 255}, X)
    assert found["activations"][0]["outside"] > 0.9
    assert any(warning.startswith("drift: ") for warning in warnings(found))


def test_no_more_samples_are_run_than_asked(tmp_path):
    x = np.concatenate([X, X + 9])  # the second half lies outside
    found = examined(tmp_path, Audit(looked_at=20), {"x": X}, {"x": x}, x)
    assert found["looked_at"] == 20
    assert found["activations"][0]["outside"] == 0.5, "they are taken evenly"


def test_classes_are_taken_from_the_labels(tmp_path):
    found = examined(tmp_path, Audit("class"), {"x": X[:40], "y": Y[:40] % 2}, {"x": X, "y": Y}, X)
    assert found["missing_classes"] == [{"class": 2, "evaluation": 40, "expected": 13.33}]


def test_classes_are_taken_from_the_outputs_where_there_are_no_labels(tmp_path):
    outputs = np.eye(3, dtype=np.float32)[Y]
    found = examined(tmp_path, Audit(), {"x": X[:40], "y": Y[:40] % 2}, {"x": X}, outputs)
    assert [each["class"] for each in found["missing_classes"]] == [2]


@pytest.mark.parametrize("labels", [np.full(120, 9), np.linspace(0, 1, 120), np.zeros((120, 2), int)])
def test_labels_that_are_no_classes_of_the_model_are_left_alone(tmp_path, labels):
    found = examined(tmp_path, Audit(), {"x": X, "y": labels}, {"x": X, "y": Y}, X)
    assert found["missing_classes"] == []


def test_anomalies_are_not_missed_in_calibration(tmp_path):
    normal = np.zeros(120, int)
    found = examined(tmp_path, Audit("anomaly"), {"x": X, "y": normal}, {"x": X, "y": Y % 2}, X)
    assert found["missing_classes"] == []


def test_copies_constants_and_overlap_are_counted(tmp_path):
    calibration = np.concatenate([X[:30], X[:30], np.ones((2, 3), np.float32)])
    found = examined(tmp_path, Audit(), {"x": calibration}, {"x": X[20:60]}, X[20:60])
    assert (found["distinct"], found["constant"], found["overlap"]) == (31, 2, 10)


def test_one_calibration_sample_is_audited_too(tmp_path):
    found = examined(tmp_path, Audit(), {"x": X[:1]}, {"x": X[1:]}, X[1:])
    assert "only 1 sample, which" in next(warnings(found))
    json.dumps(found, allow_nan=False)


def test_the_demos_samples_pass_the_audit(store, tmp_path):
    given = [demo.samples(store, "calibration"), demo.samples(store, "evaluation", labels="class"),
             demo.baseline(store)]
    np.save(tmp_path / "outputs.npy", np.zeros((2000, 10), np.float32))  # the labels say the classes
    Audit("class").examine(tmp_path, *map(store.path, given), tmp_path)
    found = audit_in(tmp_path)
    assert (found["calibration"], found["overlap"], found["missing_classes"]) == (500, 0, [])
    assert len(found["activations"]) >= 10
    assert [*warnings(found)] == []
