"""What the recipes make of exported programs: integers where they promise them, and little error."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgeq.baseline import ends_in
from edgeq.errors import ConfigError, Refused
from edgeq.exported.promise import layers
from edgeq.exported.running import load_exported, run_exported
from edgeq.quantization import notes_in
from edgeq.recipes import RECIPES
from tests import exported_nets

SHAPE = (1, 1, 8, 8)


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional baseline, with data to calibrate it, and to train it on, beside it."""
    folder = exported_nets.write(tmp_path_factory.mktemp("net"), exported_nets.network(), SHAPE)
    exported_nets.samples(folder / "calibration", (96, 1, 8, 8))
    exported_nets.samples(folder / "training", (96, 1, 8, 8), labels=4)
    return folder


@pytest.fixture(scope="session")
def attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline of a block of a transformer, with calibration samples."""
    folder = exported_nets.write(tmp_path_factory.mktemp("attention"), exported_nets.attention(), (1, 4, 32))
    exported_nets.samples(folder / "calibration", (96, 4, 32))
    return folder


def quantized(out: Path, baseline: Path, name: str, **options: object) -> Path:
    recipe = RECIPES["executorch", name](**options)
    given = {"baseline": baseline, **{role: baseline / role for role in ("calibration", "training")}}
    recipe.quantize(out, *(given[role] for role in recipe.inputs))
    assert ends_in(out) == ends_in(baseline)
    return out


@functools.cache
def error(baseline: Path, out: Path) -> float:
    """The error of what is in `out` over fresh samples, as a share of the float outputs' power."""
    (_, *shape) = ends_in(baseline)[0].shape
    x = np.random.default_rng(9).random((32, *shape)).astype(np.float32)
    wanted = run_exported(baseline / "baseline.pt2", x)
    return float(np.square(run_exported(out / "model.pt2", x) - wanted).mean() / np.square(wanted).mean())


def grids(out: Path) -> list[tuple[float, int]]:
    """The scale and zero point of each activation, in the order of the graph."""
    graph = load_exported(out / "model.pt2").graph
    return [node.args[1:3] for node in graph.nodes
            if str(node.target) == "quantized_decomposed.quantize_per_tensor.default"]


def test_float32_is_the_baseline_itself(net: Path, tmp_path: Path) -> None:
    assert error(net, quantized(tmp_path, net, "float32")) == 0


@pytest.mark.parametrize("scheme", ["xnnpack", "ethos-u55", "ethos-u85"])
def test_every_layer_with_weights_is_on_integers(net: Path, tmp_path: Path, scheme: str) -> None:
    out = quantized(tmp_path, net, "static-int8", scheme=scheme)
    found = layers(load_exported(out / "model.pt2").graph)
    assert (found.quantized, found.weighted_in_float) == (3, ())
    assert error(net, out) < 1e-3


def test_a_convolution_shares_the_grid_of_the_clamp_behind_it(net: Path, tmp_path: Path) -> None:
    out = quantized(tmp_path, net, "static-int8")
    graph = load_exported(out / "model.pt2").graph
    clamps = [node for node in graph.nodes if str(node.target) == "aten.relu6.default"]
    assert [str(node.args[0].target) for node in clamps] == ["aten.conv2d.default"]
    assert grids(out)[1][1] == -128  # nothing below zero is left room for


def test_ranges_are_of_the_calibration_samples_and_the_choice_is_no_worse(net: Path, tmp_path: Path) -> None:
    made = {}
    for name in ("auto", "min-max", "least-squares"):
        (tmp_path / name).mkdir()
        made[name] = quantized(tmp_path / name, net, "static-int8", range=name)
    x = np.load(net / "calibration/x.npy")
    assert grids(made["min-max"])[0][0] == pytest.approx(x.max() / 255, rel=1e-5)
    least = min(error(net, made[name]) for name in ("min-max", "least-squares"))
    assert error(net, made["auto"]) < 1.25 * least


def test_small_weights_keep_their_own_scales(tmp_path: Path) -> None:
    import torch

    module = exported_nets.network()
    with torch.no_grad():
        module.first.weight *= 1e-3
        module.first.bias *= 1e-3
        module.norm.running_var *= 1e-6
    folder = exported_nets.write(tmp_path, module, SHAPE)
    exported_nets.samples(folder / "calibration", (64, 1, 8, 8))
    (tmp_path / "out").mkdir()
    assert error(folder, quantized(tmp_path / "out", folder, "static-int8")) < 1e-3


def test_per_tensor_has_one_scale_a_layer(net: Path, tmp_path: Path) -> None:
    out = quantized(tmp_path, net, "static-int8", granularity="per_tensor")
    targets = {str(node.target) for node in load_exported(out / "model.pt2").graph.nodes}
    assert "quantized_decomposed.dequantize_per_channel.default" not in targets
    assert error(net, out) < 1e-2


def test_the_same_inputs_give_the_same_bytes(net: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        contents.append((quantized(tmp_path / name, net, "static-int8") / "model.pt2").read_bytes())
    assert contents[0] == contents[1]


def test_dynamic_ranges_name_the_layers_that_have_no_kernel_for_them(net: Path, tmp_path: Path) -> None:
    out = quantized(tmp_path, net, "dynamic-int8")
    assert error(net, out) < 1e-3
    assert "conv2d second" in notes_in(out)[0]
    assert "linear" not in notes_in(out)[0]


def test_what_computes_on_fixed_ranges_alone_refuses_dynamic_ones(net: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="fixed ranges"):
        quantized(tmp_path, net, "dynamic-int8", scheme="ethos-u55")


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    exported_nets.mixing(tmp_path)
    exported_nets.samples(tmp_path / "calibration", (8, 1, 4))
    with pytest.raises(Refused, match="no layer with weights"):
        quantized(tmp_path, tmp_path, "static-int8")


def test_training_keeps_the_weights_that_do_best_on_held_back_samples(net: Path, tmp_path: Path) -> None:
    out = quantized(tmp_path, net, "qat-int8", epochs=2, learning_rate=1e-3, batch_size=16)
    found = layers(load_exported(out / "model.pt2").graph)
    assert (found.quantized, found.weighted_in_float) == (3, ())
    assert error(net, out) < 0.2  # trained on labels that mean nothing, so they are not learned


def test_a_training_that_diverges_is_refused(net: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="diverged"):
        quantized(tmp_path, net, "qat-int8", epochs=2, learning_rate=1e30, batch_size=16)


def test_a_training_without_labels_that_fit_is_the_users_mistake(net: Path, tmp_path: Path) -> None:
    exported_nets.write(tmp_path, exported_nets.network(), SHAPE)
    exported_nets.samples(tmp_path / "training", (8, 1, 8, 8))
    with pytest.raises(ConfigError, match="labels"):
        quantized(tmp_path, tmp_path, "qat-int8")


def test_weights_of_4_bits_go_in_groups_and_gptq_rounds_them_better(attention: Path, tmp_path: Path) -> None:
    errors = []
    for name in ("int4-group", "gptq-int4"):
        (tmp_path / name).mkdir()
        errors.append(error(attention, quantized(tmp_path / name, attention, name)))
    assert errors[1] < errors[0] < 0.05


def test_weights_alone_of_4_bits(attention: Path, tmp_path: Path) -> None:
    out = quantized(tmp_path, attention, "int4-group", activations="float32")
    assert 0 < error(attention, out) < 0.05


def test_layers_that_groups_do_not_go_into_are_named_or_refused(attention: Path, tmp_path: Path) -> None:
    out = quantized(tmp_path, attention, "int4-group", group_size=64)
    assert json.loads((out / "notes.json").read_text())[0].count("weight") == 4
    with pytest.raises(Refused, match="multiple of 256"):
        quantized(tmp_path, attention, "int4-group", group_size=256)


def test_a_transformer_says_what_of_it_stays_in_float(attention: Path, tmp_path: Path) -> None:
    out = quantized(tmp_path, attention, "static-int8")
    assert error(attention, out) < 1e-2
    assert {"scaled_dot_product_attention", "layer_norm", "gelu"} <= set(re.findall(r"\w+", notes_in(out)[0]))
