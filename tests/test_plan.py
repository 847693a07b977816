"""The jobs that a pipeline means: which rungs are tried, with what, and what is refused beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import pytest
from conftest import DEMO_TARGETS, LADDER
from jsonschema import Draft202012Validator

from edgeq.errors import ConfigError
from edgeq.meters.host_clock import HostClock
from edgeq.pipeline import load
from edgeq.plan import Chosen, Job, makers, plan
from edgeq.recipes import DEFAULT_LADDER, RECIPES
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.runners.serial import Serial
from edgeq.runners.tflm import Tflm
from edgeq.schema import schema

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


@dataclass(frozen=True)
class Keeping:
    """A recipe that keeps layers, as far as a plan looks at one; a list of `keep` is a rung each."""

    expands: ClassVar = ("keep", "tried")
    precision: ClassVar = "int8"
    inputs: ClassVar = ("baseline", "calibration")
    keep: Annotated[int, msgspec.Meta(ge=1)] = 1
    tried: Literal["best", "first"] = "best"
    keep_as: Literal["", "either", "int16x8", "float32"] = ""

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, ("tflite", "keeping-int8"), Keeping)


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


ATTACHED = """\
description: a board
precisions: [int8]
backend: litert
runner: tflm
device: {name: serial, address: "", core: cortex-m4, memory: {}, uart: pl011, clock: 1MHz}
"""


def test_an_attached_device_takes_the_place_of_the_emulator(planned, tmp_path):
    (tmp_path / "targets/board").mkdir(parents=True)
    (tmp_path / "targets/board/target.yaml").write_text(ATTACHED, encoding="utf-8")
    [emulated] = planned(targets="board")
    [attached] = planned(Chosen(device="/dev/ttyACM0"), targets="board")
    assert isinstance(emulated.target.runner, Tflm)
    assert (type(attached.target.runner), attached.target.runner.address) == (Serial, "/dev/ttyACM0")


@pytest.mark.parametrize(("targets", "told"), [
    ("host", "target host is not run on an attached device"),
    ("host, tflm", "--device R58M is one device, and 2 targets are built"),
])
def test_a_device_is_for_a_target_that_knows_it(planned, targets, told):
    assert refused(planned, Chosen(device="R58M"), targets=targets) == told


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
    assert "the source is a tflite" in skipped(job)["static-int8"]


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


# One entry, several rungs


def options(job: Job) -> list[dict[str, object]]:
    return [rung.options for rung in job.rungs]


def test_a_list_is_a_rung_each_in_its_order(keeping, planned):
    [job] = planned(ladder="static-int8, {recipe: keeping-int8, keep: [4, 1, 2]}, float32")
    assert [rung.name for rung in job.rungs] == ["static-int8", *["keeping-int8"] * 3, "float32"]
    assert [rung.recipe.keep for rung in job.rungs[1:4]] == [4, 1, 2]
    assert options(job)[1:4] == [{"keep": 4}, {"keep": 1}, {"keep": 2}]


def test_each_rung_has_what_stands_beside_the_list(keeping, planned):
    [job] = planned(ladder="{recipe: keeping-int8, keep: [1, 2], keep_as: float32}")
    assert options(job) == [{"keep_as": "float32", "keep": 1}, {"keep_as": "float32", "keep": 2}]


def test_lists_of_two_fields_are_every_pair(keeping, planned):
    [job] = planned(ladder="{recipe: keeping-int8, tried: [first, best], keep: [1, 2]}")
    assert [(rung.recipe.keep, rung.recipe.tried) for rung in job.rungs] == [
        (1, "first"), (1, "best"), (2, "first"), (2, "best")]


def test_one_value_is_one_rung_and_so_is_a_list_of_one(keeping, planned):
    [job] = planned(ladder="{recipe: keeping-int8, keep: 2}, {recipe: keeping-int8, keep: [2]}")
    assert [rung.recipe for rung in job.rungs] == [Keeping(2, keep_as="either")] * 2


def test_a_ladder_of_a_targets_own_is_expanded_too(keeping, planned):
    [job] = planned(targets="{target: host, ladder: [{recipe: keeping-int8, keep: [1, 2]}]}")
    assert [rung.recipe.keep for rung in job.rungs] == [1, 2]


@pytest.mark.parametrize(("rung", "told"), [
    ("keep: []", "8: keep is empty: give a value, or one for each rung"),
    ("keep: [1, 2, 1]", "8: keep: 1 stands here twice"),
    ("keep: [1, two]", "8: ladder.0.keep.1: expected `int`, got `str`; found 'two'"),
    ("keep: [[1]]", "8: ladder.0.keep.0: expected `int`, got `array`; found [1]"),
    ("keep: [1, 0]", "8: ladder.0.keep.1: expected `int` >= 1; found 0"),
    ("keep: [1, null]", "8: ladder.0.keep.1: expected `int`, got `null`; found None"),
    ("keep: {a: 1}", "8: ladder.0.keep: expected `int`, got `object`; found {'a': 1}"),
    ("keep_as: [int16x8]", "8: ladder.0.keep_as: expected `str`, got `array`; found ['int16x8']"),
    ("keep: [1, 2], kep: 3", "8: unknown key 'kep'; did you mean 'keep'?"),
])
def test_a_mistake_in_a_list_is_told_where_it_is(keeping, planned, tmp_path, rung, told):
    said = refused(planned, ladder=f"{{recipe: keeping-int8, {rung}}}")
    assert said == f"{tmp_path / 'pipeline.yaml'}:{told}"


def test_a_mistake_in_a_list_of_several_lines_is_told_in_its_own(keeping, planned, tmp_path):
    block = "ladder:\n  - recipe: keeping-int8\n    keep:\n      - 1\n      - 1\n      - x"
    said = refused(planned, text=TEXT.replace("ladder: [LADDER]", block))
    file = tmp_path / "pipeline.yaml"
    assert said.splitlines() == [f"{file}:12: keep: 1 stands here twice",
                                 f"{file}:13: ladder.0.keep.2: expected `int`, got `str`; found 'x'"]


def test_mistakes_beside_an_empty_list_are_told_with_it(keeping, planned):
    said = refused(planned, ladder="{recipe: keeping-int8, keep: [], tried: never}")
    assert [line.partition(": ")[2] for line in said.splitlines()] == [
        "keep is empty: give a value, or one for each rung",
        "ladder.0.tried: expected one of best, first; found 'never'"]


def test_a_list_where_none_is_expanded_is_a_mistake(planned):
    assert "granularity: " in refused(planned, ladder="{recipe: static-int8, granularity: [per_tensor]}")


def test_the_schema_admits_the_lists_that_are_read(keeping):
    rungs = Draft202012Validator(schema()["properties"]["ladder"])
    for keep, admitted in ((1, True), ([1, 2], True), ([], False), ([1, 1], False), ([0], False),
                           (["x"], False), ("x", False)):
        assert rungs.is_valid([{"recipe": "keeping-int8", "keep": keep}]) is admitted, keep
    assert not rungs.is_valid([{"recipe": "keeping-int8", "keep_as": ["float32"]}])


# Layers that stay more precise


@pytest.mark.parametrize(("target", "kept"), [("host", "either"), ("ethos-u55-128", "int16x8")])
def test_layers_are_kept_in_what_the_target_takes(keeping, planned, target, kept):
    [job] = planned(targets=target, ladder="keeping-int8, {recipe: keeping-int8, keep_as: int16x8}")
    assert [(rung.recipe.keep_as, rung.skipped) for rung in job.rungs] == [(kept, ""), ("int16x8", "")]
    assert options(job) == [{}, {"keep_as": "int16x8"}]


@pytest.fixture
def board(tmp_path: Path) -> Callable[[str], None]:
    """A target `board` that takes these precisions."""
    def written(precisions: str) -> None:
        (tmp_path / "targets/board").mkdir(parents=True)
        (tmp_path / "targets/board/target.yaml").write_text(
            f"description: b\nprecisions: [{precisions}]\nbackend: litert\nrunner: host\n")

    return written


def test_layers_are_kept_in_float_where_there_is_no_int16(keeping, board, planned):
    board("float32, int8")
    [job] = planned(targets="board", ladder="keeping-int8")
    assert job.rungs[0].recipe == Keeping(keep_as="float32")


@pytest.mark.parametrize(("precisions", "keep_as", "told"), [
    ("int8", '""', "the target takes int8 alone: no layer can stay more precise"),
    ("int8, dynamic-int8", '""', "the target takes int8, dynamic-int8 alone: no layer can stay more precise"),
    ("int8", "int16x8", "the target takes int8, not int16x8"),
    ("int8, int16x8", "float32", "the target takes int8, int16x8, not float32"),
    ("int8, int16x8", "either", "the target takes int8, int16x8, not float32"),
    ("int8, float32", "either", "the target takes int8, float32, not int16x8"),
    ("float32", '""', "the target takes float32, not int8"),
    ("float16", '""', "the target takes float16, not int8"),
])
def test_what_the_target_cannot_keep_is_skipped(keeping, board, planned, precisions, keep_as, told):
    board(precisions)
    ladder = f"{{recipe: keeping-int8, keep_as: {keep_as}}}, {precisions.split(',')[0].strip()}"
    ladder = ladder.replace(", int8", ", static-int8")
    [job] = planned(targets="board", ladder=ladder)
    assert job.rungs[0].skipped == told


# The default ladder


WITHOUT = TEXT.replace("ladder: [LADDER]\n", "")


def test_a_ladder_that_is_left_out_is_the_default_one(monkeypatch, planned):
    monkeypatch.setitem(RECIPES, ("tflite", "selective-int8"), Keeping)
    [job] = planned(text=WITHOUT)
    known = [name for name, _ in DEFAULT_LADDER if ("tflite", name) in RECIPES]
    assert list(dict.fromkeys(rung.name for rung in job.rungs)) == known
    assert [rung.recipe.keep for rung in job.rungs if rung.name == "selective-int8"] == [1, 2, 4, 8]
    assert job.rungs[0].recipe == StaticInt8()


def test_the_default_ladder_holds_only_what_a_format_has(monkeypatch, planned):
    monkeypatch.setattr("edgeq.ladder.DEFAULT_LADDER", (("never-int8", {}), ("static-int8", {})))
    [job] = planned(text=WITHOUT)
    assert [rung.name for rung in job.rungs] == ["static-int8"]


def test_a_format_that_has_nothing_of_the_default_ladder_is_refused_in_words(monkeypatch, planned):
    monkeypatch.setattr("edgeq.ladder.DEFAULT_LADDER", (("never-int8", {}),))
    assert refused(planned, text=WITHOUT) == (
        "tiny/host: the target can take no rung of the ladder (there is none for tflite)")


def test_what_a_target_or_model_cannot_take_of_the_default_ladder_is_skipped(monkeypatch, planned):
    monkeypatch.setitem(RECIPES, ("tflite", "selective-int8"), Keeping)
    text = WITHOUT.replace("    calibration: {data: samples.npz}\n", "")
    jobs = planned(text=WITHOUT, targets="edgetpu")
    assert skipped(jobs[0])["selective-int8"].startswith("the target takes int8 alone")
    assert skipped(jobs[0])["static-int8"] == ""
    assert "static-int8: the model has no calibration data" in refused(planned, text=text)


def test_a_target_with_a_ladder_of_its_own_stands_beside_the_default_one(planned):
    host, tflm = planned(text=WITHOUT, targets="host, {target: tflm, ladder: [float32]}")
    assert host.rungs[0].name == "static-int8"
    assert [rung.name for rung in tflm.rungs] == ["float32"]


@pytest.mark.parametrize(("written", "told"), [
    ("ladder: []", "ladder is empty"),
    ("ladder:", "ladder: expected `array`, got `null`; found None"),
    ("ladder: static-int8", "ladder: expected `array`, got `str`; found 'static-int8'"),
])
def test_a_ladder_that_is_there_but_is_none_is_a_mistake(planned, tmp_path, written, told):
    said = refused(planned, text=TEXT.replace("ladder: [LADDER]", written))
    assert said == f"{tmp_path / 'pipeline.yaml'}:8: {told}"


def test_a_file_that_is_no_mapping_is_told_as_that(planned):
    assert "should be a mapping" in refused(planned, text="[1, 2]")


def test_the_default_ladder_and_the_recipes_are_in_one_order():
    default = [name for name, _ in DEFAULT_LADDER]
    listed = [name for model_format, name in RECIPES if model_format == "tflite" and name in default]
    assert listed == [name for name in default if name in listed]


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
    edit("pipeline.yaml", LADDER, "ladder: [float32, static-int8]")
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
    assert ended.stderr.count("no gate judges it") == DEMO_TARGETS.count(",") + 1
