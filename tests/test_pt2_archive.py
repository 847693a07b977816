"""Code in .pt2 archives: found in the archive and refused before any of it has run, unless it is trusted."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgeq.errors import ConfigError
from edgeq.exported.archive import _code_in_graph, code_in_pt2
from edgeq.exported.loading import loaded
from edgeq.trust import refuse_code

GRAPH, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
Changed = Callable[[dict[str, bytes]], None]


class Small(torch.nn.Module):
    """A linear layer with a constant behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + torch.tensor([1.0, 2.0, 3.0])


def touched(place: Path) -> torch.Tensor:
    """An input for the model, and a mark at `place`."""
    place.touch()
    return torch.ones(2, 4)


class Touches:
    """A pickle that leaves a mark where it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return touched, (self.place,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A path where code that runs leaves something."""
    return tmp_path / "marker"


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported program as torch saves it, its batch open."""
    place = tmp_path_factory.mktemp("pt2") / "small.pt2"
    batch = {0: torch.export.Dim("batch", max=64)}
    program = torch.export.export(Small().eval(), (torch.ones(2, 4),), dynamic_shapes=(batch,))
    torch.export.save(program, place)
    return place


@pytest.fixture
def changed(saved: Path, tmp_path: Path) -> Callable[[Changed], Path]:
    """A copy of the archive, its entries changed by a function."""
    def copied(change: Changed) -> Path:
        with zipfile.ZipFile(saved) as old:
            entries = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
        change(entries)
        place = tmp_path / "changed.pt2"
        with zipfile.ZipFile(place, "w") as new:
            for name, content in entries.items():
                new.writestr(f"changed/{name}", content)
        return place

    return copied


def edit(name: str, change: Callable[[dict], None]) -> Changed:
    """A change of the JSON in the entry `name`."""
    def changed(entries: dict[str, bytes]) -> None:
        content = json.loads(entries[name])
        change(content)
        entries[name] = json.dumps(content).encode()

    return changed


def replaced(name: str, old: str, new: str) -> Changed:
    """A change of text, which must be there, in the entry `name`."""
    def changed(entries: dict[str, bytes]) -> None:
        assert old in entries[name].decode()
        entries[name] = entries[name].decode().replace(old, new).encode()

    return changed


def pickled(value: object) -> bytes:
    """`value` as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_what_torch_saves_holds_no_code(saved):
    assert [*code_in_pt2(saved)] == []


def test_a_copy_of_an_archive_loads_as_it_did(saved, changed):
    (module, (example,)), (copy, _) = loaded(saved), loaded(changed(lambda _: None))
    assert example.shape == (1, 4)
    assert torch.equal(module(example + 1), copy(example + 1))


def test_example_inputs_that_are_more_than_tensors_do_not_run(changed, marker):
    def change(entries: dict[str, bytes]) -> None:
        entries[SAMPLES] = pickled((((Touches(marker),)), {}))

    source = changed(change)
    with pytest.raises(ConfigError, match=r"holds code .*: test_pt2_archive\.touched in") as raised:
        loaded(source)
    assert "trust: true" in raised.value.hint
    assert not marker.exists()
    loaded(source, trust=True)
    assert marker.exists()


def test_an_object_among_the_constants_does_not_run(changed, marker):
    def change(entries: dict[str, bytes]) -> None:
        entries["data/constants/opaque_obj_0"] = pickle.dumps(Touches(marker))
        config = json.loads(entries[CONSTANTS])
        config["config"]["thing"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False,
                                     "tensor_meta": None}
        entries[CONSTANTS] = json.dumps(config).encode()

    with pytest.raises(ConfigError, match=r"holds code .*: the pickled entry thing"):
        loaded(changed(change))
    assert not marker.exists()


def test_a_pickled_weight_does_not_run(changed, marker):
    def change(entries: dict[str, bytes]) -> None:
        entries["data/weights/weight_0"] = pickled(Touches(marker))
        config = json.loads(entries[WEIGHTS])
        next(iter(config["config"].values()))["use_pickle"] = True
        entries[WEIGHTS] = json.dumps(config).encode()

    with pytest.raises(ConfigError, match=r"holds code .*: the pickled entry layer"):
        loaded(changed(change))
    assert not marker.exists()


def test_weights_of_the_older_layout_do_not_run(changed, marker):
    def change(entries: dict[str, bytes]) -> None:
        entries["data/weights/model.pt"] = pickled({"a": Touches(marker)})

    with pytest.raises(ConfigError, match=r"holds code .* in the pickled entry data/weights/model.pt"):
        loaded(changed(change))
    assert not marker.exists()


def test_a_shared_library_is_code(changed):
    def change(entries: dict[str, bytes]) -> None:
        entries["data/aotinductor/model/model.so"] = b"\x7fELF"

    with pytest.raises(ConfigError, match=r"the compiled code data/aotinductor/model/model.so"):
        loaded(changed(change))


@pytest.mark.parametrize("target", [
    "torch.os.system", "torch.ops.load_library", "torch.ops.aten.from_file.default", "_operator.attrgetter",
    "_operator.call", "torch.ops.mine.run.default", "torch.utils.cpp_extension.load"])
def test_a_call_of_anything_but_an_operator_is_code(changed, target):
    source = changed(replaced(GRAPH, "torch.ops.aten.linear.default", target))
    with pytest.raises(ConfigError, match=f"a call of {target}"):
        loaded(source)


def test_an_expression_of_sizes_is_no_place_for_code(changed, marker):
    def change(graph: dict) -> None:
        text = json.dumps(graph)
        old = next(piece for piece in text.split('"') if piece.startswith("Symbol("))
        new = f"__import__('pathlib').Path('{marker}').touch() or 1"
        graph.update(json.loads(text.replace(old, new)))

    with pytest.raises(ConfigError, match=r"the expression .*__import__"):
        loaded(changed(edit(GRAPH, change)))
    assert not marker.exists()


@pytest.mark.parametrize("text", [
    "sympify('x')", "Symbol('a').__class__", "Symbol('__import__(\"os\")')", "(lambda: 1)()", "Symbol(*x)",
    "a[0]", "Symbol(**x)", "[a for a in b]", "'", "Lambda(1)"])
def test_only_arithmetic_is_a_size(text):
    assert [*_code_in_graph({"as_expr": {"expr_str": text}}, "")] == [f"the expression {text!r}"]


@pytest.mark.parametrize("text", [
    "Symbol('s77', positive=True, integer=True)", "s0", "Add(Integer(-1), Mul(Integer(2), Symbol('s0')))",
    "Max(1, s0//2)", "Float('0.5', precision=53)"])
def test_sizes_as_sympy_writes_them_are_no_code(text):
    assert [*_code_in_graph({"as_expr": {"expr_str": text}}, "")] == []


def test_a_structure_that_imports_a_module_is_code(changed):
    text = '{\\\\\\"default_factory_module\\\\\\": \\\\\\"os\\\\\\"}'
    source = changed(replaced(GRAPH, '\\"builtins.tuple\\", \\"context\\": \\"null\\"',
                              f'\\"collections.defaultdict\\", \\"context\\": \\"{text}\\"'))
    with pytest.raises(ConfigError, match=r"the structure .*default_factory_module"):
        loaded(source)


def test_a_name_that_would_be_written_into_python_is_code(changed):
    source = changed(replaced(GRAPH, '"name": "x"', '"name": "x=print(1)"'))
    with pytest.raises(ConfigError, match=r"the name 'x=print\(1\)'"):
        loaded(source)


def test_refusing_nothing_lets_an_archive_through(saved):
    refuse_code(code_in_pt2(saved), saved.name)


def test_a_damaged_archive_is_said_to_be(saved, tmp_path):
    place = tmp_path / "damaged.pt2"
    place.write_bytes(saved.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=r"^damaged\.pt2 is no exported program, is damaged, or") as raised:
        loaded(place)
    assert "torch.export.save" in raised.value.hint
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, SAMPLES])
def test_an_archive_that_lacks_an_entry_is_damaged(changed, name):
    with pytest.raises(ConfigError, match=r"changed\.pt2 (holds no exported|is damaged|cannot be)"):
        loaded(changed(lambda entries: entries.pop(name)))


def test_bytes_that_were_changed_are_seen(changed):
    def change(entries: dict[str, bytes]) -> None:
        entries[GRAPH] = entries[GRAPH][:500]

    with pytest.raises(ConfigError, match=r"changed\.pt2 is damaged"):
        loaded(changed(change))


def test_another_version_is_said_to_be_one(changed):
    def change(graph: dict) -> None:
        graph["schema_version"]["major"], graph["torch_version"] = 99, "9.1"

    with pytest.raises(ConfigError, match=r"made by another version \(PyTorch 9\.1\): its schema is 99,"):
        loaded(changed(edit(GRAPH, change)))


def test_a_pickled_module_is_no_exported_program(tmp_path):
    torch.save(Small(), tmp_path / "module.pt2")
    with pytest.raises(ConfigError, match=r"module\.pt2 is no exported program"):
        loaded(tmp_path / "module.pt2")
