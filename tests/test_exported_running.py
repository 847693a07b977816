"""What runs exported programs and .pte files, and what it says of those that are no such thing."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import ConfigError
from edgeq.exported.opening import opened
from edgeq.exported.running import load_exported, run_exported, run_pte
from tests import exported_nets


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small convolutional baseline, its .pte by the portable kernels, and samples."""
    return exported_nets.made(tmp_path_factory.mktemp("small"))


def samples(count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).random((count, 1, 8, 8)).astype(np.float32)


def test_the_program_gives_what_the_exported_program_gives(small: Path) -> None:
    wanted = run_exported(small / "baseline.pt2", samples())
    assert wanted.shape == (5, 4)
    np.testing.assert_allclose(run_pte(small / "ship/model.pte", samples()), wanted, rtol=1e-5, atol=1e-6)


def test_samples_whose_shape_differs_by_dimensions_of_one_are_taken(small: Path) -> None:
    flat = samples().reshape(5, 8, 8, 1)
    program = small / "ship/model.pte"
    np.testing.assert_array_equal(run_pte(program, flat), run_pte(program, samples()))


def test_a_reshaping_that_names_the_batch_is_opened_where_that_changes_nothing(small: Path) -> None:
    module = opened(load_exported(small / "baseline.pt2"), 4)
    assert module.batch == 4
    together, one_by_one = module.outputs(samples()), run_exported(small / "baseline.pt2", samples())
    np.testing.assert_allclose(together.numpy(), one_by_one, rtol=1e-5, atol=1e-6)


def test_a_graph_that_mixes_its_samples_stays_closed(tmp_path: Path) -> None:
    file = exported_nets.mixing(tmp_path)
    assert opened(load_exported(file), 4).batch == 1
    assert run_exported(file, np.ones((3, 1, 4), np.float32)).shape[0] == 3


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda content: b"", "no ExecuTorch program"),
    (lambda content: b"not a program at all", "no ExecuTorch program"),
    (lambda content: content[: len(content) // 2], "damaged"),
    (lambda content: content[:4] + b"ET99" + content[8:], "version ET99"),
])
def test_a_pte_that_is_none_is_the_files_fault(small: Path, tmp_path: Path, spoil, said: str) -> None:
    file = tmp_path / "model.pte"
    file.write_bytes(spoil((small / "ship/model.pte").read_bytes()))
    with pytest.raises(ConfigError, match=said) as caught:
        run_pte(file, samples())
    assert "again" in caught.value.hint


@pytest.mark.parametrize("spoil", [
    lambda content: b"", lambda content: content[: len(content) // 2],
    lambda content: content.replace(struct.pack("<f", exported_nets.MARK), struct.pack("<f", 7.0)),
], ids=["empty", "half", "a weight changed"])
def test_a_pt2_that_is_damaged_is_the_files_fault(small: Path, tmp_path: Path, spoil) -> None:
    content = (small / "baseline.pt2").read_bytes()
    spoiled = spoil(content)
    assert spoiled != content
    (tmp_path / "model.pt2").write_bytes(spoiled)
    with pytest.raises(ConfigError, match="damaged"):
        run_exported(tmp_path / "model.pt2", samples())
