"""The pipeline of the ladder that comes with edgeq: it climbs from a rung that fails to one that passes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from edgeq.graph import read


@pytest.fixture(scope="module")
def built(shared_store, tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """How `edgeq build tests/pipelines/per_tensor.yaml` ended, and where its results lie."""
    folder = tmp_path_factory.mktemp("per_tensor")
    ran = subprocess.run(
        [sys.executable, "-m", "edgeq.cli", "build", "tests/pipelines/per_tensor.yaml",
         "--output-dir", folder],
        cwd=ROOT, env={**os.environ, "EDGEQ_STORE": str(shared_store), "COLUMNS": "160"},
        capture_output=True, text=True, check=False)
    return ran, folder


@pytest.fixture(scope="module")
def result(built) -> dict:
    """The one result in its report."""
    ran, folder = built
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (found,) = json.loads((folder / "report.json").read_text())["results"]
    return found


def test_plain_int8_with_a_scale_a_tensor_fails_its_gate_and_equalization_passes(result):
    assert (result["passed"], result["recipe"], result["error"]) == (True, "equalized-int8", None)
    assert [(rung["recipe"], rung["state"]) for rung in result["rungs"]] == [
        ("static-int8", "failed"), ("equalized-int8", "passed")]
    assert {rung["options"]["granularity"] for rung in result["rungs"]} == {"per_tensor"}


def test_the_loss_is_real_and_its_mending_is_no_chance(result):
    plain, equalized = (rung["metrics"]["accuracy_drop"] for rung in result["rungs"])
    assert plain["interval"][0] > 0.01
    assert plain["p_value"] < 1e-6
    assert equalized["interval"][0] <= 0 <= equalized["interval"][1]
    assert plain["value"] - equalized["value"] > 0.02


def test_the_equalized_model_is_far_closer_to_the_float_one(result):
    plain, equalized = (rung["metrics"]["sqnr_db"]["value"] for rung in result["rungs"])
    assert equalized > plain + 10


def test_it_is_said_what_was_equalized(result):
    notes = result["rungs"][1]["notes"]
    assert any(re.match(r"\d+ of \d+ pairs of layers equalized", note) for note in notes)
    assert any(note.startswith("taken: equalized") for note in notes)


def test_the_table_shows_both_rungs_with_their_verdicts(built):
    ran, _ = built
    plain, equalized = (line for line in ran.stdout.splitlines()
                        if "│" in line and "{granularity: per_tensor}" in line)
    assert "static-int8" in plain
    assert "FAIL accuracy_drop" in plain
    assert "equalized-int8" in equalized
    assert "pass accuracy_drop" in equalized


def test_the_model_that_is_delivered_has_one_scale_a_tensor(built, result):
    _, folder = built
    (file,) = [folder / each["path"] for each in result["artifacts"] if each["path"].endswith(".tflite")]
    grids = [tensor.quantization for tensor in read(file).tensors if tensor.quantization]
    assert len(grids) > 20
    assert not any(grid.per_channel for grid in grids)
