"""Areas under ROC curves by ranks: against pairs counted by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import ConfigError
from edgeq.judging.ranking import Placements, midranks, placements


def test_equal_values_share_their_mean_rank():
    assert midranks(np.array([0.5, 0.1, 0.5, 0.9, 0.5])).tolist() == [3, 1, 3, 5, 3]


def test_a_placement_is_the_share_of_the_other_kind_on_the_right_side():
    found = placements(np.array([0.1, 0.6, 0.8, 0.4, 0.4]), np.array([0, 0, 1, 1, 0]))
    assert found.anomalies.tolist() == pytest.approx([1, 0.5])        # 0.8 beats 3 of 3; 0.4 one and a half
    assert found.normal.tolist() == pytest.approx([1, 0.5, 0.75])     # 0.1, 0.6, 0.4 against 0.8 and 0.4
    assert found.area == pytest.approx(0.75)
    assert found.normal.mean() == pytest.approx(found.area)


@pytest.mark.parametrize("levels", [3, 20, 10_000])
def test_the_area_is_scikit_learns(levels):
    from sklearn.metrics import roc_auc_score

    chance = np.random.default_rng(levels)
    labels = chance.integers(0, 2, 300)
    scores = (chance.integers(0, levels, 300) + labels * levels * 0.3).astype(np.float32)
    assert placements(scores, labels).area == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_one_kind_alone_has_no_area():
    for label in (0, 1):
        with pytest.raises(ConfigError, match="both kinds"):
            placements(np.arange(4.0), np.full(4, label))


def drawn(chance: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a score that tells them apart, and the same with some noise on it."""
    labels = np.arange(count) % 3 == 0
    scores = chance.normal(labels * 1.2, 1)
    return labels, scores, scores + chance.normal(0, 0.4, count)


def test_the_standard_error_is_that_of_repeated_samples():
    chance = np.random.default_rng(0)
    areas, differences, errors, of_differences = [], [], [], []
    for _ in range(400):
        labels, scores, noisy = drawn(chance, 150)
        ours, theirs = placements(noisy, labels), placements(scores, labels)
        areas.append(ours.area)
        errors.append(ours.standard_error)
        differences.append((theirs - ours).area)
        of_differences.append((theirs - ours).standard_error)
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.1)
    assert np.mean(of_differences) == pytest.approx(np.std(differences), rel=0.1)
    assert np.mean(of_differences) < 0.6 * np.mean(errors), "the same samples on both sides"


def test_the_standard_error_is_delongs_formula():
    found = Placements(np.array([1, 0.5, 0.5]), np.array([0.9, 0.6]))
    # variances with n - 1: 1/12 over 3 anomalies, 0.045 over 2 normal samples
    assert found.standard_error == pytest.approx((1 / 36 + 0.0225) ** 0.5)


def test_scores_that_tell_all_apart_leave_a_doubt():
    labels = np.repeat([0, 1], [100, 48])
    found = placements(np.arange(148.0), labels)
    assert (found.area, found.standard_error) == (1, 1 / 50)
    assert (found - found).standard_error == 1 / 50


def test_a_single_sample_of_a_kind_has_no_standard_error():
    assert placements(np.arange(5.0), np.array([0, 0, 0, 0, 1])).standard_error is None
