"""Keras models to the exported program that ExecuTorch starts from, by Keras 3 on PyTorch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq import tool
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.exported.keras_program import ERROR
from edgeq.frontends.h5 import code_in_h5
from edgeq.trust import code_in_keras, keras_config, refuse_code

MODULE = "edgeq.exported.keras_program"
ERRORS = {kind.__name__: kind for kind in (ConfigError, Refused, ToolError)}
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class KerasExported:
    """Load with Keras 3 on PyTorch, export and clean up; `trust` lets code inside the file run.

    Samples stay as they are in Keras, channels last.
    """

    packages: ClassVar = ("torch", "keras", "tf-keras", "h5py")
    programs: ClassVar = (MODULE,)
    trust: bool = False

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.pt2`; ConfigError where the file is damaged, holds code, or does not export."""
        is_archive = source.suffix.lower() == ".keras"
        found = code_in_keras(keras_config(source)) if is_archive else code_in_h5(source)
        if not self.trust:
            refuse_code(found, source.name)
        finished = tool.run([sys.executable, "-P", "-m", MODULE, source.absolute()], timeout_s=TIMEOUT_S,
                            cwd=out, name=MODULE)
        if (out / ERROR).exists():
            kind, message, hint = json.loads((out / ERROR).read_text(encoding="utf-8"))
            raise ERRORS[kind](message, hint)
        if finished.status:
            raise ToolError(f"{MODULE} ended with status {finished.status}", tool.tail(finished.output))
