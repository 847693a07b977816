"""The jobs that a pipeline means: which rungs are tried, with what, and what is refused beforehand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.errors import ConfigError
from edgeq.meters.host_clock import HostClock
from edgeq.pipeline import load
from edgeq.plan import Chosen, Job, makers, plan
from edgeq.recipes.static_int8 import StaticInt8

TEXT = """\
version: 1
models:
  tiny:
    source: SOURCE
    calibration: {data: samples.npz}
    evaluation: {data: samples.npz, metric: top1}
targets: [TARGETS]
ladder: [LADDER]
gates: [GATES]
"""
GATE = "{metric: accuracy, min: 0.9}"
USUAL = {"source": "model.keras", "targets": "host", "ladder": "static-int8", "gates": GATE}
Planned = Callable[..., tuple[Job, ...]]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """The jobs of a pipeline with these parts."""
    for name in ("samples.npz", "model.keras", "model.tflite", "exported/saved_model.pb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")

    def jobs(chosen: Chosen | None = None, text: str = TEXT, **parts: str) -> tuple[Job, ...]:
        for part, usual in USUAL.items():
            text = text.replace(part.upper(), parts.get(part, usual))
        (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
        return plan(load(tmp_path / "pipeline.yaml"), chosen or Chosen())

    return jobs


def skipped(job: Job) -> dict[str, str]:
    return {rung.name: rung.skipped for rung in job.rungs}


def refused(planned: Planned, *arguments: object, **parts: object) -> str:
    with pytest.raises(ConfigError) as error:
        planned(*arguments, **parts)
    assert error.value.hint
    return error.value.message


# Jobs


def test_every_model_meets_every_target_in_the_order_of_the_file(planned):
    second = "  second:\n    source: model.keras\n    evaluation: {data: samples.npz}\ntargets:"
    jobs = planned(text=TEXT.replace("targets:", second), targets="tflm, host", ladder="float32")
    assert [str(job) for job in jobs] == ["tiny/tflm", "tiny/host", "second/tflm", "second/host"]


def test_only_what_is_chosen_is_planned(planned):
    jobs = planned(Chosen(targets=["tflm"], models=["tiny"]), targets="host, tflm, edgetpu")
    assert [str(job) for job in jobs] == ["tiny/tflm"]


@pytest.mark.parametrize(("chosen", "told"), [
    (Chosen(targets=["hots"]), "the pipeline has no target 'hots'; did you mean 'host'?"),
    (Chosen(targets=["edgetpu"]), "the pipeline has no target 'edgetpu'; known: host"),
    (Chosen(targets=["host", "tflm"]), "the pipeline has no target 'tflm'; known: host"),
    (Chosen(models=["tinny"]), "the pipeline has no model 'tinny'; did you mean 'tiny'?"),
])
def test_what_is_not_in_the_pipeline_cannot_be_chosen(planned, chosen, told):
    assert refused(planned, chosen) == told


def test_a_gate_judges_where_it_holds(planned):
    gates = "{metric: accuracy, min: 0.9}, {metric: arena_bytes, max: 1KiB, targets: [tflm]}"
    host, tflm = planned(targets="host, tflm", gates=gates)
    assert [gate.metric for gate in host.gates] == ["accuracy"]
    assert [gate.metric for gate in tflm.gates] == ["accuracy", "arena_bytes"]


def test_a_target_may_bound_the_evaluation_samples(planned, tmp_path):
    (tmp_path / "targets/slow").mkdir(parents=True)
    (tmp_path / "targets/slow/target.yaml").write_text(
        "description: slow\nprecisions: [int8]\nbackend: litert\nrunner: host\nsamples: 50\n",
        encoding="utf-8")
    host, slow = planned(targets="host, slow")
    assert host.data["evaluation"].samples.at_most is None
    assert slow.data["evaluation"].samples.at_most == 50
    assert slow.data["calibration"] == host.data["calibration"]


def test_the_frontend_knows_what_the_model_says_of_its_source(planned):
    [job] = planned(source="exported\n    trust: true\n    signature: serve")
    assert (job.frontend.trust, job.frontend.signature) == (True, "serve")


# Rungs


def test_a_rung_that_can_be_tried_has_no_reason_against_it(planned):
    [job] = planned(ladder="static-int8, static-int16x8, dynamic-int8, float16, float32")
    assert set(skipped(job).values()) == {""}


def test_a_precision_that_the_target_does_not_take_is_skipped(planned):
    [job] = planned(targets="edgetpu", ladder="float32, static-int8, static-int16x8")
    assert skipped(job) == {"float32": "the target takes int8, not float32", "static-int8": "",
                            "static-int16x8": "the target takes int8, not int16x8"}


def test_an_engine_that_starts_from_the_source_skips_a_tflite(planned):
    [job] = planned(source="model.tflite",
                    ladder="float32, {recipe: static-int8, engine: tflite-converter}")
    assert "the source is a .tflite" in skipped(job)["static-int8"]


def test_without_calibration_data_static_recipes_are_skipped(planned):
    text = TEXT.replace("    calibration: {data: samples.npz}\n", "")
    [job] = planned(text=text, ladder="dynamic-int8, static-int8")
    assert skipped(job) == {"dynamic-int8": "", "static-int8": "the model has no calibration data"}


def test_every_engine_finds_the_signature_of_the_model(planned):
    engine = "engine: tflite-converter"
    ladder = f"{{recipe: static-int8, {engine}}}, {{recipe: float16, {engine}}}, static-int8"
    [job] = planned(source="exported\n    signature: serve", ladder=ladder)
    assert [rung.recipe.signature for rung in job.rungs] == ["serve", "serve", ""]


def test_what_the_targets_compiler_demands_goes_into_the_recipe(planned):
    [job] = planned(targets="edgetpu")
    assert job.rungs[0].recipe == StaticInt8(granularity_by_operator={"FULLY_CONNECTED": "per_tensor"})


def test_a_recipe_that_meets_the_demand_already_stays_the_same_and_is_shared(planned):
    host, edgetpu = planned(targets="host, edgetpu", ladder="{recipe: static-int8, granularity: per_tensor}")
    assert edgetpu.rungs[0].recipe == host.rungs[0].recipe == StaticInt8(granularity="per_tensor")


def test_the_users_exceptions_stand_beside_the_targets(planned):
    ladder = "{recipe: static-int8, granularity_by_operator: {CONV_2D: per_tensor}}"
    [job] = planned(targets="edgetpu", ladder=ladder)
    assert job.rungs[0].recipe.granularity_by_operator == {
        "CONV_2D": "per_tensor", "FULLY_CONNECTED": "per_tensor"}


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
def test_the_users_exceptions_never_undo_the_targets(planned, granularity):
    exception = "granularity_by_operator: {FULLY_CONNECTED: per_channel}"
    [job] = planned(targets="edgetpu",
                    ladder=f"{{recipe: static-int8, granularity: {granularity}, {exception}}}")
    assert job.rungs[0].recipe.granularity_by_operator == {"FULLY_CONNECTED": "per_tensor"}


def test_the_options_of_a_rung_are_those_that_the_user_gave(planned):
    [job] = planned(targets="edgetpu", ladder="{recipe: static-int8, inference_input_type: uint8}")
    assert job.rungs[0].options == {"inference_input_type": "uint8"}


# Refusals


def test_a_job_without_a_gate_is_refused(planned):
    told = refused(planned, gates="")
    assert told == "tiny/host: no gate judges it, and without a gate anything would pass"


def test_a_job_that_no_gate_holds_for_is_refused_by_name(planned):
    told = refused(planned, targets="host, tflm", gates="{metric: accuracy, min: 0.9, targets: [tflm]}")
    assert told.startswith("tiny/host: no gate judges it")
    assert "tiny/tflm" not in told


def test_a_job_with_no_rung_left_is_refused_with_every_reason(planned):
    told = refused(planned, targets="edgetpu", ladder="float32, dynamic-int8")
    assert told == (
        "tiny/edgetpu: the target can take no rung of the ladder (float32: the target takes int8, not "
        "float32; dynamic-int8: the target takes int8, not dynamic-int8)")


def test_all_that_is_wrong_with_all_jobs_is_told_at_once(planned):
    told = refused(planned, targets="host, edgetpu", ladder="float32", gates="")
    assert [line.split(":")[0] for line in told.splitlines()] == ["tiny/host", "tiny/edgetpu", "tiny/edgetpu"]


def test_what_is_not_chosen_needs_no_gate(planned):
    jobs = planned(Chosen(targets=["tflm"]), targets="host, tflm",
                   gates="{metric: accuracy, min: 0.9, targets: [tflm]}")
    assert [str(job) for job in jobs] == ["tiny/tflm"]


# Meters


def test_nothing_is_metered_unasked(planned):
    [job] = planned()
    assert job.meters == ()


def test_a_gate_on_what_a_meter_measures_asks_for_it(planned):
    [job] = planned(gates="{metric: latency_ms, max: 1s, allow: [measured]}")
    assert job.meters == (HostClock(kernels="xnnpack"),)


def test_a_gate_for_another_target_asks_for_no_meter_here(planned):
    host, _ = planned(targets="host, tflm", gates=f"{GATE}, {{metric: latency_ms, max: 1s, targets: [tflm]}}")
    assert host.meters == ()


def test_measuring_everything_takes_every_meter_that_the_target_has(planned):
    host, tflm = planned(Chosen(measure=True), targets="host, tflm")
    assert host.meters == (HostClock(kernels="xnnpack"),)
    assert tflm.meters == ()


# What a job needs


def test_a_job_needs_nothing_for_what_it_skips(planned):
    [job] = planned(targets="tflm", ladder="{recipe: dynamic-int8, engine: tflite-converter}, static-int8",
                    source="model.tflite")
    packages = {name for maker in makers(job) for name in getattr(maker, "packages", ())}
    assert "tensorflow" not in packages
    assert {"litert-quantizer", "tflite-micro"} <= packages


def test_the_plan_is_shown_and_makes_nothing(edgeq, edit, tmp_path):
    edit("pipeline.yaml", "ladder: [static-int8]", "ladder: [float32, static-int8]")
    shown = edgeq("plan", "--target", "edgetpu", "--store", tmp_path / "fresh")
    assert shown.returncode == 0, shown.stderr
    assert "skipped: the target takes int8, not float32" in shown.stdout
    assert "to make" in shown.stdout
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("words", [("--target", "hots"), ("--model", "fasion")])
def test_a_wrong_choice_ends_with_2_and_what_was_meant(edgeq, words):
    ended = edgeq("build", *words)
    assert ended.returncode == 2
    assert "did you mean" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_pipeline_without_gates_ends_with_2(edgeq, project):
    text = (project / "pipeline.yaml").read_text(encoding="utf-8")
    (project / "pipeline.yaml").write_text(text.partition("gates:")[0] + "gates: []\n", encoding="utf-8")
    ended = edgeq("build")
    assert ended.returncode == 2
    assert ended.stderr.count("no gate judges it") == 4
