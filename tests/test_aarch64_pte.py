"""ExecuTorch programs on an emulated Linux board: equal to this machine, and every fault by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aarch64 import RPI4, status_of

from edgeq.baseline import End, write_ends
from edgeq.devices.exchange import exchanged
from edgeq.emulation.user_mode import UserMode
from edgeq.linux import kit as kits
from edgeq.linux.compiling import system_library
from edgeq.program import OUTPUTS
from edgeq.runners.qemu_aarch64 import QemuAarch64


@pytest.fixture(scope="module")
def mode() -> UserMode:
    return UserMode(RPI4, system_library("libc.so.6").parent, 20.0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def pte() -> bytes:
    """A small network for ExecuTorch, handed to XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).eval()
    exported = torch.export.export(net, (torch.ones(1, 8),))
    return to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch().buffer


def test_a_pte_runs_as_on_this_machine(pte: bytes, tmp_path: Path, out: Path) -> None:
    folder, given = tmp_path / "program", tmp_path / "given"
    (folder / "ship").mkdir(parents=True)
    given.mkdir()
    (folder / "ship/model.pte").write_bytes(pte)
    write_ends(folder, End("x", (1, 8), "FLOAT32"), End("y", (1, 4), "FLOAT32"))
    np.save(given / "x.npy", np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32))
    QemuAarch64("raspberry-pi-4").run(out, folder, given)
    assert np.load(out / OUTPUTS).shape == (6, 4)
    told = json.loads((out / "details/emulation.json").read_text(encoding="utf-8"))
    assert told["differences"]["ExecuTorch"]["most"] < 1e-6
    assert told["equal_in_all"]
    assert exchanged(folder, np.load(given / "x.npy")).model.name == "model.pte"


@pytest.mark.parametrize(("damage", "status", "message"), [
    (lambda pte: pte[:4] + b"ET11" + pte[8:], 66, "is a .pte of version ET11"),
    (lambda pte: pte[:len(pte) // 2], 65, "damaged"),
    (lambda pte: b"no program", 65, "too short"),
    (lambda pte: bytes(len(pte)), 65, "is no .pte"),
    (lambda pte: pte.replace(b"forward", b"foreign"), 73, "has no method"),
    (lambda pte: pte.replace(b"XnnpackBackend", b"OtherNpuEngine"), 68, "needs a backend"),
])
def test_what_is_wrong_with_a_pte_is_told_apart(
    pte: bytes, mode: UserMode, tmp_path: Path, damage: Callable[[bytes], bytes], status: int, message: str
) -> None:
    (tmp_path / "model.pte").write_bytes(damage(pte))
    found, said = status_of(tmp_path, mode, kits.Request("model.pte", 32, 16), bytes(32))
    assert (found, message in said) == (status, True), said
