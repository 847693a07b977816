"""MLPerf Tiny's models through the command line: static-int8 to the host, to TFLM and to an Ethos-U55.

The bench has labels for the keyword clips alone. The other models are judged by how close they come
to their float selves, on pictures of another kind than they were trained on, and on noise.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq.interpret import run_litert

MLPERF = "models/mlperf_tiny"
TARGETS = ("host", "tflm", "ethos-u55-128")
MODELS = ("keywords", "classes", "wake", "anomalies")
CALIBRATION = 100
SYNTHETIC = "synthetic_log_mel.npz"
PICTURES = ["calibration: only 40 samples: 100 to 500 are usual"]  # the bench has no more of them
WARNINGS = {"classes": PICTURES, "wake": PICTURES}

PIPELINE = """
version: 1
models:
  keywords:
    source: {mlperf}/keyword_spotting/kws_ref_model
    calibration: {{data: keywords_calibration.npz, mean: {zero_point}, std: {std}}}
    evaluation: {{data: keywords.npz, mean: {zero_point}, std: {std}, metric: top1}}
  classes:
    source: {mlperf}/image_classification/pretrainedResnet.tflite
    calibration: {{data: crops32_calibration.npz}}
    evaluation: {{data: crops32.npz}}
  wake:
    source: {mlperf}/visual_wake_words/vww_96_float.tflite
    calibration: {{data: crops96_calibration.npz, std: 255}}
    evaluation: {{data: crops96.npz, std: 255}}
  anomalies:
    source: {mlperf}/anomaly_detection/ad01_fp32.tflite
    calibration: {{data: synthetic_calibration.npz}}
    evaluation: {{data: {synthetic}}}
targets: [host, tflm, ethos-u55-128]
ladder: [static-int8]
gates:
  - {{metric: accuracy_drop, max: 0.01, models: [keywords]}}
  - {{metric: sqnr_db, min: 25, models: [keywords, wake]}}
  - {{metric: agreement, min: 0.95, models: [wake]}}
  - {{metric: sqnr_db, min: 15, models: [classes]}}
  - {{metric: agreement, min: 0.88, models: [classes]}}
  - {{metric: sqnr_db, min: 30, models: [anomalies]}}
  - {{metric: agreement, min: 0.6, models: [anomalies]}}
  - {{metric: mapped_ops_ratio, min: 100 %, targets: [ethos-u55-128]}}
"""


def parted(count: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of `count` samples in two parts that have none in common."""
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[:first]), np.sort(order[first:])


@pytest.fixture(scope="module")
def clips(bench) -> dict[str, np.ndarray]:
    """The labelled clips of the bench, all of them its dev half."""
    with np.load(bench / "datasets/kws_speech_commands_v2.npz") as arrays:
        return {name: arrays[name] for name in ("mfcc_int8", "label", "mfcc_scale", "mfcc_zero_point")}


def write_clips(folder: Path, clips: dict[str, np.ndarray]) -> None:
    """Calibration clips, and others to score."""
    for name, part in zip(("keywords_calibration", "keywords"), parted(len(clips["label"]), CALIBRATION),
                          strict=True):
        np.savez(folder / name, x=clips["mfcc_int8"][part], y=clips["label"][part])


def write_crops(folder: Path, bench: Path) -> None:
    """Unlabelled pictures, in the sizes of both networks."""
    with np.load(bench / "datasets/natural_crops_96.npz") as arrays:
        crops = arrays["x"]
    small = np.stack([np.asarray(Image.fromarray(crop).resize((32, 32), Image.Resampling.BILINEAR))
                      for crop in crops])
    for suffix, part in zip(("_calibration", ""), parted(len(crops), 40), strict=True):
        np.savez(folder / f"crops96{suffix}", x=crops[part])
        np.savez(folder / f"crops32{suffix}", x=small[part])


def write_noise(folder: Path) -> None:
    """Five frames of 128 log-mel bands, falling with the frequency, louder and quieter ones."""
    chance = np.random.default_rng(0)
    for name, count in (("synthetic_calibration.npz", CALIBRATION), (SYNTHETIC, 200)):
        level, tilt = chance.normal(0, 8, (count, 1, 1)), chance.normal(0, 6, (count, 1, 1))
        bands = np.linspace(-15, -60, 128) + tilt * np.linspace(-1, 1, 128)
        frames = np.clip(bands + level + chance.normal(0, 4, (count, 5, 128)), -85, 14)
        np.savez(folder / name, x=frames.reshape(count, 640).astype(np.float32))


@pytest.fixture(scope="module")
def built(bench, clips, shared_store, tmp_path_factory) -> dict:
    """The report of one build of all."""
    folder = tmp_path_factory.mktemp("mlperf")
    write_clips(folder, clips)
    write_crops(folder, bench)
    write_noise(folder)
    (folder / "pipeline.yaml").write_text(PIPELINE.format(
        mlperf=bench / MLPERF, synthetic=SYNTHETIC, zero_point=int(clips["mfcc_zero_point"]),
        std=1 / float(clips["mfcc_scale"])))
    ran = subprocess.run(
        [sys.executable, "-m", "edgeq.cli", "build"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "EDGEQ_STORE": str(shared_store)}, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads((folder / "build/report.json").read_text())


def result(built: dict, model: str, target: str) -> dict:
    """The result of one job."""
    (found,) = [each for each in built["results"] if (each["model"], each["target"]) == (model, target)]
    return found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_passes_its_gates_by_static_int8(built, model, target):
    found = result(built, model, target)
    assert (found["passed"], found["recipe"], found["error"]) == (True, "static-int8", None)
    assert found["warnings"] == WARNINGS.get(model, [])
    assert found["artifacts"]


@pytest.mark.parametrize("target", TARGETS)
def test_keyword_spotting_is_within_a_point_of_float_and_of_the_int8_reference(built, bench, clips, target):
    _, part = parted(len(clips["label"]), CALIBRATION)
    metrics = result(built, "keywords", target)["metrics"]
    assert metrics["accuracy"]["n"] == len(part) == 398
    assert metrics["accuracy"]["value"] >= metrics["baseline_accuracy"]["value"] - 0.01
    assert metrics["accuracy"]["value"] >= reference_accuracy(bench, clips, part) - 0.01


def reference_accuracy(bench: Path, clips: dict[str, np.ndarray], part: np.ndarray) -> float:
    """The top-1 of MLPerf's own int8 model on some of the clips."""
    features = (clips["mfcc_int8"][part].astype(np.float32) - clips["mfcc_zero_point"]) * clips["mfcc_scale"]
    outputs = run_litert(bench / MLPERF / "keyword_spotting/kws_ref_model.tflite", features, "xnnpack")
    return float(np.mean(outputs.argmax(axis=1) == clips["label"][part]))


def test_the_int8_reference_scores_what_was_measured_of_it(bench, clips):
    with (bench / "expected.csv").open(newline="") as file:
        rows = {row["model"]: float(row["value"]) for row in csv.DictReader(file)}
    everything = np.arange(len(clips["label"]))
    assert reference_accuracy(bench, clips, everything) == pytest.approx(
        rows["kws_ref_model.tflite (int8 reference)"], abs=0.0021)  # one clip of 498


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODELS[1:])
def test_what_has_no_labels_claims_no_accuracy(built, model, target):
    metrics = result(built, model, target)["metrics"]
    assert {"agreement", "sqnr_db"} <= metrics.keys()
    assert not [name for name in metrics if "accuracy" in name]


def test_the_report_says_that_the_input_of_anomaly_detection_is_synthetic(built):
    assert {result(built, "anomalies", target)["evaluation"] for target in TARGETS} == {SYNTHETIC}


@pytest.mark.parametrize("model", MODELS)
def test_the_costs_are_there_with_their_sources(built, model):
    host, tflm, npu = (result(built, model, target)["metrics"] for target in TARGETS)
    assert host["model_bytes"]["source"] == "measured"
    assert host["macs"]["value"] == npu["macs"]["value"]
    assert (tflm["arena_bytes"]["source"], npu["cycles"]["source"]) == ("simulated", "simulated")
    assert npu["mapped_ops_ratio"]["value"] == 1
    assert npu["cycles"]["value"] > npu["macs"]["value"] / 128  # the MACs a cycle that it has


@pytest.mark.parametrize(("model", "macs"), [
    ("keywords", 2_656_768), ("classes", 12_501_632), ("wake", 7_489_664), ("anomalies", 264_192)])
def test_the_multiply_accumulates_are_those_that_are_known(built, model, macs):
    assert result(built, model, "host")["metrics"]["macs"]["value"] == macs
