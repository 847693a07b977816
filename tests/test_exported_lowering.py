"""Exported programs lowered to .pte files: what takes their operators, and what they cost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.backends.executorch import Executorch
from edgeq.errors import Refused, ToolError
from edgeq.exported.ethos_u import Pieces
from edgeq.exported.profiling import by_operator
from edgeq.exported.running import run_pte
from edgeq.meters.executorch_clock import ExecutorchClock
from edgeq.program import costs_in, runnable_in
from edgeq.recipes import RECIPES
from edgeq.runners.executorch import Executorch as Runner
from tests import exported_nets

U55 = Executorch("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
MACS = 8 * 9 * 64 + 8 * 9 * 64 + 8 * 16 * 4


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a baseline, data sets, and the baseline as static-int8 for each scheme."""
    folder = exported_nets.write(tmp_path_factory.mktemp("net"), exported_nets.network(), (1, 1, 8, 8))
    exported_nets.samples(folder / "samples", (32, 1, 8, 8))
    for scheme in ("xnnpack", "ethos-u55"):
        (folder / scheme).mkdir()
        recipe = RECIPES["executorch", "static-int8"](scheme=scheme)
        recipe.quantize(folder / scheme, folder, folder / "samples")
    return folder


@pytest.fixture(scope="session")
def program(quantized: Path) -> Path:
    """The program for XNNPACK."""
    return compiled(quantized / "program", Executorch(), quantized / "xnnpack")


def compiled(out: Path, backend: Executorch, model: Path) -> Path:
    out.mkdir()
    backend.compile(out, model)
    return out


def test_xnnpack_takes_all_of_it_and_the_costs_say_so(program: Path) -> None:
    costs = costs_in(program)
    assert costs["model_bytes"].value == (program / "ship/model.pte").stat().st_size
    assert (costs["mapped_ops_ratio"].value, costs["macs"].value) == (1, MACS)
    assert costs["arena_bytes"].source == "unavailable"
    placed = json.loads((program / "details/placement.json").read_text())
    assert placed["cpu"] == {}
    assert placed["delegated"]["convolution"] == 2


def test_what_xnnpack_computes_is_the_quantized_model(program: Path, quantized: Path, tmp_path: Path) -> None:
    outputs = []
    for name, folder in (("pte", program), ("pt2", quantized / "xnnpack")):
        (tmp_path / name).mkdir()
        Runner().run(tmp_path / name, folder, quantized / "samples")
        outputs.append(np.load(tmp_path / name / "outputs.npy"))
    assert outputs[0].shape == (32, 4)
    assert np.abs(outputs[0] - outputs[1]).max() < 0.02 * np.abs(outputs[1]).max()


def test_another_process_lowers_to_the_same_bytes(program: Path, quantized: Path, tmp_path: Path) -> None:
    text = ("import sys\nfrom pathlib import Path\nfrom edgeq.backends.executorch import Executorch\n"
            "from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa\n"
            "Executorch().compile(*map(Path, sys.argv[1:]))\n"
            "made = bilinear_2d._get_bilinear_2d_graphs, sdpa.get_graphs\n"
            "print([each.cache_info().currsize for each in made])\n")
    argv = [sys.executable, "-c", text, tmp_path, quantized / "xnnpack"]
    ran = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[0, 0]"  # patterns that the model has none of
    for name in ("model.pte", "model.bpte"):
        assert (tmp_path / "ship" / name).read_bytes() == (program / "ship" / name).read_bytes()


def test_the_bundled_program_passes_on_its_own_inputs(program: Path, quantized: Path) -> None:
    import torch  # noqa: F401  the runtime's library links to torch's
    from executorch.extension.pybindings import _C

    bundle = _C._load_bundled_program_from_buffer((program / "ship/model.bpte").read_bytes())
    wanted = run_pte(program / "ship/model.pte", np.load(quantized / "samples/x.npy")[:3])
    for case in range(3):  # it raises where an output is not the one expected
        outputs = bundle.verify_result_with_bundled_expected_output("forward", case, 1e-5, 1e-6)
        np.testing.assert_allclose(outputs[0].numpy()[0], wanted[case], rtol=1e-5, atol=1e-6)


def test_the_clock_says_where_the_time_goes(program: Path, quantized: Path) -> None:
    clock = ExecutorchClock(runs=11, warm_up=1, seconds=0)
    value = clock.measure(program, quantized / "samples")["latency_ms"]
    assert (value.source, value.n, value.aggregation) == ("measured", 20, "median of 10 inputs' least")
    assert value.value
    assert value.interval
    assert "by ETDump" in (value.basis or "")
    named = by_operator(program / "ship/model.pte", np.load(quantized / "samples/x.npy"))
    assert any("Convolution" in name for name in named)


def test_an_ethos_u_is_run_by_the_quantized_program_timed_by_vela(quantized: Path, tmp_path: Path) -> None:
    program = compiled(tmp_path / "program", U55, quantized / "ethos-u55")
    assert runnable_in(program).name == "functional.pt2"
    costs = costs_in(program)
    placed = json.loads((program / "details/placement.json").read_text())
    left, taken = (sum(placed[place].values()) for place in ("cpu", "delegated"))
    assert costs["mapped_ops_ratio"].value == pytest.approx(taken / (taken + left))
    assert costs["cycles"].source == ("unavailable" if left else "simulated")
    assert sum(float(row["cycles_total"]) for row in placed["vela"]) > MACS / 128


def test_a_vela_that_fails_is_a_tools_fault(quantized: Path, tmp_path: Path) -> None:
    wrong = Executorch("ethos-u55-128", "No_Such_System", "Shared_Sram")
    with pytest.raises(ToolError, match="vela ended with status"):
        wrong.compile(tmp_path, quantized / "ethos-u55")


def test_pieces_run_in_turn_and_share_their_working_memory() -> None:
    pieces = Pieces([{"cycles_total": "10", "sram_memory_used": "3"},
                     {"cycles_total": "5", "sram_memory_used": "4"}])
    assert (pieces.total("cycles_total"), pieces.most("sram_memory_used")) == (15, 4)
    with pytest.raises(ToolError, match="no number in column"):
        pieces.total("none")


def test_a_delegate_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    folder = exported_nets.write(tmp_path, exported_nets.attention(), (1, 4, 32))
    exported_nets.samples(folder / "samples", (32, 4, 32))
    (tmp_path / "quantized").mkdir()
    recipe = RECIPES["executorch", "int4-group"](activations="float32")
    recipe.quantize(tmp_path / "quantized", folder, folder / "samples")
    with pytest.raises(Refused, match="something else than the quantized model"):
        compiled(tmp_path / "program", Executorch(), tmp_path / "quantized")
