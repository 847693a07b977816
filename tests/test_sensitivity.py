"""The sensitivity of layers: figures worked out by hand, what counts as a layer, and the command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import demo
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import MODEL
from graphs import Net, operator, tensor, written

from edgeq import probing
from edgeq.cli.__main__ import cli
from edgeq.errors import ConfigError
from edgeq.graph import Graph, Quantization, Tensor, parse, settled, values_of
from edgeq.judging.scoring import sqnr_db
from edgeq.probing import Question
from edgeq.ptq import quantizer
from edgeq.ptq.calibration import proposals
from edgeq.ptq.sensitivity import Row, Sensitivity, Table, layers, read, real, sensitivity, spread, write
from edgeq.quantization import Static

INT8 = Static(8, "per_tensor", {}, ("int8", "int8"))
CHANCE = np.random.default_rng(0)
SAMPLES = CHANCE.normal(size=(40, 3)).astype(np.float32)
FIRST, SECOND = CHANCE.normal(size=(4, 3)), CHANCE.normal(size=(2, 4))


def two_layers() -> bytes:
    """x -> FIRST x + 1 -> SECOND (...) - 1."""
    return written(
        [tensor("in", (1, 3)), tensor("middle", (1, 4)), tensor("out", (1, 2)),
         tensor("first", (4, 3), data=np.float32(FIRST)), tensor("one", (4,), data=np.ones(4, np.float32)),
         tensor("second", (2, 4), data=np.float32(SECOND)),
         tensor("minus", (2,), data=-np.ones(2, np.float32))],
        [operator("FULLY_CONNECTED", "in first one", "middle"),
         operator("FULLY_CONNECTED", "middle second minus", "out")])


def plainly(content: bytes, samples: np.ndarray, wanted: Static = INT8) -> bytes:
    """The integer model of `content`, with the ranges that `samples` have."""
    return quantizer.static(content, proposals(content, samples, ("minmax",))["minmax"], wanted)


def named(graph: Graph, name: str) -> Tensor:
    return next(each for each in graph.tensors if each.name == name)


@dataclass(frozen=True)
class ByHand:
    """The two layers over SAMPLES in plain numpy, each of their parts float or as the file has it."""

    graph: Graph

    def on_grid(self, values: np.ndarray, name: str) -> np.ndarray:
        grid = named(self.graph, name).quantization
        integers = np.clip(np.round(values / grid.scales[0]) + grid.zero_points[0], -128, 127)
        return (integers - grid.zero_points[0]) * grid.scales[0]

    def rounded(self, name: str) -> np.ndarray:
        constant = named(self.graph, name)
        return values_of(constant) * constant.quantization.scales[0]

    def outputs(self, *, first: bool, second: bool, grids: bool) -> np.ndarray:
        """With the `first` and `second` layer's weights rounded; `grids` are on all that flows."""
        def flows(values: np.ndarray, name: str, beside: bool) -> np.ndarray:
            return self.on_grid(values, name) if beside or grids else values

        w, b = (self.rounded("first"), self.rounded("one")) if first else (FIRST, 1)
        v, c = (self.rounded("second"), self.rounded("minus")) if second else (SECOND, -1)
        middle = flows(flows(SAMPLES, "in", first) @ w.T + b, "middle", True if grids else first or second)
        return flows(middle @ v.T + c, "out", second)


@pytest.fixture(scope="module")
def table() -> Table:
    return sensitivity(two_layers(), plainly(two_layers(), SAMPLES), SAMPLES, len(SAMPLES))


def test_the_figures_are_those_worked_out_by_hand(table):
    hand = ByHand(parse(plainly(two_layers(), SAMPLES), "x"))
    wanted = (SAMPLES @ FIRST.T + 1) @ SECOND.T - 1

    def figure(**parts: bool) -> float:
        return sqnr_db(hand.outputs(**parts)[:, None], wanted[:, None])

    found = {row.name: row for row in table.layers}
    told = [found["middle"].alone_quantized_db, found["out"].alone_quantized_db]
    assert told == pytest.approx([figure(first=True, second=False, grids=False),
                                  figure(first=False, second=True, grids=False)], abs=1e-2)
    told = [found["middle"].alone_not_db, found["out"].alone_not_db, table.all_quantized_db]
    assert told == pytest.approx([figure(first=False, second=True, grids=True),
                                  figure(first=True, second=False, grids=True),
                                  figure(first=True, second=True, grids=True)], abs=0.3)


def test_a_row_says_what_the_layer_is(table):
    found = {row.index: row for row in table.layers}
    assert (found[0].operator, found[0].shape, found[0].weight_bytes) == ("FULLY_CONNECTED", (1, 4), 12 + 16)
    assert (found[1].name, found[1].shape, found[1].weight_bytes) == ("out", (1, 2), 8 + 8)
    assert (table.samples, table.calibration_samples) == (40, 40)


def test_the_most_sensitive_layer_comes_first_and_of_equals_the_earlier(table):
    assert [row.alone_quantized_db for row in table.layers] == sorted(
        row.alone_quantized_db for row in table.layers)
    net = Net((1, 3))
    net.constant(np.float32(FIRST), "weights")
    one, other = (net.dense("in", "weights", np.zeros(4)) for _ in range(2))
    content = written([*net.tensors.values(), tensor("sum", (1, 4))],
                      [*net.operators, operator("ADD", f"{one} {other}", "sum")], outputs="sum")
    rows = sensitivity(content, plainly(content, SAMPLES), SAMPLES).layers
    figures = {row.index: row.alone_quantized_db for row in rows}
    assert figures[0] == figures[1]
    assert [row.index for row in rows if row.index < 2] == [0, 1]


def test_a_layer_that_one_grid_spoils_is_found_and_what_leaving_it_out_would_win():
    weights = np.array(FIRST)
    weights[0] *= 200  # one scale for all channels leaves nothing of the others
    net = Net((1, 3))
    middle = net.dense("in", weights, np.zeros(4))
    net.dense(middle, SECOND * [1 / 200, 1, 1, 1], np.zeros(2))
    content = net.file()
    worst, other = sensitivity(content, plainly(content, SAMPLES), SAMPLES).layers
    assert (worst.index, other.index) == (0, 1)
    per_channel = Static(8, "per_channel", {}, ("int8", "int8"))
    both = sensitivity(content, plainly(content, SAMPLES, per_channel), SAMPLES).layers
    assert worst.alone_quantized_db < min(row.alone_quantized_db for row in both)


def test_what_only_moves_values_is_no_layer():
    net = Net((1, 4, 4, 2))
    pooled = net.add("MAX_POOL_2D", net.conv("in", net.drawn(3, 3, 3, 2)), [1, 2, 2, 3], filterHeight=2,
                     filterWidth=2, strideH=2, strideW=2)
    net.dense(net.reshape(pooled, [1, 12]), net.drawn(5, 12))
    content, samples = net.file(), CHANCE.normal(size=(8, 4, 4, 2)).astype(np.float32)
    found = sensitivity(content, plainly(content, samples), samples).layers
    assert {row.index: row.operator for row in found} == {0: "CONV_2D", 3: "FULLY_CONNECTED"}


def test_layers_are_paired_across_the_borders_that_a_quantizer_adds():
    content, ends = settled(two_layers(), "x"), Static(8, "per_tensor", {}, ("float32", "uint8"))
    floats, integers = parse(content, "x"), plainly(content, SAMPLES, ends)
    found = layers(floats, parse(integers, "x"))
    assert [(ours.index, theirs.index) for ours, theirs in found] == [(0, 1), (1, 2)]
    assert {row.index for row in sensitivity(content, integers, SAMPLES).layers} == {0, 1}


def test_the_figure_of_a_layer_that_adds_no_noise_is_that_of_the_integer_model():
    """The output of SOFTMAX has one grid whoever computes it: leaving it out wins next to nothing."""
    net = Net((1, 6))
    hidden = net.dense("in", net.drawn(6, 6))
    net.add("SOFTMAX", hidden, [1, 6], beta=1.0)
    content, samples = net.file(), CHANCE.normal(size=(30, 6)).astype(np.float32)
    found = sensitivity(content, plainly(content, samples), samples)
    softmax = next(row for row in found.layers if row.operator == "SOFTMAX")
    assert softmax.alone_not_db == pytest.approx(found.all_quantized_db, abs=0.5)


@pytest.mark.parametrize(("count", "chosen"), [
    (1, [0]), (2, [0, 9]), (3, [0, 4, 9]), (4, [0, 3, 6, 9]), (10, [*range(10)]), (99, [*range(10)])])
def test_samples_are_spread_evenly(count, chosen):
    assert spread(np.arange(10), count).tolist() == chosen


def test_how_many_samples_judge_follows_from_the_model_unless_it_is_said():
    many = np.repeat(SAMPLES, 5, axis=0)
    quantized = plainly(two_layers(), SAMPLES)
    assert [sensitivity(two_layers(), quantized, many, count).samples for count in (None, 7)] == [32, 7]
    assert sensitivity(two_layers(), quantized, many[:2]).samples == 2


def test_the_integers_of_a_constant_stand_for_numbers_along_their_axis():
    grid = Quantization(np.array([0.5, 2.0], np.float32), np.array([0, 1]), 1)
    np.testing.assert_array_equal(real(np.array([[2, 3], [-4, 1]], np.int8), grid), [[1, 4], [-2, 0]])
    one = Quantization(np.array([0.5], np.float32), np.array([1]), 0)
    np.testing.assert_array_equal(real(np.array([1, 3], np.int8), one), [0, 1])


def test_a_table_comes_back_from_its_file(table, tmp_path):
    write(tmp_path / "details", table)
    assert read(tmp_path / "details") == table


@pytest.mark.parametrize(("name", "short"), [
    ("functional_1/net_1/stem_relu6_1/Relu6;functional_1/net_1/stem_norm_1/add", "stem_relu6_1/Relu6"),
    ("pool/Mean", "pool/Mean"), ("StatefulPartitionedCall:0", "StatefulPartitionedCall:0"), ("", "")])
def test_a_long_name_is_told_by_what_tells(name, short):
    row = Row(3, "MEAN", name, (1, 2), 0, 1.0, 2.0)
    assert (row.short, str(row)) == (short, f"3 MEAN ({short})")


# The command

Run = Callable[..., subprocess.CompletedProcess]
FASHION = "models/fashion/model.keras"


@pytest.fixture
def run(edgeq: Run) -> Run:
    def ran(*words: str | Path, **how: object) -> subprocess.CompletedProcess:
        done = edgeq("sensitivity", *words, **how)
        assert "Traceback" not in done.stdout + done.stderr
        assert "edgeq itself failed" not in done.stderr
        return done

    return ran


@pytest.fixture
def small(project: Path) -> Path:
    """A small float model as a project of its own: nothing in it takes long."""
    (project / "small.tflite").write_bytes(two_layers())
    np.savez(project / "calibration.npz", x=SAMPLES)
    np.savez(project / "evaluation.npz", x=SAMPLES[::-1])
    (project / "small.yaml").write_text("""
version: 1
models:
  small: {source: small.tflite, calibration: {data: calibration.npz}, evaluation: {data: evaluation.npz}}
targets: [host]
ladder: [{recipe: selective-int8, keep: 1}]
gates: [{metric: sqnr_db, min: 0}]
""")
    return project


def test_the_layers_of_the_demo_are_told_the_most_sensitive_first(run):
    done = run(FASHION, "--top", 5)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if " dB " in line and "│" in line]
    assert len(rows) == 5
    assert "DEPTHWISE_CONV_2D" in rows[0]
    assert "model.keras: 14 layers; with all of them quantized the output has" in done.stdout
    assert "by 32 of 500 calibration samples" in done.stdout
    again = run(FASHION, "--json")
    told = json.loads(again.stdout)
    assert (told["model"], told["granularity"], told["samples"]) == ("model.keras", "per_channel", 32)
    assert [str(row["index"]) for row in told["layers"][:5]] == [line.split("│")[2].strip() for line in rows]
    assert len(told["layers"]) == 14


def test_a_source_is_found_in_the_pipeline_by_the_file_that_it_is(run, small):
    by_pipeline = run("./models/../small.tflite", "--pipeline", "small.yaml", "--json")
    given = run("small.tflite", "--calibration", "calibration.npz", "--json")
    assert by_pipeline.returncode == given.returncode == 0
    assert json.loads(by_pipeline.stdout) == json.loads(given.stdout)


def test_so_many_samples_are_taken_and_all_of_them_judge(run, small):
    words = ("small.tflite", "--calibration", "calibration.npz", "--samples", 36, "--json")
    told = json.loads(run(*words).stdout)
    assert (told["samples"], told["calibration_samples"]) == (36, 36)


def test_a_second_look_and_other_evaluation_data_make_nothing_new(run, small, tmp_path):
    def looked() -> tuple[str, set[str]]:
        done = run("small.tflite", "--pipeline", "small.yaml", "--store", "own", "--json")
        assert done.returncode == 0, done.stderr
        return done.stdout, {place.name for place in (small / "own/objects").iterdir()}

    first = looked()
    np.savez(small / "evaluation.npz", x=np.zeros((5, 3), np.float32))
    assert looked() == first
    np.savez(small / "calibration.npz", x=2 * SAMPLES)
    assert looked()[1] > first[1]


@pytest.mark.parametrize(("asked", "told"), [
    ({"model": "none.keras"}, "there is no none.keras"),
    ({"model": "pipeline.yaml"}, "no frontend reads pipeline.yaml"),
    ({"model": "models"}, "no frontend reads models"),
    ({}, "there are no calibration samples: pipeline.yaml has no model with this source"),
    ({"pipeline": "none.yaml"}, "none.yaml: No such file"),
    ({"pipeline": "bare.yaml"}, "model 'small' of the pipeline has no calibration data"),
    ({"calibration": "none.npz"}, "there is no none.npz"),
    ({"calibration": "wide.npz"}, "x has the shape"),
    ({"model": "quantized.tflite", "calibration": "calibration.npz"}, "quantized.tflite is not a float"),
    ({"calibration": "calibration.npz", "samples": 41}, "41 samples were asked for, 40 are there"),
])
def test_a_mistake_is_told(small, monkeypatch, shared_store, asked, told):
    monkeypatch.chdir(small)
    bare = (small / "small.yaml").read_text().replace("calibration: {data: calibration.npz}, ", "")
    (small / "bare.yaml").write_text(bare.replace("{recipe: selective-int8, keep: 1}", "static-int8"))
    (small / "quantized.tflite").write_bytes(plainly(two_layers(), SAMPLES))
    np.savez(small / "wide.npz", x=np.zeros((4, 5), np.float32))
    usual = {"model": "small.tflite", "calibration": None, "pipeline": None, "samples": None}
    given = {name: Path(value) if isinstance(value, str) else value
             for name, value in (usual | asked).items()}
    with pytest.raises(ConfigError, match=re.escape(told)):
        probing.sensitivity(Question(**given, store=shared_store), "per_channel", lambda *_: None)


@pytest.mark.parametrize(("words", "told"), [
    (["--top", "0"], "--top"), (["--top", "many"], "--top"), (["--samples", "0"], "--samples"),
    (["--granularity", "per_layer"], "--granularity"), (["--storage", "x"], "--storage")])
def test_a_wrong_call_is_told_and_ends_with_2(words, told):
    done = CliRunner().invoke(cli, ["sensitivity", FASHION, *words])
    assert done.exit_code == 2
    assert told in done.output


def test_without_any_pipeline_both_ways_to_give_samples_are_told(run, project):
    (project / "pipeline.yaml").unlink()
    done = run(FASHION)
    assert done.returncode == 2
    assert "--calibration FILE.npz" in done.stderr
    assert "--pipeline FILE" in done.stderr


def test_a_model_that_cannot_be_quantized_is_refused_with_1(run, small):
    (small / "logarithm.tflite").write_bytes(written(
        [tensor("in", (1, 3)), tensor("out", (1, 3))], [operator("LOG", "in", "out")]))
    done = run("logarithm.tflite", "--calibration", "calibration.npz")
    assert done.returncode == 1
    assert "gives NaN or infinity" in done.stderr


def test_the_maker_sees_the_baseline_and_calibration_samples_alone(store, baseline):
    found = store.make(Sensitivity("per_tensor", 8).look, demo.baseline(store),
                       demo.samples(store, "calibration", 100))
    told = read(store.path(found))
    assert (told.samples, told.calibration_samples, len(told.layers)) == (8, 100, 14)
    worst = told.layers[0]
    assert (worst.operator, worst.alone_not_db > told.all_quantized_db + 6) == ("DEPTHWISE_CONV_2D", True)


def test_a_broken_pipeline_is_left_alone_where_samples_are_given(run, project):
    shutil.copy(MODEL / "calibration.npz", project / "samples.npz")
    (project / "pipeline.yaml").write_text("broken: [")
    done = run(FASHION, "--calibration", "samples.npz", "--top", 1)
    assert done.returncode == 0, done.stderr
