"""Sources become exported programs: what PyTorch and Keras models compute, in shapes that are fixed."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import demo
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from torch import nn

from edgeq.artifact import Artifact, Origin
from edgeq.baseline import ends_in
from edgeq.errors import ConfigError, Refused
from edgeq.exported.baseline import write_exported
from edgeq.exported.tracing import exported
from edgeq.frontends.keras_exported import KerasExported
from edgeq.frontends.pt2 import Pt2
from edgeq.frontends.pt2_tflite import Pt2Tflite
from edgeq.frontends.torch_function import TorchFunction
from edgeq.frontends.torch_tflite import TorchTflite
from edgeq.graph import read
from edgeq.interpret import run_litert
from edgeq.store import Store

MODEL = ROOT / "models/fashion_torch"
FASHION = {"function": "model:fashion", "weights": "weights.safetensors"}


def run(folder: Path, samples: np.ndarray) -> np.ndarray:
    """The outputs of `baseline.pt2` for `samples`, one by one."""
    module = torch.export.load(folder / "baseline.pt2").module(check_guards=False)
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(sample[None])).numpy() for sample in samples])


def operators(folder: Path) -> list[str]:
    """The operators of `baseline.pt2` in their order."""
    graph = torch.export.load(folder / "baseline.pt2").graph
    return [str(node.target).split(".")[1] for node in graph.nodes if node.op == "call_function"]


@pytest.fixture(scope="session")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """The evaluation samples of the demo, channels last as floats, and their classes."""
    with np.load(ROOT / "models/fashion/evaluation.npz") as data:
        return data["x"].astype(np.float32), data["y"]


@pytest.fixture(scope="session")
def twin(store: Store) -> Artifact:
    """The modules and weights of the demo in PyTorch."""
    return store.take(Origin(MODEL, (MODEL / "model.py", MODEL / FASHION["weights"])))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a module `net` of the text given, which may use torch and nn, and files beside it."""
    def write(text: str, **files: bytes) -> Path:
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / "net.py").write_text(f"import torch\nfrom torch import nn\n\n{text}\n", encoding="utf-8")
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    return write


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Path]:
    """Convert what `net:make` in a folder makes; the folder of the baseline."""
    def converted(code: Path, weights: str = "", *, trust: bool = False) -> Path:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        TorchFunction(trust=trust, function="net:make", weights=weights).convert(out, code)
        return out

    return converted


def forward(body: str, example: str = "torch.ones(1, 1, 4, 4)") -> str:
    """The text of a module with that line in `forward`, and of the function that makes it."""
    return (f"class Net(nn.Module):\n    def forward(self, x):\n        {body}\n\n\n"
            f"def make():\n    return Net(), ({example},)")


LINEAR = "def make():\n    return nn.Linear(4, 3), (torch.ones(1, 4),)"


class TestTheDemoInPyTorch:
    def test_its_baseline_gives_what_the_module_gives(self, store, twin, pictures):
        baseline = store.path(store.make(TorchFunction(**FASHION).convert, twin))
        samples = np.moveaxis(pictures[0][:50], -1, 1)
        assert [end.shape for end in ends_in(baseline)] == [(1, 1, 28, 28), (1, 10)]
        assert {end.dtype for end in ends_in(baseline)} == {"FLOAT32"}
        np.testing.assert_allclose(run(baseline, samples), self.module(samples), atol=1e-5)

    def test_it_scores_what_model_yaml_states(self, pictures):
        said = yaml.safe_load((MODEL / "model.yaml").read_text(encoding="utf-8"))
        stated = said["float_accuracy"]["models/fashion/evaluation.npz"]
        right = self.module(np.moveaxis(pictures[0], -1, 1)).argmax(axis=1) == pictures[1]
        assert (stated["n"], stated["top1"]) == (2000, pytest.approx(right.mean(), abs=0.0006))
        digest = hashlib.sha256((MODEL / "weights.safetensors").read_bytes()).hexdigest()
        assert said["sha256"] == {"weights.safetensors": digest}
        keras = yaml.safe_load((ROOT / "models/fashion/model.yaml").read_text(encoding="utf-8"))
        assert stated["top1"] >= keras["float_accuracy"]["evaluation.npz"]["top1"] - 0.01

    def test_it_is_the_same_bytes_wherever_its_modules_lie(self, store, twin, tmp_path):
        elsewhere = shutil.copytree(MODEL, tmp_path / "häufig, elsewhere")
        TorchFunction(**FASHION).convert(tmp_path, elsewhere)
        made = store.path(store.make(TorchFunction(**FASHION).convert, twin))
        assert (tmp_path / "baseline.pt2").read_bytes() == (made / "baseline.pt2").read_bytes()

    def test_it_becomes_a_tflite_baseline_too(self, store, twin, pictures):
        baseline = store.path(store.make(TorchTflite(**FASHION).convert, twin)) / "baseline.tflite"
        graph, samples = read(baseline), np.moveaxis(pictures[0][:50], -1, 1)
        assert "TRANSPOSE" not in {operator.name for operator in graph.operators}
        found = run_litert(baseline, samples, "reference")
        np.testing.assert_allclose(found, self.module(samples), atol=1e-4)

    @staticmethod
    def module(samples: np.ndarray) -> np.ndarray:
        """What the module itself gives."""
        from edgeq.exported.functions import made

        with torch.no_grad():
            return made(MODEL, *FASHION.values())[0](torch.from_numpy(samples)).numpy()


@pytest.fixture(scope="module")
def keras(store: Store) -> Path:
    """The exported baseline of the demo in Keras."""
    return store.path(store.make(KerasExported().convert, demo.source(store)))


def rewritten(place: Path, old: str, new: str) -> Path:
    """The demo in Keras, saved at `place` with a piece of its configuration replaced."""
    with zipfile.ZipFile(ROOT / "models/fashion/model.keras") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert old in entries["config.json"].decode()
    entries["config.json"] = entries["config.json"].decode().replace(old, new).encode()
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return place


class TestKerasModels:
    def test_the_demo_gives_what_its_tflite_baseline_gives(self, store, keras, pictures):
        samples = pictures[0][:50]
        expected = run_litert(store.path(demo.baseline(store)) / "baseline.tflite", samples, "reference")
        np.testing.assert_allclose(run(keras, samples), expected, atol=1e-4)

    def test_nothing_of_keras_is_left_in_its_graph(self, keras):
        found = operators(keras)
        assert found[0] == "permute"
        assert found.count("conv2d") == found.count("hardtanh") == 11
        assert set(found[1:]) == {"pad", "conv2d", "hardtanh", "mean", "linear", "softmax"}

    def test_its_archive_holds_no_weight_twice(self, keras):
        program = torch.export.load(keras / "baseline.pt2")
        assert len(program.state_dict) == 2 * 12
        assert all(name.startswith("parameter_") for name in program.state_dict)

    def test_branches_and_poolings_of_keras_2_are_carried_over(self, tmp_path):
        import tf_keras

        tf_keras.utils.set_random_seed(1)
        layers = tf_keras.layers
        entry = tf_keras.Input((8, 8, 3))
        flow = layers.SeparableConv2D(6, 3, 2, "same", activation="relu")(layers.Rescaling(1 / 255)(entry))
        side = layers.BatchNormalization()(layers.DepthwiseConv2D(1, use_bias=False)(flow))
        flow = layers.Concatenate()([layers.Add()([flow, side]), layers.MaxPooling2D(2, 1, "same")(flow)])
        flow = layers.Activation("swish")(layers.Conv2D(4, 3)(flow))
        flow = layers.Dropout(0.5)(layers.ZeroPadding2D(((1, 0), (0, 2)))(flow))
        model = tf_keras.Model(entry, layers.Dense(3, "softmax")(layers.Flatten()(flow)))
        model.save(tmp_path / "model.h5")
        KerasExported().convert(tmp_path, tmp_path / "model.h5")
        samples = np.random.default_rng(0).random((4, 8, 8, 3), np.float32) * 255
        np.testing.assert_allclose(run(tmp_path, samples), model(samples).numpy(), atol=1e-5)
        assert operators(tmp_path).count("permute") == 2  # at the entry, and where pixels become a row

    def test_code_in_one_does_not_run(self, tmp_path):
        source = rewritten(tmp_path / "model.keras", '"class_name": "GlobalAveragePooling2D"',
                           '"class_name": "Lambda"')
        with pytest.raises(ConfigError, match=r"model.keras holds code .*: a Lambda layer"):
            KerasExported().convert(tmp_path, source)

    def test_what_keras_cannot_load_is_said_in_a_line(self, tmp_path):
        source = rewritten(tmp_path / "model.keras", '"filters": 16', '"filters": 17')
        with pytest.raises(ConfigError, match=r"^model\.keras cannot be loaded by Keras on PyTorch: .+$"):
            KerasExported().convert(tmp_path, source)


class TestExportedPrograms:
    @pytest.fixture
    def save(self, tmp_path: Path) -> Callable[..., Path]:
        """Save a module as torch.export.save does, with the dimensions in `names` open; the file."""
        def saved(module: nn.Module, example: torch.Tensor, **names: int) -> Path:
            open_ = {axis: torch.export.Dim(name, min=2, max=64) for name, axis in names.items()}
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=(open_ or None,))
            torch.export.save(program, tmp_path / "model.pt2")
            return tmp_path / "model.pt2"

        return saved

    def small(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(),
                             nn.Linear(64, 3))

    def test_an_open_batch_is_closed(self, save, tmp_path):
        module, samples = self.small(), np.random.default_rng(0).random((4, 1, 6, 6), np.float32)
        source = save(module, torch.ones(2, 1, 6, 6), batch=0)
        Pt2().convert(tmp_path, source)
        assert [end.shape for end in ends_in(tmp_path)] == [(1, 1, 6, 6), (1, 3)]
        expected = module(torch.from_numpy(samples)).detach().numpy()
        np.testing.assert_allclose(run(tmp_path, samples), expected, atol=1e-6)
        Pt2Tflite().convert(tmp_path, source)
        np.testing.assert_allclose(run_litert(tmp_path / "baseline.tflite", samples, "reference"), expected,
                                   atol=1e-5)

    def test_a_baseline_is_a_source_again(self, save, tmp_path):
        Pt2().convert(tmp_path, save(self.small(), torch.ones(1, 1, 6, 6)))
        again = tmp_path / "again"
        again.mkdir()
        Pt2().convert(again, tmp_path / "baseline.pt2")
        assert operators(again) == operators(tmp_path)

    def test_other_open_dimensions_are_refused(self, save, tmp_path):
        source = save(nn.ReLU(), torch.ones(2, 1, 6, 6), batch=0, height=2)
        with pytest.raises(ConfigError, match=r"model\.pt2: its input is open in the dimensions 0, 2"):
            Pt2().convert(tmp_path, source)

    def test_a_batch_of_several_is_refused(self, save, tmp_path):
        with pytest.raises(ConfigError, match=r"its input .* has the shape \[4, 1, 6, 6\]") as raised:
            Pt2().convert(tmp_path, save(self.small(), torch.ones(4, 1, 6, 6)))
        assert "a batch of 1" in raised.value.hint


class TestWhatCannotBeABaseline:
    @pytest.mark.parametrize(("body", "told"), [
        ("return x if x.sum() > 0 else -x",
         r"net\.py:6: `return x if x\.sum\(\) > 0 else -x`: in aten\.\w+.*: a branch or a shape depends on"),
        ("return torch.from_numpy(x.numpy())", r"net\.py:6: `return torch\.from_numpy\(x\.numpy\(\)\)`: "),
        ("return torch.linalg.cholesky(x[:, 0, :2])", r"net\.py:6: .*: in aten\.linalg_cholesky"),
        ("return x @ torch.ones(3, 3)", r"net\.py:6: .*: in aten\.\w+"),
    ])
    def test_what_does_not_export_is_named_with_its_line(self, written, convert, body, told):
        with pytest.raises(ConfigError, match=r"^net:make does not export: " + told) as raised:
            convert(written(forward(body)))
        assert len(raised.value.message) < 400
        assert "\n" not in raised.value.message

    def test_an_operator_without_a_shape_is_named_with_its_line(self, written, convert):
        code = written("torch.library.define('own::f', '(Tensor x) -> Tensor')\n"
                       "torch.library.impl('own::f', 'cpu', lambda x: x + 1)\n"
                       + forward("return torch.ops.own.f(x)"))
        with pytest.raises(ConfigError, match=r"net\.py:8: `return torch\.ops\.own\.f\(x\)`: "
                                              r"in own\.f\.default: PyTorch cannot tell the shape"):
            convert(code)

    def test_shapes_that_depend_on_values_are_named_with_their_line(self, written, convert):
        with pytest.raises(ConfigError, match=r"aten\.index\.Tensor gives \(net\.py:6: `.*is open"):
            convert(written(forward("return x[x > 0].reshape(1, -1)")))

    @pytest.mark.parametrize(("body", "told"), [
        ("return x, x + 1", "net:make has 2 outputs"),
        ("return x.half()", r"not a float model: aten\.to\.dtype \(net\.py:6: `.*`\) gives FLOAT16"),
        ("return x[0].flatten()", r"its output .* has the shape \[16\]"),
    ])
    def test_its_end_is_one_float_tensor_with_a_batch(self, written, convert, body, told):
        with pytest.raises(ConfigError, match=told):
            convert(written(forward(body)))

    def test_a_state_is_refused(self, written, convert):
        code = written("class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
                       "        self.register_buffer('seen', torch.zeros(1))\n\n    def forward(self, x):\n"
                       "        self.seen.add_(1)\n        return x + self.seen\n\n\n"
                       "def make():\n    return Net(), (torch.ones(1, 2),)")
        with pytest.raises(ConfigError, match=r"net:make changes 'seen' \(net\.py:10: `self\.seen\.add_"):
            convert(code)

    def test_an_output_by_a_name_is_the_output(self, written, convert):
        out = convert(written(forward("return {'logits': x + 1}")))
        np.testing.assert_allclose(run(out, np.zeros((1, 1, 4, 4), np.float32)), np.ones((1, 1, 4, 4)))

    def test_working_in_place_is_no_state(self, written, convert):
        out = convert(written(forward("y = x[:, :, :2] + 1; y[:, :, 0].relu_(); return y")))
        np.testing.assert_allclose(run(out, -np.full((1, 1, 4, 4), 3, np.float32))[0, 0, :, 0], [0, -2])

    def test_an_input_that_is_written_to_is_refused(self, written, convert):
        with pytest.raises(ConfigError, match=r"net:make changes 'x' \(net\.py:6: `return torch\.relu_"):
            convert(written(forward("return torch.relu_(x[:, :, :2])")))

    @pytest.mark.parametrize(("body", "told"), [
        ("return x + torch.rand(1, 4)", r"aten\.rand\.default \(net\.py:6: `return x \+ torch\.rand"),
        ("return nn.functional.dropout(x)", r"aten\.dropout\.default \(net\.py:6: "),
    ])
    def test_what_draws_at_random_is_refused_with_its_line(self, written, convert, body, told):
        with pytest.raises(ConfigError, match="net:make gives something else in every run: " + told):
            convert(written(forward(body)))

    def test_what_draws_only_in_training_is_a_baseline(self, written, convert):
        out = convert(written(forward(
            "return nn.functional.dropout(nn.functional.rrelu(x), training=self.training)")))
        np.testing.assert_allclose(run(out, np.ones((1, 1, 4, 4), np.float32)), np.ones((1, 1, 4, 4)))

    def test_an_exception_of_the_users_own_is_named_with_its_line(self, written, convert):
        code = written("class Own(Exception):\n    pass\n\n\n" + forward("raise Own('mine')"))
        with pytest.raises(ConfigError, match=r"does not export: net\.py:10: `raise Own\('mine'\)`: mine"):
            convert(code)

    def test_half_precision_is_refused(self, written, convert):
        code = written("def make():\n    return nn.Linear(4, 3).half(), (torch.ones(1, 4).half(),)")
        with pytest.raises(ConfigError, match=r"net:make is not a float model: tensor 'weight' is FLOAT16"):
            convert(code)

    def test_a_quantized_program_is_refused(self, tmp_path):
        from torch.ao.quantization.fx import _decomposed  # noqa: F401  # registers the operators

        class Quantized(nn.Module):
            def forward(self, x):
                taken = torch.ops.quantized_decomposed.quantize_per_tensor(x, 0.1, 0, -128, 127, torch.int8)
                return torch.ops.quantized_decomposed.dequantize_per_tensor(
                    taken, 0.1, 0, -128, 127, torch.int8)

        program = exported(Quantized(), (torch.ones(1, 4),), "net")
        with pytest.raises(ConfigError, match=r"net is not a float model: it has quantized_decomposed\."):
            write_exported(tmp_path, program, "net")

    def test_tflite_names_what_it_lacks(self, written, tmp_path):
        code = written(forward("return torch.cummax(x, 3)[0]"))
        with pytest.raises(Refused, match=r"TFLite has no aten\.cummax\.default \(net\.py:6: `return"):
            TorchTflite(function="net:make").convert(tmp_path, code)


class TestTheUsersFunction:
    @pytest.mark.parametrize(("text", "told"), [
        ("def make():\n    return nn.Linear(4, 3)", "returned Linear"),
        ("def make():\n    return None", "returned nothing"),
        ("def make():\n    return 1, (2,)", "returned int, tuple"),
        ("def make():\n    return nn.Linear(4, 3), torch.ones(1, 4)", "returned Linear, Tensor"),
        ("def make():\n    return nn.Linear(4, 3), (torch.ones(1, 4), 1)", "returned 2 example inputs"),
        ("def make():\n    return nn.Linear(4, '3'), (1,)", r"failed: net\.py:5: `return nn\.Linear"),
        ("def make():\n    return nn.Linear(4, 3), ([1.0],)", r"returned 1 example inputs \(list\)"),
        ("class Own(Exception):\n    pass\n\n\ndef make():\n    raise Own('mine')",
         r"failed: net\.py:9: `raise Own\('mine'\)`: mine"),
        ("def make():\n    raise SystemExit(3)", r"failed: net\.py:5: `raise SystemExit\(3\)`: 3"),
        ("def other():\n    pass", "net has no function 'make'"),
        ("import nowhere", "No module named 'nowhere'"),
    ])
    def test_what_it_returns_is_looked_at(self, written, convert, text, told):
        with pytest.raises(ConfigError, match=told):
            convert(written(text))

    def test_a_module_of_its_own_weights_is_the_same_in_every_run(self, written, convert):
        first = (convert(written(LINEAR)) / "baseline.pt2").read_bytes()
        torch.rand(3)
        assert (convert(written(LINEAR)) / "baseline.pt2").read_bytes() == first

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_state_dict_is_loaded(self, written, convert, tmp_path, wrapped):
        state = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.zeros(3)}
        torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "w.pt")
        out = convert(written(LINEAR, **{"w.pt": (tmp_path / "w.pt").read_bytes()}), "w.pt")
        np.testing.assert_allclose(run(out, np.ones((1, 4), np.float32)), [[6, 22, 38]])

    @pytest.mark.parametrize(("state", "told"), [
        ({"weight": torch.zeros(3, 4)}, "does not fit the module: it lacks bias"),
        ({"weight": torch.zeros(3, 4), "bias": torch.zeros(3), "more": torch.zeros(1)}, "it has more, which"),
        ({"weight": torch.zeros(4, 4), "bias": torch.zeros(3)}, r"size mismatch for weight"),
        ([1, 2], "holds a list, not tensors by their names"),
    ])
    def test_weights_that_do_not_fit_are_refused(self, written, convert, tmp_path, state, told):
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(ConfigError, match=told):
            convert(written(LINEAR, **{"w.pt": (tmp_path / "w.pt").read_bytes()}), "w.pt")

    @pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
    def test_damaged_weights_are_refused(self, written, convert, name):
        with pytest.raises(ConfigError, match=rf"{name} is no .*, or is damaged"):
            convert(written(LINEAR, **{name: b"not a file of weights"}), name)

    def test_weights_that_are_a_pickle_do_not_run_unless_trusted(self, written, convert, tmp_path):
        torch.save(nn.Linear(4, 3), tmp_path / "w.pt")
        code = written(LINEAR, **{"w.pt": (tmp_path / "w.pt").read_bytes()})
        with pytest.raises(ConfigError, match=r"w\.pt holds code .*: torch\.nn\.modules\.linear\.Linear"):
            convert(code, "w.pt")
        assert (convert(code, "w.pt", trust=True) / "baseline.pt2").exists()
