"""Layers that stay more precise: which, in what, that it is they and no others, and what it wins."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import demo
import numpy as np
import pytest
from graphs import Net, operator, tensor, written

from edgeq.baseline import write_baseline
from edgeq.errors import Refused
from edgeq.graph import Graph, not_integer, parse, read, settled
from edgeq.interpret import run_litert, run_tflm
from edgeq.judging.scoring import sqnr_db
from edgeq.pipeline import load
from edgeq.plan import Chosen, plan
from edgeq.ptq.keeping import able_to, between, ranges_in, with_constants_of, with_movers
from edgeq.ptq.quantizer import can_keep, static
from edgeq.ptq.sensitivity import FILE
from edgeq.quantization import Static, notes_in
from edgeq.recipes.selective_int8 import SelectiveInt8, compared
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.samples import samples_in
from edgeq.store import Store

INT8 = Static(8, "per_channel", {}, ("int8", "int8"))
BORDER = {"QUANTIZE", "DEQUANTIZE"}
KINDS = {"int16x8": "INT16", "float32": "FLOAT32"}


def chain(*names: str, shared: bool = False) -> bytes:
    """Dense layers one after the other, by the names of what they write, perhaps of the same weights."""
    chance = np.random.default_rng(1)
    tensors, operators, source = [tensor("in", (1, 8))], [], "in"
    for place, name in enumerate(names):
        weights = "weights" if shared else f"weights{place}"
        if not (shared and place):
            tensors.append(tensor(weights, (8, 8), data=chance.normal(size=(8, 8)).astype(np.float32)))
        bias = chance.normal(size=8).astype(np.float32)
        tensors += [tensor(f"bias{place}", (8,), data=bias), tensor(name, (1, 8))]
        operators.append(operator("FULLY_CONNECTED", f"{source} {weights} bias{place}", name))
        source = name
    return settled(written(tensors, operators, outputs=source), "x")


RANGES = dict.fromkeys(("in", "p", "q", "r", "s"), (-9.0, 9.0))
CHAIN = chain("p", "q", "r", "s")


def kinds(graph: Graph) -> dict[str, str]:
    """What each operator computes in, by the name of what it writes; borders left out."""
    return {graph.outputs_of(each)[0].name: graph.tensors[each.inputs[0]].dtype
            for each in graph.operators if each.name not in BORDER}


def crossings(graph: Graph) -> int:
    return sum(each.name in BORDER for each in graph.operators)


# What the library is asked for


@pytest.mark.parametrize("kept_as", KINDS)
@pytest.mark.parametrize("names", [
    ("a", "a;", "a;b", "ab"), ("a.*", "[a]", "(a|b", "a$"), ("a\\d", "a+", "^a", "ü;é"),
    ("x", "x/y", "x/y/z", "xx"), ("n" * 12_000, "m" * 12_000, "n", "m"),
])
def test_the_operators_named_are_kept_and_no_others(names, kept_as):
    ranges = dict.fromkeys(("in", *names), (-9.0, 9.0))
    for place, name in enumerate(names):
        wanted = replace(INT8, kept=frozenset({name}), kept_as=kept_as)
        graph = parse(static(chain(*names), ranges, wanted), "x")
        assert [*kinds(graph).values()] == [KINDS[kept_as] if i == place else "INT8" for i in range(4)]
        assert crossings(graph) == 2
        assert [graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)] == ["INT8", "INT8"]
        assert list(not_integer(graph, "INT8", ("INT8", "INT8"), {name: KINDS[kept_as]})) == []


@pytest.mark.parametrize("kept_as", KINDS)
def test_between_two_kept_ones_there_is_no_border(kept_as):
    wanted = replace(INT8, kept=frozenset({"q", "r"}), kept_as=kept_as)
    graph = parse(static(CHAIN, RANGES, wanted), "x")
    assert kinds(graph) == {"p": "INT8", "q": KINDS[kept_as], "r": KINDS[kept_as], "s": "INT8"}
    assert crossings(graph) == 2


@pytest.mark.parametrize("kept_as", KINDS)
def test_one_of_two_layers_with_the_same_weights_may_be_kept(kept_as):
    wanted = replace(INT8, kept=frozenset({"q"}), kept_as=kept_as)
    graph = parse(static(chain("p", "q", "r", "s", shared=True), RANGES, wanted), "x")
    assert kinds(graph) == {"p": "INT8", "q": KINDS[kept_as], "r": "INT8", "s": "INT8"}


def test_a_granularity_of_its_own_holds_for_a_kept_operator_too():
    wanted = replace(INT8, kept=frozenset({"q"}), kept_as="int16x8",
                     by_operator={"FULLY_CONNECTED": "per_tensor"})
    graph = parse(static(CHAIN, RANGES, wanted), "x")
    scales = {graph.tensors[each.inputs[1]].quantization.scales.size for each in graph.operators
              if each.name == "FULLY_CONNECTED"}
    assert scales == {1}


def test_the_library_keeps_fewer_operators_in_16_bits_than_in_float():
    assert [can_keep(name, "float32") for name in ("HARD_SWISH", "CONV_2D", "PRELU")] == [True] * 3
    assert [can_keep(name, "int16x8") for name in ("HARD_SWISH", "CONV_2D", "TRANSPOSE_CONV", "PRELU")] == [
        False, True, True, False]


# That it is they and no others


def test_a_kept_operator_that_is_not_and_one_that_is_kept_unasked_are_named():
    made = parse(static(CHAIN, RANGES, replace(INT8, kept=frozenset({"q"}))), "x")

    def complaints(**kept: str) -> list[str]:
        return list(not_integer(made, "INT8", ("INT8", "INT8"), kept))

    assert complaints(q="FLOAT32") == []
    assert len(complaints()) == 6  # the layer's four tensors, and its two borders
    assert any("FULLY_CONNECTED has 'q' in FLOAT32" in each for each in complaints())
    assert any("FULLY_CONNECTED has 'r' in INT8" in each for each in complaints(q="FLOAT32", r="FLOAT32"))
    assert any("FULLY_CONNECTED has 'q' in FLOAT32" in each for each in complaints(q="INT16"))


# Graphs


def pooled() -> Net:
    """conv value0 -> pool value1 -> reshape value2 -> dense value3 -> dense value4, and ADD of both."""
    net = Net((1, 4, 4, 2))
    pool = net.add("MAX_POOL_2D", net.conv("in", net.drawn(3, 3, 3, 2)), [1, 2, 2, 3], filterHeight=2,
                   filterWidth=2, strideH=2, strideW=2)
    hidden = net.dense(net.reshape(pool, [1, 12]), net.drawn(12, 12))
    net.add("ADD", f"{net.dense(hidden, net.drawn(12, 12))} {hidden}", [1, 12])
    return net


@pytest.mark.parametrize(("kept", "found"), [
    ({0}, {0}), ({3}, {3}), ({0, 3}, {0, 1, 2, 3}), ({3, 5}, {3, 5}), ({0, 3, 5}, {0, 1, 2, 3, 5})])
def test_what_moves_values_from_kept_to_kept_is_kept_with_them(kept, found):
    assert with_movers(parse(pooled().file(), "x"), kept) == found


def test_what_moves_values_to_others_as_well_stays_as_it_is():
    net = Net((1, 4, 4, 2))
    moved = net.reshape(net.conv("in", net.drawn(3, 3, 3, 2)), [1, 48])
    one, other = net.dense(moved, net.drawn(4, 48)), net.dense(moved, net.drawn(4, 48))
    net.add("ADD", f"{one} {other}", [1, 4])
    graph = parse(net.file(), "x")
    assert with_movers(graph, {0, 2}) == {0, 2}
    assert with_movers(graph, {0, 2, 3}) == {0, 1, 2, 3}
    net.reshape(f"value{len(net.operators) - 1}", [4, 1])
    assert with_movers(parse(net.file(), "x"), {4}) == {4}  # the caller reads what it moves


def test_between_kept_ones_lies_what_no_other_reads():
    graph = parse(pooled().file(), "x")
    assert [*between(graph, {0, 1, 2, 3})] == ["value0", "value1", "value2"]
    assert [*between(graph, {3, 4, 5})] == ["value3", "value4"]  # and the last is the caller's
    assert [*between(graph, {3, 5})] == []


@pytest.mark.parametrize(("ends", "able"), [
    (("int8", "int8"), {0, 1, 2, 3}), (("uint8", "int8"), {1, 2, 3}), (("float32", "uint8"), {0, 1, 2})])
def test_no_layer_at_an_end_in_uint8_can_be_kept(ends, able):
    assert able_to(parse(CHAIN, "x"), ends, "float32") == able


@pytest.mark.parametrize("ends", [("int8", "int8"), ("uint8", "float32"), ("float32", "uint8")])
def test_the_ranges_of_a_model_make_the_same_grids_again(ends):
    ranges = {name: (-low, 7.3) for low, name in enumerate(RANGES)}
    found = ranges_in(parse(static(CHAIN, ranges, replace(INT8, ends=ends)), "x"))
    again = ranges_in(parse(static(CHAIN, {name: found[name] for name in RANGES}, INT8), "x"))
    for name, (low, high) in ranges.items():
        assert found[name] == pytest.approx((low, high), abs=0.06)
        assert again[name] == pytest.approx(found[name], rel=1e-5)


def test_the_constants_of_all_but_the_kept_are_those_of_the_plain_model():
    plain = static(CHAIN, dict.fromkeys(RANGES, (-2.0, 2.0)), INT8)
    other = static(CHAIN, RANGES, replace(INT8, kept=frozenset({"q"}), kept_as="int16x8"))
    made, ours, theirs = (parse(each, "x") for each in (with_constants_of(plain, other, {"q"}), plain, other))
    for place, name in enumerate(("p", "q", "r", "s")):
        bias = next(each.index for each in ours.tensors if each.name == f"bias{place}")
        source = theirs if name == "q" else ours
        np.testing.assert_array_equal(made.tensors[bias].data, source.tensors[bias].data)
        assert made.tensors[bias].quantization.scales.tolist() == source.tensors[
            bias].quantization.scales.tolist()


@pytest.mark.parametrize(("loss", "plain", "said"), [
    (1.0, 100.0, "comes 20.0 dB closer"), (1.0, 1.01, "comes no closer"), (2.0, 1.0, "comes no closer"),
    (0.0, 0.0, "comes no closer"), (0.0, 1.0, "dB closer")])
def test_what_is_won_is_told(loss, plain, said):
    assert said in compared(loss, plain)


# The recipe


Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Quantize a graph by the recipe; the folder that it leaves."""
    def by(content: bytes, samples: np.ndarray, **options: object) -> Path:
        out = Path(tempfile.mkdtemp(dir=tmp_path))
        for name in ("baseline", "calibration"):
            (tmp_path / name).mkdir(exist_ok=True)
        write_baseline(tmp_path / "baseline", content, "by hand")
        np.save(tmp_path / "calibration/x.npy", samples)
        SelectiveInt8(**options).quantize(out, tmp_path / "baseline", tmp_path / "calibration")
        return out

    return by


SAMPLES = np.random.default_rng(2).normal(size=(24, 8)).astype(np.float32)


@pytest.mark.parametrize("kept_as", KINDS)
def test_the_table_and_what_is_kept_are_told(made, kept_as):
    out = made(CHAIN, SAMPLES, keep=2, keep_as=kept_as, range="minmax")
    table = json.loads((out / "details" / FILE).read_text())
    first = [row["name"] for row in table["layers"][:2]]
    found = kinds(read(out / "model.tflite"))
    assert {name for name, kind in found.items() if kind == KINDS[kept_as]} == {*first}
    assert len(table["layers"]) == 4
    notes = notes_in(out)
    assert f"kept as {kept_as}: " + ", ".join(
        f"{row['index']} FULLY_CONNECTED ({row['name']})" for row in table["layers"][:2]) in notes
    assert any("closer to the float scores" in each for each in notes)


@pytest.mark.parametrize("keep", [4, 8])
def test_to_keep_all_is_refused(made, keep):
    with pytest.raises(Refused, match=f"keep: {keep} leaves no layer in int8: the model has 4"):
        made(CHAIN, SAMPLES, keep=keep, range="minmax")


def test_layers_that_cannot_be_kept_are_passed_over(made):
    net = Net((1, 8))
    first = net.dense("in", net.drawn(8, 8) * 3)
    net.dense(net.add("HARD_SWISH", first, [1, 8]), net.drawn(8, 8))
    out = made(net.file(), SAMPLES, keep=2, keep_as="int16x8", range="minmax")
    assert [*kinds(read(out / "model.tflite")).values()] == ["INT16", "INT8", "INT16"]
    with pytest.raises(Refused, match="2 is too many: 1 of 3 layers can stay in int16x8"):
        made(net.file(), SAMPLES, keep=2, keep_as="int16x8", inference_output_type="uint8", range="minmax")


@pytest.mark.parametrize("kept_as", KINDS)
@pytest.mark.parametrize(("taken", "given"), [
    ("float32", "float32"), ("uint8", "uint8"), ("int8", "float32")])
def test_the_ends_are_as_asked_for_and_both_interpreters_run_it(made, kept_as, taken, given):
    out = made(CHAIN, SAMPLES, keep=2, keep_as=kept_as, range="minmax", inference_input_type=taken,
               inference_output_type=given)
    graph = read(out / "model.tflite")
    assert [graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)] == [taken.upper(), given.upper()]
    expected = run_litert(out.parent / "baseline/baseline.tflite", SAMPLES, "reference")
    outputs = run_litert(out / "model.tflite", SAMPLES, "reference")
    assert sqnr_db(outputs, expected) > 30
    np.testing.assert_allclose(run_tflm(out / "model.tflite", SAMPLES)[0], outputs,
                               atol=0.01 * np.abs(expected).max())


def test_the_grid_of_a_kept_softmax_stays_what_it_is_in_integers(made):
    net = Net((1, 8))
    hidden = net.dense("in", net.drawn(8, 8))
    net.add("SOFTMAX", net.dense(hidden, 3 * net.drawn(8, 8)), [1, 8], beta=1.0)
    graph = read(made(net.file(), SAMPLES, keep=2, keep_as="float32") / "model.tflite")
    grid = graph.tensors[graph.outputs[0]].quantization
    assert "FLOAT32" in kinds(graph)["value2"]
    assert (float(grid.scales[0]), int(grid.zero_points[0])) == (pytest.approx(1 / 256), -128)


@pytest.mark.parametrize("samples", [
    SAMPLES[:1], np.zeros((3, 8), np.float32), np.full((3, 8), 7, np.float32)])
def test_few_or_constant_samples_are_enough(made, samples):
    out = made(CHAIN, samples, keep=1, range="minmax")
    assert np.isfinite(run_litert(out / "model.tflite", samples, "reference")).all()


def test_the_same_model_and_samples_give_the_same_bytes(made):
    def files() -> dict[str, bytes]:
        out = made(CHAIN, SAMPLES, keep=1)
        return {each.name: each.read_bytes() for each in out.rglob("*.*")}

    assert files() == files()


# On the demo


PLAINLY = {"granularity": "per_tensor", "range": "minmax"}


def quantized(store: Store, **options: object) -> Path:
    return store.path(demo.quantized(store, SelectiveInt8(**PLAINLY, **options)))


def figures(store: Store, model: Path) -> float:
    """How close the outputs of `model` are to the float ones, on evaluation samples."""
    samples = samples_in(store.path(demo.samples(store, "evaluation", 200)))
    expected = run_litert(store.path(demo.baseline(store)) / "baseline.tflite", samples, "reference")
    return sqnr_db(run_litert(model, samples, "reference"), expected)


def test_the_one_layer_that_loses_most_wins_most_and_is_float_where_that_is_clearly_closer(store):
    out = quantized(store, keep_as="either")
    found = kinds(read(out / "model.tflite"))
    assert [kind for kind in found.values() if kind != "INT8"] == ["FLOAT32"]
    assert any(each.startswith("kept as float32: ") for each in notes_in(out))
    plain = store.path(demo.quantized(store, StaticInt8(**PLAINLY)))
    assert figures(store, out / "model.tflite") > figures(store, plain / "model.tflite") + 10
    assert json.loads((out / "details" / FILE).read_text())["layers"][0]["operator"] == "DEPTHWISE_CONV_2D"


@pytest.mark.parametrize("keep", [1, 2])
def test_tflm_and_vela_take_what_is_kept_in_16_bits(store, keep, planned):
    job, _ = planned(f"{{recipe: selective-int8, granularity: per_tensor, range: minmax, keep: {keep}}}")
    recipe, out = job.rungs[0].recipe, quantized(store, keep=keep, keep_as="int16x8")
    assert recipe == SelectiveInt8(**PLAINLY, keep=keep, keep_as="int16x8")
    assert [*kinds(read(out / "model.tflite")).values()].count("INT16") == keep
    program = store.path(store.make(job.target.backend.compile, demo.quantized(store, recipe)))
    costs = json.loads((program / "costs.json").read_text())
    assert costs["mapped_ops_ratio"]["value"] == 1
    assert costs["cycles"]["value"] > 0
    samples = samples_in(store.path(demo.samples(store, "evaluation", 200)))[:20]
    np.testing.assert_allclose(run_tflm(out / "model.tflite", samples)[0],
                               run_litert(out / "model.tflite", samples, "reference"), atol=1 / 128)


@pytest.fixture
def planned(project: Path):
    """The jobs of the demo for an Ethos-U55 and an Edge TPU by this ladder, and for the host."""
    def jobs(ladder: str, targets: str = "ethos-u55-128, edgetpu") -> list:
        text = (project / "pipeline.yaml").read_text()
        head = text.partition("targets:")[0]
        (project / "pipeline.yaml").write_text(
            f"{head}targets: [{targets}]\nladder: [{ladder}, static-int8]\n"
            "gates: [{metric: accuracy_drop, max: 0.1}]\n")
        return [*plan(load(project / "pipeline.yaml"), Chosen())]

    return jobs


def test_a_list_is_a_rung_each_and_kept_in_what_the_target_takes(planned):
    host, npu, tpu = planned("{recipe: selective-int8, keep: [1, 2, 4, 8]}", "host, ethos-u55-128, edgetpu")
    for job, kept_as in ((host, "either"), (npu, "int16x8")):
        assert [(rung.recipe.keep, rung.recipe.keep_as, rung.skipped) for rung in job.rungs[:4]] == [
            (keep, kept_as, "") for keep in (1, 2, 4, 8)]
    assert {rung.skipped for rung in tpu.rungs[:4]} == {
        "the target takes int8 alone: no layer can stay more precise"}


def test_a_build_delivers_the_table_and_no_evaluation_data_decides(edgeq, project):
    (project / "small.tflite").write_bytes(CHAIN)
    np.savez(project / "calibration.npz", x=SAMPLES)
    (project / "pipeline.yaml").write_text("""
version: 1
models:
  small: {source: small.tflite, calibration: {data: calibration.npz}, evaluation: {data: evaluation.npz}}
targets: [host]
ladder: [{recipe: selective-int8, keep: [1, 2]}]
gates: [{metric: sqnr_db, min: 0}]
""")

    def built(samples: np.ndarray) -> dict:
        np.savez(project / "evaluation.npz", x=samples)
        done = edgeq("build")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "small/host selective-int8 {keep: 1}: kept as" in done.stdout
        report = json.loads((project / "build/report.json").read_text())
        return report["results"][0]["rungs"][0]["digests"]

    first, second = built(SAMPLES[::-1]), built(3 * SAMPLES)
    assert first["evaluation"] != second["evaluation"]
    assert first["quantized"] == second["quantized"]
    report = json.loads((project / "build/report.json").read_text())["results"][0]
    assert "host/small/details/sensitivity.json" in [each["path"] for each in report["artifacts"]]
    table = json.loads((project / "build/host/small/details/sensitivity.json").read_text())
    assert {"index", "operator", "alone_quantized_db", "alone_not_db"} <= table["layers"][0].keys()
