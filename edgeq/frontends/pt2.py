"""Exported programs of PyTorch (`.pt2`) to the one that ExecuTorch starts from, of fixed shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.exported.baseline import write_exported
from edgeq.exported.loading import loaded
from edgeq.exported.tracing import exported


@dataclass(frozen=True)
class Pt2:
    """Load the program and close its batch at 1; `trust` lets pickles inside the archive run."""

    packages: ClassVar = ("torch",)
    trust: bool = False

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.pt2`; ConfigError where the archive is damaged, dynamic, or holds code."""
        module, example = loaded(source, trust=self.trust)
        write_exported(out, exported(module, example, source.name), source.name)
