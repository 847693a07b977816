"""Exported programs to .tflite by litert-torch, so that a PyTorch model reaches every other target, too."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

from edgeq.errors import Refused
from edgeq.exported.baseline import check
from edgeq.exported.tracing import FRAME, line_of

LACKING = re.compile(r"Lowering not found: (\S+)")


def tflite(program: Any, example: tuple[Any, ...], origin: str) -> bytes:
    """The .tflite file of an exported program that takes `example`.

    Raises ConfigError where it cannot be a baseline, Refused where TFLite lacks an operator that it has.
    """
    import litert_torch

    check(program, origin)
    module = program.module(check_guards=False)
    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
        try:
            litert_torch.convert(module, example).export(f"{folder}/model.tflite")
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise Refused(f"litert-torch cannot convert {origin}: {_told(error)}",
                          "build the model from operators that TFLite has") from error
        return (Path(folder) / "model.tflite").read_bytes()


def _told(error: Exception) -> str:
    text = str(error).strip()
    first = (text.splitlines() or [type(error).__name__])[0]
    found = LACKING.search(text)
    return f"TFLite has no {found[1]}{line_of(FRAME.findall(text))}" if found else first
