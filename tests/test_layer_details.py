"""What each layer loses, costs and where it runs: on paper-sized graphs, on the demo, and as delivered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import demo
import numpy as np
import pytest
from conftest import ROOT
from graphs import operator, tensor, written

from edgeq import layers
from edgeq.artifact import Artifact
from edgeq.backends.vela import Vela, placed
from edgeq.errors import ConfigError, NotMade, Refused, ToolError
from edgeq.firmware.arena import Buffer, Plan, as_json
from edgeq.ptq import layer_errors as losses
from edgeq.ptq.exported_errors import ExportedLayerErrors
from edgeq.ptq.layer_errors import Errors, LayerErrors, Row, errors_in
from edgeq.recipes.equalized_int8 import EqualizedInt8
from edgeq.recipes.exported_static_int8 import ExportedStaticInt8
from edgeq.recipes.float32 import Float32
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.report import Climbed, Result
from edgeq.target import find
from tests import exported_nets

MOST = 144.494  # dB, of float32
EMULATED = {"steps": [
    {"operator": 0, "name": "CONV_2D", "kernel": "dsp", "instructions": 100.0},
    {"operator": 1, "name": "SOFTMAX", "kernel": "portable", "instructions": 7.0},
    {"operator": 1, "name": "SOFTMAX", "kernel": "portable", "instructions": 5.0}]}
STATED = {"source": "simulated", "operators": [
    {"operator": 0, "placed": "npu", "cycles": 40}, {"operator": 1, "placed": "cpu", "cycles": None}]}
LINTED = {"operators": [{"index": 0, "mapped": True, "reason": ""},
                        {"index": 1, "mapped": False, "reason": "no SOFTMAX that large"}]}
ROWS = (Row(0, "CONV_2D", "a", (1, 4), 16, 20, 30.5, 41.0), Row(1, "SOFTMAX", "b", (1, 4), 0, 0, 28.0))
DATABASE = """<debug source="m"><table name="perf">
<![CDATA[
"id","source_id","optimised_id","operator","name","staging_usage","op_cycles"
10,1,5,"Conv2D","a, with a comma",8,40
11,1,6,"Relu","a",0,2
12,2,7,"Softmax","b",8,9
]]>
</table><table name="queue">
<![CDATA[
"offset","cmdstream_id","optimised_id","scheduled_id"
3,1,5,10
]]>
</table><table name="group">
<![CDATA[
"id","group_id"
11,1
]]>
</table><table name="source">
<![CDATA[
"id","operator","ext_key"
1,"Conv2D",0
2,"Softmax",2
3,"Reshape",1
]]>
</table></debug>"""


def relu(folder: Path, name: str, dtype: str = "FLOAT32", scale: float | None = None) -> Path:
    """A folder with a model of one RELU over four values."""
    folder.mkdir(exist_ok=True)
    ends = [tensor(end, (1, 4), dtype, scale=scale) for end in ("in", "out")]
    (folder / name).write_bytes(written(ends, [operator("RELU", "in", "out")]))
    return folder


def of_samples(folder: Path, *rows: list[float]) -> Path:
    folder.mkdir()
    np.save(folder / "x.npy", np.array(rows, np.float32))
    return folder


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """Where errors go, a model on a grid of halves, its float one, and samples."""
    (tmp_path / "out").mkdir()
    return (tmp_path / "out", relu(tmp_path / "quantized", "model.tflite", "INT8", 0.5),
            relu(tmp_path / "baseline", "baseline.tflite"), of_samples(tmp_path / "x", [0.2, 1, -1, 3]))


def measured(store, recipe, maker=None, form: str = "tflite") -> Errors:
    """The errors of the demo's layers as `recipe` quantizes it."""
    maker = maker or LayerErrors()
    given = (demo.quantized(store, recipe), demo.baseline(store, form),
             demo.samples(store, "calibration", 100, form=form))
    return errors_in(store.path(store.make(maker.measure, *given)))


def test_an_error_is_that_of_the_output_over_all_samples(places) -> None:
    out, *given = places
    LayerErrors().measure(out, *given)
    errors = errors_in(out)
    assert errors.samples == 1
    # 0.2 becomes 0: 10 log10((0.04 + 1 + 9) / 0.04)
    assert errors.layers[0].sqnr_db == round(10 * np.log10(10.04 / 0.04), 3)
    row = errors.layers[0]
    assert (row.operator, row.name, row.shape) == ("RELU", "out", (1, 4))
    assert [file.name for file in out.iterdir()] == ["errors.json"]


@pytest.mark.parametrize(("maker", "with_samples", "reason"), [
    (LayerErrors(trained=True), True, losses.TRAINED), (LayerErrors(), False, losses.NO_SAMPLES)])
def test_with_nothing_to_compare_there_is_a_reason(places, maker, with_samples, reason) -> None:
    out, quantized, baseline, samples = places
    maker.measure(out, quantized, baseline, samples if with_samples else None)
    errors = errors_in(out)
    assert errors.samples == 0
    row = errors.layers[0]
    assert (row.sqnr_db, row.alone_quantized_db, row.reason, row.macs) == (None, None, reason, 0)


def test_an_operator_that_the_float_model_does_not_have_is_not_compared(places, tmp_path) -> None:
    out, quantized, _, samples = places
    ends = [tensor(end, (1, 4)) for end in ("in", "middle", "out")]
    other = tmp_path / "other"
    other.mkdir()
    (other / "baseline.tflite").write_bytes(written(
        ends, [operator("RELU", "in", "middle"), operator("TANH", "middle", "out")]))
    LayerErrors().measure(out, quantized, other, samples)
    row = errors_in(out).layers[0]
    assert row.sqnr_db is None
    assert row.reason == "the float model has no RELU that writes the same"


def test_operators_of_another_order_are_found_by_what_they_write(places, tmp_path) -> None:
    out, quantized, _, samples = places
    ends = [tensor(end, (1, 4)) for end in ("in", "middle", "out")]
    other = tmp_path / "other"
    other.mkdir()
    (other / "baseline.tflite").write_bytes(written(
        ends, [operator("TANH", "in", "middle"), operator("RELU", "middle", "out")]))
    LayerErrors().measure(out, quantized, other, samples)
    row = errors_in(out).layers[0]
    assert row.sqnr_db is not None
    assert (row.alone_quantized_db, row.reason) == (None, losses.REORDERED)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_no_figure(places, tmp_path) -> None:
    out, quantized, baseline, _ = places
    LayerErrors().measure(out, quantized, baseline, of_samples(tmp_path / "odd", [np.nan, 1, 2, 3]))
    row = errors_in(out).layers[0]
    assert row.sqnr_db is None
    assert "NaN" in (row.reason or "")


def test_the_demo_has_an_error_and_a_sensitivity_for_each_layer(store) -> None:
    errors = measured(store, StaticInt8())
    assert errors.samples == 32
    assert len(errors.layers) == 14
    assert all(row.sqnr_db > 20 and row.alone_quantized_db > 20 and not row.reason for row in errors.layers)
    assert sum(row.macs for row in errors.layers) == 922336
    assert errors.layers[12].weight_bytes == 1280 + 4 * 10
    assert errors.layers[11].weight_bytes == 0  # the axes of a MEAN are no weights


def test_the_layer_that_one_scale_ruins_is_seen(store) -> None:
    fine, coarse = (measured(store, StaticInt8(granularity=each)).layers
                    for each in ("per_channel", "per_tensor"))
    worst = min(coarse, key=lambda row: row.alone_quantized_db)
    assert worst.operator == "DEPTHWISE_CONV_2D"
    assert worst.alone_quantized_db < fine[worst.index].alone_quantized_db - 10
    assert worst.sqnr_db < coarse[worst.index - 1].sqnr_db - 10


def test_an_equalized_model_is_compared_with_the_equalized_float_model(store, tmp_path) -> None:
    recipe = EqualizedInt8(range="minmax", granularity="per_tensor")
    errors = measured(store, recipe)
    assert all(row.sqnr_db > 15 for row in errors.layers)
    quantized = store.path(demo.quantized(store, recipe))
    (tmp_path / "quantized").mkdir()
    (tmp_path / "quantized/model.tflite").write_bytes((quantized / "model.tflite").read_bytes())
    LayerErrors().measure(tmp_path, tmp_path / "quantized", store.path(demo.baseline(store)),
                          store.path(demo.samples(store, "calibration", 100)))
    assert min(row.sqnr_db for row in errors_in(tmp_path).layers) < 10  # channels have other scales there


def test_a_float_model_loses_nothing(store) -> None:
    errors = measured(store, Float32())
    assert {(row.sqnr_db, row.alone_quantized_db, row.reason) for row in errors.layers} == {
        (MOST, None, losses.IN_FLOAT)}


@pytest.fixture(scope="session")
def net(tmp_path_factory) -> tuple[Path, Path, Path]:
    """A small exported program with a normalization behind a layer, quantized; that; and samples."""
    folder = exported_nets.write(tmp_path_factory.mktemp("net"), exported_nets.network(), (1, 1, 8, 8))
    exported_nets.samples(folder / "calibration", (96, 1, 8, 8))
    out = tmp_path_factory.mktemp("quantized")
    ExportedStaticInt8(range="min-max").quantize(out, folder, folder / "calibration")
    return out, folder, folder / "calibration"


def test_an_exported_program_is_told_operator_by_operator(net, tmp_path) -> None:
    ExportedLayerErrors().measure(tmp_path, *net)
    rows = errors_in(tmp_path).layers
    assert [row.operator for row in rows] == ["conv2d", "relu6", "conv2d", "relu", "max_pool2d", "linear"]
    assert [row.macs for row in rows] == [4608, 0, 4608, 0, 0, 512]
    assert [row.weight_bytes for row in rows] == [8 * 9 + 4 * 8, 0, 8 * 9 + 4 * 8, 0, 0, 512 + 4 * 4]
    assert all(20 < row.sqnr_db < 60 for row in rows)


@pytest.mark.parametrize(("maker", "with_samples", "reason"), [
    (ExportedLayerErrors(trained=True), True, losses.TRAINED),
    (ExportedLayerErrors(), False, losses.NO_SAMPLES)])
def test_an_exported_program_has_reasons_too(net, tmp_path, maker, with_samples, reason) -> None:
    quantized, baseline, samples = net
    maker.measure(tmp_path, quantized, baseline, samples if with_samples else None)
    assert {(row.sqnr_db, row.reason) for row in errors_in(tmp_path).layers} == {(None, reason)}


def folders(tmp_path: Path, **files: dict) -> dict[str, Path]:
    """What a rung made, with these JSON files in it."""
    made = {name: tmp_path / name for name in ("layers", "program", "outputs")}
    for folder in made.values():
        (folder / "details").mkdir(parents=True)
    losses.write(made["layers"], Errors(32, ROWS))
    where = {"emulation": made["outputs"] / "details/emulation.json",
             "vela": made["program"] / "details/vela.json", "lint": made["program"] / "lint.json"}
    for name, content in files.items():
        where[name].write_text(json.dumps(content))
    return made


@pytest.mark.parametrize(("files", "cost", "costs", "placed", "kernels"), [
    ({}, ("macs", "estimated"), [16, 0], [None, None], [None, None]),
    ({"emulation": EMULATED}, ("instructions", "simulated"), [100, 12], [None, None], ["dsp", "portable"]),
    ({"emulation": {"inference": {"instructions": 5}}}, ("macs", "estimated"), [16, 0], [None, None],
     [None, None]),
    ({"vela": STATED}, ("cycles", "simulated"), [40, None], ["npu", "cpu"], [None, None]),
    ({"lint": LINTED}, ("macs", "estimated"), [16, 0], ["npu", "cpu"], [None, None]),
])
def test_a_cost_and_a_place_come_from_who_stated_them(tmp_path, files, cost, costs, placed, kernels) -> None:
    told = layers.described(folders(tmp_path, **files))
    assert told["schema"] == "edgeq-layers/1"
    assert told["samples"] == 32
    assert (told["cost"]["metric"], told["cost"]["source"]) == cost
    assert [layer["cost"] for layer in told["layers"]] == costs
    assert [layer["placed"] for layer in told["layers"]] == placed
    assert [layer["kernel"] for layer in told["layers"]] == kernels
    assert [layer["sqnr_db"] for layer in told["layers"]] == [30.5, 28.0]


def test_what_a_linter_says_is_an_estimate_with_its_reason(tmp_path) -> None:
    told = layers.described(folders(tmp_path, lint=LINTED))
    assert told["placement"] == {"source": "estimated"}
    assert [layer["reason"] for layer in told["layers"]] == [None, "no SOFTMAX that large"]


def test_velas_steps_go_to_the_operators_that_they_came_from() -> None:
    assert placed(DATABASE) == [
        {"operator": 0, "placed": "npu", "cycles": 42}, {"operator": 2, "placed": "cpu", "cycles": None},
        {"operator": 1, "placed": None, "cycles": None}]


@pytest.mark.parametrize("database", ["", DATABASE[:300], DATABASE.replace("op_cycles", "cycles")])
def test_a_database_of_another_form_is_not_read(database) -> None:
    with pytest.raises((KeyError, ValueError)):
        placed(database)


def test_velas_cycles_by_operator_are_all_of_its_cycles(store) -> None:
    backend = find(ROOT, "ethos-u55-128").backend
    assert isinstance(backend, Vela)
    program = store.path(store.make(backend.compile, demo.quantized(store)))
    told = json.loads((program / "details/vela.json").read_text())
    costs = json.loads((program / "costs.json").read_text())
    assert [each["operator"] for each in told["operators"]] == [*range(14)]
    assert sum(each["cycles"] for each in told["operators"]) == costs["cycles"]["value"]
    assert {each["placed"] for each in told["operators"]} == {"npu"}


def test_an_arena_is_told_as_it_is_planned() -> None:
    buffers = Buffer("input", 16, 0, 0), Buffer("output of 0 RELU", 8, 0, 1, slack=4)
    plan = Plan(buffers, (8, 0), {}, {}, 24, 24)
    assert as_json(plan, 2) == {
        "schema": "edgeq-arena/1", "arena_bytes": 24, "steps": 2, "buffers": [
            {"name": "input", "offset": 8, "bytes": 16, "first": 0, "last": 0},
            {"name": "output of 0 RELU", "offset": 0, "bytes": 8, "first": 0, "last": 1}]}


def test_firmware_tells_of_its_arena(store) -> None:
    backend = find(ROOT, "cortex-m4").backend
    program = store.path(store.make(backend.compile, demo.quantized(store)))
    told = json.loads((program / "details/arena.json").read_text())
    assert told["arena_bytes"] == json.loads((program / "costs.json").read_text())["arena_bytes"]["value"]
    assert told["steps"] == 14
    held = told["buffers"]
    for place, one in enumerate(held):
        assert one["offset"] + one["bytes"] <= told["arena_bytes"]
        for other in held[place + 1:]:
            apart = (one["offset"] + one["bytes"] <= other["offset"]
                     or other["offset"] + other["bytes"] <= one["offset"])
            assert apart or one["last"] < other["first"] or other["last"] < one["first"]


class Fixed:
    """A store that has one answer."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def make(self, action, *_):
        self.action = action
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def finished(project, monkeypatch):
    """A result with one rung that passed, and its job."""
    from edgeq.pipeline import load
    from edgeq.plan import Chosen, plan

    monkeypatch.chdir(project)
    job = plan(load(project / "pipeline.yaml"), Chosen(("host",)))[0]
    made = {name: Artifact(name, name) for name in ("baseline", "calibration", "quantized", "program")}
    rung = Climbed(job.rungs[0].name, job.rungs[0].options, "passed", made=made)
    return Result("fashion", "host", "top1", (rung,)), job


@pytest.mark.parametrize("error", [
    Refused("LiteRT has no kernel", ""), ToolError("its worker was killed by SIGSEGV"),
    ConfigError("damaged")])
def test_layers_that_cannot_be_told_apart_are_no_failure(finished, error) -> None:
    result = layers.profiled(*finished, Fixed(error))
    assert result.passed
    assert result.rungs[0].notes == (f"its layers are not told apart: {error.message}",)
    assert layers.LOSSES not in result.rungs[0].made


def test_a_frozen_store_without_them_is_an_error(finished) -> None:
    result = layers.profiled(*finished, Fixed(NotMade("LayerErrors.measure is not in the store")))
    assert isinstance(result.error, NotMade)
    assert not result.passed


def test_the_best_rung_has_its_errors_among_what_it_made(finished) -> None:
    store = Fixed(Artifact("d", "d"))
    result = layers.profiled(*finished, store)
    assert result.rungs[0].made["layers"] == Artifact("d", "d")
    assert store.action.__self__ == LayerErrors(trained=False)


def test_a_model_that_was_trained_on_is_told_so(finished) -> None:
    result, job = finished
    rung = replace(job.rungs[0], recipe=replace_inputs(job.rungs[0].recipe))
    store = Fixed(Artifact("d", "d"))
    layers.profiled(result, replace(job, rungs=(rung,)), store)
    assert store.action.__self__ == LayerErrors(trained=True)


def replace_inputs(recipe):
    """`recipe` as one that trains."""
    class Training(type(recipe)):
        inputs = ("source", "training")

    return Training()


def test_a_build_delivers_them_the_same_every_time(edgeq, project) -> None:
    assert edgeq("build", "--target", "host", "--history", "none").returncode == 0
    place = project / "build/host/fashion/details/layers.json"
    first = place.read_bytes()
    told = json.loads(first)
    assert len(told["layers"]) == 14
    assert all(layer["sqnr_db"] and layer["alone_quantized_db"] for layer in told["layers"])
    report = json.loads((project / "build/report.json").read_text())
    paths = [each["path"] for each in report["results"][0]["artifacts"]]
    assert "host/fashion/details/layers.json" in paths
    assert edgeq("build", "--target", "host", "--history", "none", "--frozen").returncode == 0
    assert place.read_bytes() == first
