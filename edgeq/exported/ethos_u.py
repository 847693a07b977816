"""Lowering for Arm Ethos-U: ExecuTorch's Arm backend writes TOSA, and Vela compiles each piece of it.

The backend would call Vela within its own process, where a crash of Vela ends everything, and every
piece's figures would overwrite the last one's. Here Vela runs as a program of its own, and the figures
of each piece are kept.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edgeq import tool
from edgeq.errors import ToolError

Row = Mapping[str, str]


@dataclass(frozen=True)
class Npu:
    """Vela's own words for an NPU and the system around it."""

    accelerator_config: str
    system_config: str
    memory_mode: str
    timeout_s: float


@dataclass(frozen=True)
class Pieces:
    """The summaries that Vela wrote, one for each piece of the model on the NPU, in their order."""

    rows: list[Row] = field(default_factory=list)

    def total(self, column: str) -> float:
        """The sum over the pieces, which run one after the other."""
        return sum(_number(row, column) for row in self.rows)

    def most(self, *columns: str) -> float:
        """The largest piece's sum of `columns`: pieces take turns in their working memory."""
        return max((sum(_number(row, column) for column in columns) for row in self.rows), default=0.0)


def partitioners_of(npu: Npu) -> list[Any]:
    """What gives the NPU all that it takes."""
    from executorch.backends.arm.ethosu import EthosUCompileSpec, EthosUPartitioner

    return [EthosUPartitioner(EthosUCompileSpec(
        npu.accelerator_config, system_config=npu.system_config, memory_mode=npu.memory_mode))]


@contextmanager
def vela_apart(npu: Npu) -> Iterator[Pieces]:
    """Let the Arm backend run Vela as a program of its own in the block, and keep what it states."""
    from executorch.backends.arm import arm_vela

    pieces = Pieces()

    def main(words: Sequence[str]) -> None:
        place = Path(next(word for word in words if word.startswith("--output-dir=")).partition("=")[2])
        pieces.rows.append(_compiled(words, place, npu.timeout_s))

    kept = arm_vela.vela
    arm_vela.vela = SimpleNamespace(main=main)
    try:
        yield pieces
    finally:
        arm_vela.vela = kept


def _compiled(words: Sequence[str], place: Path, timeout_s: float) -> Row:
    """Run Vela on one piece and return the row of its summary; ToolError where there is none."""
    finished = tool.run([sys.executable, "-m", "ethosu.vela", *words], timeout_s=timeout_s,
                        cwd=place.parent, name="vela")
    summaries = sorted(place.glob("*_summary_*.csv"))
    if finished.status or not summaries:
        raise ToolError(f"vela ended with status {finished.status} and no program",
                        tool.tail(finished.output))
    with summaries[0].open(encoding="utf-8", errors="replace", newline="") as file:
        row = next(csv.DictReader(file), None)
    if row is None:
        raise ToolError("vela's summary is empty", "run it again, or use the pinned version")
    return row


def _number(row: Row, column: str) -> float:
    try:
        return float(row[column])
    except (KeyError, ValueError) as error:
        raise ToolError(f"vela's summary has no number in column {column!r}",
                        "its format may have changed: use the pinned version") from error
