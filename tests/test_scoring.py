"""Scores by the tasks' metrics and against the baseline, on numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq import measurement
from edgeq.errors import ConfigError, Refused
from edgeq.scoring import Scoring, agreement, auc, cosine, mse, sqnr_db, top1, top5

NONE = np.zeros(0)
THREE = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.5, 0.5, 0.0]], np.float32)


def test_top1_is_the_share_whose_largest_output_is_at_the_label():
    assert top1(THREE, np.array([0, 2, 1, 0]), NONE) == 1  # of two that are equal, the first counts
    assert top1(THREE, np.array([0, 0, 1, 1]), NONE) == 0.5


def test_top1_reads_a_row_of_classes_however_it_is_shaped():
    assert top1(THREE.reshape(4, 1, 1, 3), np.array([0, 2, 1, 0]), NONE) == 1


def test_top5_is_the_share_whose_label_is_among_the_five_largest():
    outputs = np.array([[7, 6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6, 7]], np.float32)
    assert top5(outputs, np.array([4, 2]), NONE) == 1
    assert top5(outputs, np.array([5, 2]), NONE) == 0.5
    assert top5(outputs, np.array([5, 1]), NONE) == 0
    assert top5(THREE, np.array([2, 2, 2, 2]), NONE) == 1


@pytest.mark.parametrize("metric", [top1, top5])
def test_a_map_of_classes_has_no_top1(metric):
    with pytest.raises(ConfigError, match=r"the outputs have the shape \[2, 4, 4, 3\]"):
        metric(np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, int), NONE)


def test_auc_is_the_share_of_pairs_in_which_the_anomaly_scores_higher():
    # pairs (anomaly, normal): 0.8 beats 0.1, 0.6; 0.4 beats 0.1 and not 0.6
    outputs = np.array([[0.1], [0.6], [0.8], [0.4]], np.float32)
    assert auc(outputs, np.array([0, 0, 1, 1]), NONE) == 0.75


def test_the_score_of_several_outputs_is_the_last():
    outputs = np.array([[9, 0.1], [9, 0.6], [0, 0.8], [0, 0.4]], np.float32)
    assert auc(outputs, np.array([0, 0, 1, 1]), NONE) == 0.75


def test_the_score_of_an_autoencoder_is_its_mean_squared_error():
    samples = np.array([[1, 1], [2, 2], [3, 3], [4, 4]], np.float32)
    errors = np.array([[0.1, 0.1], [0, 0.6], [0.8, 0], [0.4, 0]])  # squared: 0.01 0.18 0.32 0.08
    assert auc((samples + errors).astype(np.float32), np.array([0, 0, 1, 1]), samples) == 0.75


def test_auc_wants_samples_of_both_kinds():
    with pytest.raises(ConfigError, match="both kinds"):
        auc(THREE, np.ones(4, int), NONE)


def test_agreement_is_the_share_with_the_largest_output_in_the_same_place():
    other = np.array([[0.6, 0.4, 0], [0.7, 0.2, 0.1], [0, 1, 0], [0.1, 0.9, 0]], np.float32)
    assert agreement(other, THREE) == 0.5
    assert agreement(THREE.reshape(2, 2, 3), other.reshape(2, 2, 3)) == 0.5


def test_sqnr_compares_the_signal_with_what_was_lost():
    baseline = np.array([[3, 4]], np.float32)  # power 25
    assert sqnr_db(np.array([[3, 3.5]]), baseline) == pytest.approx(20)  # noise 0.25
    assert sqnr_db(np.array([[0, 0]]), baseline) == pytest.approx(0)


def test_sqnr_has_the_precision_of_float32_as_its_limit():
    assert sqnr_db(THREE, THREE) == pytest.approx(144.49, abs=0.01)
    assert sqnr_db(np.zeros((1, 2)), np.zeros((1, 2))) == pytest.approx(144.49, abs=0.01)
    assert np.isfinite(sqnr_db(np.ones((1, 2)), np.zeros((1, 2))))


def test_mse_is_the_mean_of_the_squared_differences():
    assert mse(np.array([[1, 2], [3, 4]]), np.array([[1, 4], [3, 0]])) == (4 + 16) / 4


def test_cosine_is_the_mean_over_the_samples():
    outputs, baseline = np.array([[1, 0], [1, 1]]), np.array([[0, 1], [2, 2]])
    assert cosine(outputs, baseline) == pytest.approx(0.5)
    assert cosine(np.zeros((1, 2)), np.zeros((1, 2))) == 1
    assert cosine(np.zeros((1, 2)), np.ones((1, 2))) == 0


@pytest.fixture
def measure(tmp_path):
    """Score outputs against a baseline and labels by a metric, and read the measurement."""
    def measured(outputs, baseline=THREE, labels=None, metric="", code: Path | None = None) -> dict:
        folders = [tmp_path / name for name in ("out", "ran", "reference", "evaluation")]
        for folder in folders:
            folder.mkdir()
        out, ran, reference, evaluation = folders
        np.save(ran / "outputs.npy", outputs)
        np.save(reference / "outputs.npy", baseline)
        np.save(evaluation / "x.npy", np.zeros((len(outputs), 2)))
        if labels is not None:
            np.save(evaluation / "y.npy", np.array(labels))
        Scoring(metric).measure(out, ran, reference, evaluation, code)
        return measurement.read(out / "measurement.json")

    return measured


def test_without_a_metric_no_labels_are_needed_and_no_accuracy_is_claimed(measure):
    found = measure(THREE)
    assert found.keys() == {"sqnr_db", "mse", "cosine", "agreement"}
    assert (found["agreement"].value, found["agreement"].n, found["agreement"].source) == (1, 4, "simulated")
    assert {name: value.unit for name, value in found.items()} == {
        "sqnr_db": "db", "mse": "value", "cosine": "value", "agreement": "ratio"}


def test_the_drop_is_what_the_baseline_scores_more(measure):
    outputs = THREE[[0, 0, 2, 3]]
    found = measure(outputs, labels=[0, 2, 1, 0], metric="top1")
    assert found["baseline_accuracy"].value == 1
    assert found["accuracy"].value == 0.75
    assert found["accuracy_drop"].value == 0.25


def test_one_output_a_sample_has_no_agreement(measure):
    assert "agreement" not in measure(THREE[:, :1], THREE[:, :1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_refuse_the_rung(measure, bad):
    with pytest.raises(Refused, match="the target's outputs hold NaN or infinity"):
        measure(np.full_like(THREE, bad))


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_baseline_that_is_not_finite_is_a_configuration_error(measure, bad):
    with pytest.raises(ConfigError, match="the float model gives NaN or infinity"):
        measure(THREE, baseline=np.full_like(THREE, bad))


@pytest.fixture
def code(tmp_path):
    """A folder with a module `mine` of this text."""
    def written(text: str) -> Path:
        folder = tmp_path / "code"
        folder.mkdir()
        (folder / "mine.py").write_text(text)
        return folder

    return written


def test_a_metric_of_the_users_gets_outputs_and_labels(measure, code):
    folder = code("def share(outputs, labels): return (outputs[:, 0] > 0.4).mean() + labels.sum()")
    found = measure(THREE[::2], THREE[:2], labels=[0, 1], metric="mine:share", code=folder)
    assert (found["accuracy"].value, found["baseline_accuracy"].value) == (1.5, 1.5)


def test_a_metric_of_the_users_may_do_without_labels(measure, code):
    found = measure(THREE, metric="mine:peak", code=code("def peak(outputs, labels): return outputs.max()"))
    assert found["accuracy"].value == pytest.approx(0.7)


@pytest.mark.parametrize(("returned", "found"), [
    ("None", "returned None"), ("'good'", "returned 'good'"), ("[1, 2]", r"returned \[1, 2\]"),
    ("outputs", "returned array"), ("float('nan')", "returned nan"), ("float('inf')", "returned inf"),
])
def test_a_metric_of_the_users_returns_one_finite_number(measure, code, returned, found):
    folder = code(f"def score(outputs, labels): return {returned}")
    with pytest.raises(ConfigError, match=f"the metric mine:score {found}") as raised:
        measure(THREE, metric="mine:score", code=folder)
    assert "number" in raised.value.hint


def test_a_metric_that_is_not_there_is_a_configuration_error(measure, code):
    with pytest.raises(ConfigError, match="metric: mine has no function 'score'"):
        measure(THREE, metric="mine:score", code=code("def scores(outputs, labels): return 1"))
