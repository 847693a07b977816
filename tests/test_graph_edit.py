"""Edits of graphs: what is named changes, and all else stays, to the byte and in what it computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import Net, model, noise, operator, packed, schema, tensor, written

from edgeq.graph import (
    Change,
    Quantization,
    cut,
    edited,
    parse,
    settled,
    unpack,
    values_of,
    with_own_biases,
)
from edgeq.interpret import run_litert
from edgeq.ptq.stepping import Steps

FILES = sorted(Path(os.environ.get("EDGEQ_BENCH", "nowhere"), "models").rglob("*.tflite"))
COMPILED = [file for file in FILES if "_edgetpu_" in file.name]  # hold an operator that only the device has
PLAIN = [file for file in FILES if file not in COMPILED]
NOT_IN_LITERT = {"posenet": "custom op: PosenetDecoderOp"}
NOT_IN_TFLM = {  # uint8, and weights in integers beside activations in float
    "deeplabv3", "kws_ref_model_float32", "mobilenet_v1", "posenet", "split_concat"}
NOT_IN_VELA = {"trained_lstm.tflite"}
FOR_VELA = [file for file in PLAIN if "deeplabv3" not in file.name]  # which takes Vela longer than all others
VELA = """
import sys
from pathlib import Path
from ethosu.vela.vela import main
for name in sys.argv[1:]:
    file = Path(name)
    try:
        ended = main([name, "--output-dir", str(file.parent), "--accelerator-config", "ethos-u55-128"])
    except Exception as error:
        ended = repr(error)
    file.with_suffix(".ended").write_text(str(ended))
"""


def named_among(file: Path, names) -> bool:
    """Whether the file's name begins with one of these."""
    return any(file.name.startswith(name) for name in names)


def outputs(content: bytes, samples) -> np.ndarray:
    """What LiteRT makes of `samples` (n, *shape)."""
    return Steps(content, np.asarray(samples, np.float32)).rest()


@pytest.fixture
def net() -> Net:
    """A convolution, and a dense layer on its mean."""
    net = Net((1, 4, 4, 2))
    net.dense(net.mean(net.conv("in", net.drawn(3, 3, 3, 2), activation="relu")), net.drawn(2, 3))
    return net


def index(content: bytes, name: str) -> int:
    """Where the tensor of this name stands."""
    (found,) = [each.index for each in parse(content, "x").tensors if each.name == name]
    return found


def test_an_edit_of_nothing_gives_the_same_bytes_each_time_and_again(net, baseline):
    for content in (net.file(), (baseline / "baseline.tflite").read_bytes()):
        once = edited(content, {})
        assert edited(content, {}) == once == edited(once, {}) == settled(content, "x")


def test_a_constant_that_is_changed_changes_what_the_model_computes():
    net = Net((1, 2))
    net.dense("in", net.constant(np.float32([[1, 2], [3, 4]]), "w"), net.constant(np.float32([0, 1]), "b"))
    content = net.file()
    made = edited(content, {index(content, "w"): Change(np.array([[1, 0], [0, 10]])),
                            index(content, "b"): Change(np.array([5, 0]))})
    assert outputs(content, [[1, 1]]).tolist() == [[[3, 8]]]
    assert outputs(made, [[1, 1]]).tolist() == [[[6, 10]]]
    assert values_of(parse(made, "x").tensors[index(made, "w")]).dtype == np.float32


def test_what_an_edit_does_not_name_stays_as_it_was(net):
    content = net.file()
    weights = index(content, "constant1")
    made = edited(content, {weights: Change(np.zeros((3, 3, 3, 2)))})
    before, after = parse(content, "x"), parse(made, "x")
    same = [np.array_equal(a.data, b.data) for a, b in zip(before.tensors, after.tensors, strict=True)]
    assert [i for i, equal in enumerate(same) if not equal] == [weights]
    assert [(a.name, a.shape, a.dtype) for a in before.tensors] == [
        (b.name, b.shape, b.dtype) for b in after.tensors]
    assert [(a.name, a.inputs, a.outputs, a.options) for a in before.operators] == [
        (b.name, b.inputs, b.outputs, b.options) for b in after.operators]


def test_a_buffer_that_two_tensors_share_is_changed_for_one_of_them_alone():
    made = model([tensor("in", (1, 2)), tensor("a", (2,), data=np.float32([1, 2])), tensor("b", (2,)),
                  tensor("middle", (1, 2)), tensor("out", (1, 2))],
                 [operator("ADD", "in a", "middle"), operator("ADD", "middle b", "out")], "in", "out")
    made.subgraphs[0].tensors[2].buffer = made.subgraphs[0].tensors[1].buffer
    content = packed(made)
    changed = edited(content, {2: Change(np.array([10, 20]))})
    assert outputs(content, [[0, 0]]).tolist() == [[[2, 4]]]
    assert outputs(changed, [[0, 0]]).tolist() == [[[11, 22]]]
    assert outputs(edited(changed, {1: Change(np.array([100, 100]))}), [[0, 0]]).tolist() == [[[110, 120]]]


def in_int4(values) -> bytes:
    """A file with `values` as an INT4 constant, which is tensor 1."""
    flat = np.zeros((np.size(values) + 1) // 2, np.uint8)
    content = written([tensor("in", (1, 2)), tensor("w", np.shape(values), "INT4", data=flat, scale=0.5),
                       tensor("out", (1, 2))], [operator("ADD", "in w", "out")])
    return edited(content, {1: Change(np.asarray(values))})


@pytest.mark.parametrize(("values", "packed_as"), [
    ([1, -2, 7], [0xE1, 0x07]), ([[-8, 7], [0, -1]], [0x78, 0xF0]), ([5], [0x05])])
def test_weights_of_four_bits_stand_two_in_a_byte_the_first_in_its_lower_half(values, packed_as):
    found = parse(in_int4(values), "x").tensors[1]
    assert found.data.tolist() == packed_as
    assert values_of(found).tolist() == values


@pytest.mark.parametrize("shape", [(15,), (16,), (3, 5), (2, 1, 3, 3)])
def test_any_number_of_weights_of_four_bits_comes_back(shape):
    values = np.random.default_rng(0).integers(-8, 8, shape)
    np.testing.assert_array_equal(values_of(parse(in_int4(values), "x").tensors[1]), values)


def test_values_of_another_shape_are_refused_as_no_edit(net):
    with pytest.raises(ValueError, match="reshape"):
        edited(net.file(), {1: Change(np.zeros(7))})


def test_values_that_the_type_does_not_hold_are_refused_as_no_edit():
    content = written([tensor("in", (1, 2)), tensor("w", (2,), "INT8", data=np.int8([1, 2]), scale=1),
                       tensor("out", (1, 2))], [operator("ADD", "in w", "out")])
    with pytest.raises(TypeError, match="cast"):
        edited(content, {1: Change(np.array([0.5, 1.5]))})


def test_the_values_of_what_is_no_constant_are_not_there(net):
    with pytest.raises(ValueError, match="'in' is no constant"):
        values_of(parse(net.file(), "x").tensors[0])


def test_a_grid_is_changed_with_values_or_without(net):
    content = written([tensor("in", (1, 2)), tensor("w", (2, 3), "INT8", data=np.int8(range(6)), scale=1),
                       tensor("out", (1, 2))], [operator("ADD", "in w", "out")])
    grid = Quantization(np.float32([0.5, 0.25]), np.array([0, 0]), 0)
    found = parse(edited(content, {1: Change(grid=grid)}), "x").tensors[1]
    assert (found.grid.scales.tolist(), found.grid.axis, found.grid.per_channel) == ([0.5, 0.25], 0, True)
    assert values_of(found).tolist() == [[0, 1, 2], [3, 4, 5]]


def biases(content: bytes) -> list[str]:
    """The bias of each operator that has one, by name."""
    graph = parse(content, "x")
    return [graph.tensors[op.inputs[2]].name for op in graph.operators if len(op.inputs) == 3]


@pytest.mark.parametrize("absent", ["", "?"], ids=["left out", "minus one"])
def test_a_missing_bias_becomes_one_of_zeros(absent):
    net = Net((1, 3))
    net.dense(net.dense("in", net.drawn(4, 3), absent, activation="relu"), net.drawn(2, 4), absent)
    content = net.file()
    made = with_own_biases(content)
    assert biases(made) == ["value0/bias", "value1/bias"]
    samples = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_array_equal(outputs(made, samples), outputs(content, samples))
    assert with_own_biases(made) == made


def test_a_bias_that_layers_share_is_written_out_for_each():
    net = Net((1, 3))
    shared = net.constant(np.float32([1, 2, 3]), "b")
    value = "in"
    for _ in range(3):
        value = net.dense(value, net.drawn(3, 3), shared)
    content = net.file()
    made = with_own_biases(content)
    assert len({*biases(made)}) == 3
    last = parse(made, "x").operators[-1].inputs[2]
    alone = edited(made, {last: Change(np.zeros(3))})
    samples = np.zeros((1, 3))
    np.testing.assert_array_equal(outputs(made, samples), outputs(content, samples))
    np.testing.assert_allclose(outputs(made, samples) - outputs(alone, samples), [[[1, 2, 3]]], rtol=1e-5)


def test_a_bias_that_is_computed_stays_the_one_that_it_is():
    net = Net((1, 3))
    computed = net.add("RELU", net.constant(np.float32([1, -2, 3])), (3,))
    net.dense(net.dense("in", net.drawn(3, 3), computed), net.drawn(3, 3), computed)
    content = net.file()
    made = with_own_biases(content)
    np.testing.assert_array_equal(outputs(made, np.ones((1, 3))), outputs(content, np.ones((1, 3))))
    assert biases(made) == [computed, computed]


def test_what_has_no_name_is_read_as_having_an_empty_one():
    made = schema.ModelT.InitFromPackedBuf(in_int4([1, 2]), 0)
    for each in made.subgraphs[0].tensors:
        each.name = None
    assert {each.name for each in parse(packed(made), "x").tensors} == {""}


def branched() -> Net:
    """Two branches that are added, then a dense layer."""
    net = Net((1, 4, 4, 2))
    first = net.conv("in", net.drawn(3, 3, 3, 2), activation="relu")
    left, right = net.conv(first, net.drawn(3, 1, 1, 3)), net.depthwise(first, net.drawn(1, 3, 3, 3))
    net.dense(net.mean(net.add("ADD", f"{left} {right}", (1, 4, 4, 3))), net.drawn(2, 3))
    return net


@pytest.mark.parametrize("place", range(1, 6))
def test_the_two_parts_of_a_cut_graph_give_what_the_whole_gives(tmp_path, place):
    content = branched().file()
    graph, whole = parse(content, "x"), unpack(content, "x")
    head, tail = graph.operators[:place], graph.operators[place:]
    _, crossing = cut(whole, tail, graph.outputs)
    first, taken = cut(whole, head, crossing)
    second, _ = cut(whole, tail, graph.outputs)
    samples = np.random.default_rng(2).normal(size=(3, 4, 4, 2)).astype(np.float32)
    assert taken == graph.inputs
    wanted = outputs(content, samples)
    for sample, expected in zip(samples, wanted, strict=True):
        given = invoked(first, [sample[None]])
        np.testing.assert_allclose(invoked(second, given)[0], expected, atol=1e-6)


def invoked(content: bytes, inputs) -> list[np.ndarray]:
    """The outputs of a file for inputs in its own order, by the reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    run = Interpreter(model_content=content, num_threads=1,
                      experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    run.allocate_tensors()
    for entry, values in zip(run.get_input_details(), inputs, strict=True):
        run.set_tensor(entry["index"], values)
    run.invoke()
    return [run.get_tensor(each["index"]) for each in run.get_output_details()]


def test_a_part_holds_the_tensors_of_its_operators_and_no_others():
    content = branched().file()
    graph = parse(content, "x")
    last = graph.operators[-1]
    part, taken = cut(unpack(content, "x"), [last], graph.outputs)
    found = parse(part, "x")
    (alone,) = found.operators
    assert [each.shape for each in found.inputs_of(alone)] == [each.shape for each in graph.inputs_of(last)]
    assert len(found.tensors) == 4
    assert taken == (last.inputs[0],)
    assert (found.inputs, found.outputs) == (alone.inputs[:1], alone.outputs)
    assert len(unpack(part, "x").buffers) == 3


def test_cutting_leaves_the_model_as_it_was():
    content = branched().file()
    graph, whole = parse(content, "x"), unpack(content, "x")
    cut(whole, graph.operators[2:4], graph.operators[3].outputs)
    assert packed(whole) == edited(content, {})


def answer(content: bytes) -> list[bytes] | str:
    """What LiteRT's reference kernels make of noise; where they refuse the file, their words."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    run = Interpreter(model_content=content, num_threads=1,
                      experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    try:
        run.allocate_tensors()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    for place, entry in enumerate(run.get_input_details()):
        run.set_tensor(entry["index"], noise(entry["dtype"], entry["shape"], place))
    run.invoke()
    return [run.get_tensor(each["index"]).tobytes() for each in run.get_output_details()]


def on_the_micro(content: bytes) -> list[bytes] | str:
    """What TensorFlow Lite Micro makes of noise; where it refuses the file, its words."""
    from tflite_micro.python.tflite_micro import runtime

    try:
        run = runtime.Interpreter.from_bytes(content, arena_size=16 << 20)
    except RuntimeError as error:
        return str(error)
    for place in range(len(parse(content, "x").inputs)):
        entry = run.get_input_details(place)
        run.set_input(noise(entry["dtype"], entry["shape"], place), place)
    run.invoke()
    return [run.get_output(place).tobytes() for place in range(len(parse(content, "x").outputs))]


def test_the_bench_has_models_of_every_kind(bench):
    assert len(PLAIN) > 15
    assert len(COMPILED) > 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_real_model_written_anew_is_stable_and_has_all_that_it_had(file):
    content = file.read_bytes()
    made = edited(content, {})
    assert made == edited(content, {}) == edited(made, {})
    before, after = parse(content, "x"), parse(made, "x")
    assert (before.inputs, before.outputs, before.subgraphs, before.signature_keys, before.description) == (
        after.inputs, after.outputs, after.subgraphs, after.signature_keys, after.description)
    assert [(a.name, a.version, a.inputs, a.outputs) for a in before.operators] == [
        (b.name, b.version, b.inputs, b.outputs) for b in after.operators]
    for a, b in zip(before.tensors, after.tensors, strict=True):
        assert (a.name, a.shape, a.signature, a.dtype, a.variable) == (
            b.name, b.shape, b.signature, b.dtype, b.variable)
        np.testing.assert_array_equal(a.data, b.data)
    custom = [[bytes(op.customOptions) for op in unpack(each, "x").subgraphs[0].operators
               if op.customOptions is not None] for each in (content, made)]
    assert custom[0] == custom[1]
    assert bool(custom[0]) == (file in COMPILED or "posenet" in file.name)


@pytest.mark.parametrize("file", PLAIN, ids=lambda file: file.stem)
def test_a_real_model_written_anew_computes_in_litert_what_it_did(file):
    before, after = (answer(content) for content in (file.read_bytes(), edited(file.read_bytes(), {})))
    assert before == after
    words = next((words for name, words in NOT_IN_LITERT.items() if named_among(file, [name])), None)
    assert words in before if words else isinstance(before, list)


@pytest.mark.parametrize("file", PLAIN, ids=lambda file: file.stem)
def test_a_real_model_written_anew_computes_in_tflm_what_it_did(file):
    before, after = (on_the_micro(content) for content in (file.read_bytes(), edited(file.read_bytes(), {})))
    assert before == after
    assert isinstance(before, str) == named_among(file, NOT_IN_TFLM)


@pytest.fixture(scope="session")
def by_vela(tmp_path_factory) -> Path:
    """The folder in which Vela compiled all models, as they are and written anew: its import is slow."""
    folder = tmp_path_factory.mktemp("vela")
    for place, file in enumerate(FOR_VELA):
        (folder / f"before{place}.tflite").write_bytes(file.read_bytes())
        (folder / f"after{place}.tflite").write_bytes(edited(file.read_bytes(), {}))
    files = sorted(folder.glob("*.tflite"))
    subprocess.run([sys.executable, "-c", VELA, *files], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("file", FOR_VELA, ids=lambda file: file.stem)
def test_a_real_model_written_anew_is_compiled_by_vela_as_it_was(by_vela, file):
    names = [f"{when}{FOR_VELA.index(file)}" for when in ("before", "after")]
    ended = [(by_vela / f"{name}.ended").read_text() for name in names]
    assert ended[0] == ended[1]
    assert (ended[0] != "0") == named_among(file, NOT_IN_VELA)
    if ended[0] == "0":
        programs = [(by_vela / f"{name}_vela.tflite").read_bytes() for name in names]
        operators = [[op.name for op in parse(program, "x").operators] for program in programs]
        assert operators[0] == operators[1]
        assert programs[0] == programs[1] or {*operators[0]} != {"CUSTOM:ethos-u"}


def test_a_model_on_disk_runs_as_before_after_an_edit_of_nothing(baseline, tmp_path):
    content = (baseline / "baseline.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(edited(content, {}))
    samples = np.random.default_rng(3).random((4, *parse(content, "x").tensors[0].shape[1:]), np.float32)
    np.testing.assert_array_equal(run_litert(tmp_path / "model.tflite", samples, "xnnpack"),
                                  run_litert(baseline / "baseline.tflite", samples, "xnnpack"))
