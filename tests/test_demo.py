"""The demo model: its files are those that it names, and quantizing it is a real problem."""

from __future__ import annotations

import hashlib
import itertools

import demo
import numpy as np
import pytest
import yaml
from conftest import MODEL

from edgeq.interpret import run_litert
from edgeq.judging.scoring import right_at_first
from edgeq.recipes.float32 import Float32
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.samples import labels_in, samples_in

SIZES = {"calibration": 500, "evaluation": 2000, "training": 8000}


@pytest.fixture(scope="module")
def said() -> dict:
    """What model.yaml says."""
    return yaml.safe_load((MODEL / "model.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sets() -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each set."""
    found = {}
    for role in SIZES:
        with np.load(MODEL / f"{role}.npz", allow_pickle=False) as arrays:
            found[role] = dict(arrays)
    return found


def test_the_files_are_those_that_model_yaml_names(said):
    assert said["sha256"].keys() == {"model.keras", *(f"{role}.npz" for role in SIZES)}
    for name, digest in said["sha256"].items():
        assert hashlib.sha256((MODEL / name).read_bytes()).hexdigest() == digest, name


def test_the_origin_and_the_licences_are_stated(said):
    assert {"data", "weights"} <= said["licence"].keys()
    assert said["licence"]["data"].startswith("MIT")
    assert (MODEL / "train.py").name in said["origin"]["trained_by"]


@pytest.mark.parametrize("role", SIZES)
def test_a_set_has_its_size_and_all_classes(sets, role):
    x, y = sets[role]["x"], sets[role]["y"]
    assert (x.shape, x.dtype) == ((SIZES[role], 28, 28, 1), np.uint8)
    assert y.shape == (SIZES[role],)
    assert set(y.tolist()) == set(range(10))


def test_no_sample_is_in_two_sets(sets):
    contents = {role: {sample.tobytes() for sample in arrays["x"]} for role, arrays in sets.items()}
    for one, other in itertools.combinations(contents, 2):
        assert contents[one].isdisjoint(contents[other]), (one, other)


def accuracy(store, recipe, kernels) -> float:
    """The demo's top-1 by a recipe on all evaluation samples."""
    evaluation = store.path(demo.samples(store, "evaluation"))
    model = store.path(demo.quantized(store, recipe)) / "model.tflite"
    outputs = run_litert(model, samples_in(evaluation), kernels)
    return float(right_at_first(outputs, labels_in(evaluation)).mean())


def test_the_float_model_scores_what_model_yaml_states(store, said):
    stated = said["float_accuracy"]["evaluation.npz"]
    assert stated["n"] == SIZES["evaluation"]
    assert accuracy(store, Float32(), "xnnpack") == pytest.approx(stated["top1"], abs=0.0006)


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
def test_int8_with_a_scale_a_channel_loses_at_most_a_point(store, said, kernels):
    stated = said["float_accuracy"]["evaluation.npz"]["top1"]
    assert accuracy(store, StaticInt8(), kernels) >= stated - 0.01


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
def test_int8_with_one_scale_a_tensor_loses_more_than_a_point(store, said, kernels):
    stated = said["float_accuracy"]["evaluation.npz"]["top1"]
    assert accuracy(store, StaticInt8("per_tensor"), kernels) < stated - 0.01
