"""Scores by the tasks' metrics and against the baseline, on numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq import measurement
from edgeq.errors import ConfigError, Refused
from edgeq.judging.paired import Loss, Share, interval, mcnemar
from edgeq.judging.scoring import (
    Scoring,
    agreement,
    anomaly_scores,
    correct_in,
    cosine,
    mse,
    right_among_five,
    right_at_first,
    sqnr_db,
)
from edgeq.measurement import Value
from edgeq.program import mark_measured

NONE = np.zeros(0)
THREE = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.5, 0.5, 0.0]], np.float32)


def test_a_sample_is_right_at_first_where_its_largest_output_is_at_the_label():
    assert right_at_first(THREE, np.array([0, 2, 1, 0])).all()  # of two that are equal, the first counts
    assert right_at_first(THREE, np.array([0, 0, 1, 1])).tolist() == [True, False, True, False]


def test_a_row_of_classes_is_read_however_it_is_shaped():
    assert right_at_first(THREE.reshape(4, 1, 1, 3), np.array([0, 2, 1, 0])).all()


def test_a_sample_is_right_among_five_where_its_label_is_among_the_five_largest():
    outputs = np.array([[7, 6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6, 7]], np.float32)
    assert right_among_five(outputs, np.array([4, 2])).tolist() == [True, True]
    assert right_among_five(outputs, np.array([5, 2])).tolist() == [False, True]
    assert right_among_five(outputs, np.array([5, 1])).tolist() == [False, False]
    assert right_among_five(THREE, np.array([2, 2, 2, 2])).all()


@pytest.mark.parametrize("right", [right_at_first, right_among_five])
def test_in_a_map_of_classes_no_sample_is_right_or_wrong(right):
    with pytest.raises(ConfigError, match=r"the outputs have the shape \[2, 4, 4, 3\]"):
        right(np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, int))


def test_the_anomaly_score_of_several_outputs_is_the_last():
    outputs = np.array([[9, 0.1], [9, 0.6], [0, 0.8], [0, 0.4]], np.float32)
    assert anomaly_scores(outputs, NONE).tolist() == pytest.approx([0.1, 0.6, 0.8, 0.4])


def test_the_anomaly_score_of_an_autoencoder_is_its_mean_squared_error():
    samples = np.array([[1, 1], [2, 2], [3, 3], [4, 4]], np.float32)
    errors = np.array([[0.1, 0.1], [0, 0.6], [0.8, 0], [0.4, 0]])
    found = anomaly_scores((samples + errors).astype(np.float32), samples)
    assert found.tolist() == pytest.approx([0.01, 0.18, 0.32, 0.08], rel=1e-5)


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
    def measured(outputs, baseline=THREE, labels=None, metric="", code: Path | None = None, groups=None,
                 asked=(), min_samples=0, device="") -> dict[str, Value]:
        folders = [tmp_path / name for name in ("out", "ran", "reference", "evaluation")]
        for folder in folders:
            folder.mkdir()
        out, ran, reference, evaluation = folders
        np.save(ran / "outputs.npy", outputs)
        np.save(reference / "outputs.npy", baseline)
        np.save(evaluation / "x.npy", np.zeros((len(outputs), 2)))
        if labels is not None:
            np.save(evaluation / "y.npy", np.array(labels))
        if groups is not None:
            np.save(evaluation / "group.npy", np.array(groups))
        if device:
            mark_measured(ran, device)
        Scoring(metric, asked, min_samples).measure(out, ran, reference, evaluation, code)
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


def test_what_a_device_computed_is_measured_and_the_baseline_never_is(measure):
    found = measure(THREE, labels=[0, 2, 1, 0], metric="top1", device="the board at /dev/ttyACM0")
    assert {name for name, value in found.items() if value.source == "simulated"} == {"baseline_accuracy"}
    assert {value.source for value in found.values()} == {"measured", "simulated"}


def with_losses(right: int, lost: int, gained: int, wrong: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Outputs of a target and a baseline that are right (class 0) on so many samples each."""
    right_one, wrong_one = [1.0, 0.0], [0.0, 1.0]
    ours = [right_one] * right + [wrong_one] * lost + [right_one] * gained + [wrong_one] * wrong
    theirs = [right_one] * (right + lost) + [wrong_one] * (gained + wrong)
    return np.array(ours), np.array(theirs), [0] * len(ours)


@pytest.mark.parametrize("metric", ["top1", "top5"])
def test_a_drop_comes_with_its_paired_test_and_interval(measure, metric):
    ours, theirs, labels = with_losses(80, 7, 2, 11)
    if metric == "top5":
        ours, theirs = (np.pad(each, ((0, 0), (0, 4)), constant_values=0.5) for each in (ours, theirs))
    found = measure(ours, theirs, labels, metric)
    drop, accuracy = found["accuracy_drop"], found["accuracy"]
    assert (drop.value, drop.n, drop.discordant) == (0.05, 100, (7, 2))
    assert (drop.p_value, drop.interval) == (mcnemar(7, 2), interval(Loss(7, 2, 100), 0.95))
    assert (accuracy.value, accuracy.interval) == (0.82, interval(Share(82, 100), 0.95))
    assert found["baseline_accuracy"].interval == interval(Share(87, 100), 0.95)
    assert found["agreement"].interval == interval(Share(91, 100), 0.95)
    assert {found[name].interval for name in ("sqnr_db", "mse", "cosine")} == {None}


def test_which_samples_are_right_is_kept_beside_the_scores(measure, tmp_path):
    measure(*with_losses(2, 1, 1, 1), metric="top1")
    assert correct_in(tmp_path / "out").tolist() == [True, True, False, True, False]


def test_where_no_sample_is_right_or_wrong_nothing_of_the_kind_is_kept(measure, tmp_path):
    measure(THREE)
    assert correct_in(tmp_path / "out") is None


def test_the_agreement_of_maps_has_no_interval(measure):
    assert measure(np.zeros((4, 8, 8, 3)), np.zeros((4, 8, 8, 3)))["agreement"].interval is None


def anomalous(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Anomaly scores of target and baseline for 90 normal samples and 30 anomalies, and the labels."""
    chance = np.random.default_rng(0)
    labels = np.repeat([0, 1], [90, 30])
    scores = chance.normal(labels * 1.5, 1)
    return (scores + chance.normal(0, noise, 120))[:, None], scores[:, None], labels


def test_areas_and_their_difference_have_intervals(measure):
    found = measure(*anomalous(0.3), metric="auc")
    accuracy, drop = found["accuracy"], found["accuracy_drop"]
    assert accuracy.interval[0] < accuracy.value < accuracy.interval[1] <= 1
    assert drop.value == pytest.approx(found["baseline_accuracy"].value - accuracy.value)
    assert drop.interval[0] < drop.value < drop.interval[1]
    assert drop.interval[1] - drop.interval[0] < accuracy.interval[1] - accuracy.interval[0]
    assert 0 < drop.p_value < 1
    assert drop.standard_error > 0
    assert drop.discordant is None


def test_scores_are_the_same_every_time(measure, tmp_path):
    measure(*anomalous(0.3), metric="auc")
    first = (tmp_path / "out/measurement.json").read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    Scoring("auc").measure(again, *(tmp_path / name for name in ("ran", "reference", "evaluation")))
    assert (again / "measurement.json").read_bytes() == first


def test_auc_wants_samples_of_both_kinds(measure):
    with pytest.raises(ConfigError, match="both kinds"):
        measure(THREE, labels=[1, 1, 1, 1], metric="auc")


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
    assert {found[name].interval for name in ("accuracy", "accuracy_drop")} == {None}
    assert found["accuracy_drop"].p_value is None


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


# Groups


GROUPS = ["day"] * 40 + ["night"] * 40 + ["fog"] * 5
LOSSES = with_losses(36, 2, 0, 2), with_losses(30, 8, 1, 1), with_losses(2, 3, 0, 0)
BY_GROUP = (*(np.concatenate([part[side] for part in LOSSES]) for side in (0, 1)), [0] * 85)


def test_groups_are_not_scored_unasked(measure):
    found = measure(*BY_GROUP, metric="top1", groups=GROUPS)
    assert not [name for name in found if "[" in name or "group" in name]


def test_a_group_is_scored_by_itself(measure):
    found = measure(*BY_GROUP, metric="top1", groups=GROUPS, asked=("night",))
    drop = found["accuracy_drop[night]"]
    assert (drop.value, drop.n, drop.group, drop.discordant) == (0.175, 40, "night", (8, 1))
    assert drop.interval == interval(Loss(8, 1, 40), 0.95)
    assert found["accuracy[night]"].value == 0.775
    assert found["baseline_accuracy[night]"].value == 0.95
    assert not [name for name in found if "day" in name]
    assert found["accuracy"].n == 85


def test_the_worst_group_is_found_among_those_that_are_large_enough(measure):
    found = measure(*BY_GROUP, metric="top1", groups=GROUPS, min_samples=30)
    worst = found["worst_group_drop"]
    assert (worst.value, worst.group, worst.n, worst.unit) == (0.175, "night", 40, "ratio")
    assert worst.aggregation == ("the worst of 2 groups of at least 30 samples; left out: fog (5 samples)")
    assert (worst.interval, worst.p_value) == (None, None)
    assert found["accuracy_drop[day]"].value == 0.05


def test_without_groups_in_the_data_their_scores_are_unavailable(measure):
    found = measure(*BY_GROUP, metric="top1", asked=("night",), min_samples=30)
    for name in ("accuracy[night]", "accuracy_drop[night]", "worst_group_drop"):
        assert found[name].value is None
        assert "has no array `group`" in found[name].reason
    assert found["accuracy"].value is not None


def test_without_a_metric_no_group_is_scored(measure):
    found = measure(THREE, groups=["a"] * 4, asked=("a",), min_samples=2)
    assert {found[name].reason for name in ("accuracy[a]", "accuracy_drop[a]", "worst_group_drop")} == {
        "without `metric:` no group can be scored"}


def test_areas_are_taken_by_group_where_a_group_has_both_kinds(measure):
    ours, theirs, labels = anomalous(0.3)
    groups = np.array(["calm"] * 45 + ["loud"] * 45 + ["loud"] * 15 + ["broken"] * 15)
    found = measure(ours, theirs, labels, "auc", groups=groups, asked=("loud", "calm"), min_samples=10)
    assert found["accuracy_drop[loud]"].interval is not None
    assert "both kinds" in found["accuracy[calm]"].reason
    assert found["worst_group_drop"].group == "loud"
    assert "calm (group 'calm': auc needs samples of both kinds" in found["worst_group_drop"].aggregation


def test_a_metric_of_the_users_is_taken_by_group_too(measure, code):
    folder = code("def share(outputs, labels): return (outputs.argmax(axis=1) == labels).mean()")
    found = measure(*BY_GROUP, metric="mine:share", code=folder, groups=GROUPS, asked=("day",),
                    min_samples=30)
    assert found["accuracy[day]"].value == 0.9
    assert found["worst_group_drop"].value == pytest.approx(0.175)


@pytest.mark.parametrize("failing", ["1 / 0", "int('one class alone')"])
def test_a_metric_of_the_users_may_refuse_a_group(measure, code, failing):
    folder = code(f"def few(outputs, labels): return 1.0 if len(labels) > 5 else {failing}")
    found = measure(*BY_GROUP, metric="mine:few", code=folder, groups=["a"] * 80 + ["b"] * 5, asked=("b",),
                    min_samples=3)
    assert "the metric mine:few failed on 5 samples" in found["accuracy[b]"].reason
    assert found["worst_group_drop"].group == "a"


def test_a_metric_of_the_users_may_have_no_number_for_a_group(measure, code):
    folder = code("def few(outputs, labels): return 1.0 if len(labels) > 5 else float('nan')")
    found = measure(*BY_GROUP, metric="mine:few", code=folder, groups=["a"] * 80 + ["b"] * 5, asked=("b",))
    assert "returned nan" in found["accuracy[b]"].reason
