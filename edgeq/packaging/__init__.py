"""What a firmware or app engineer takes beside the program: how to feed it, and glue for the interpreter.

model.json says what goes in and comes out, for any target. Where the interpreter runs on a microcontroller,
the folder firmware/ has the model as a C array with all that links it. Firmware that edgeq generates brings
its own (firmware/project.py). The one rule: nothing here is computed anew; it is what was run and judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.baseline import ends_in
from edgeq.errors import ToolError
from edgeq.firmware.c_text import identifier
from edgeq.graph import read
from edgeq.interpret import on_grid, quantize
from edgeq.packaging.feeding import Feed, fed_exported, fed_tflite
from edgeq.packaging.glue import Shipped
from edgeq.packaging.pte import texts as texts_for_executorch
from edgeq.packaging.tflm import texts as texts_for_tflm
from edgeq.program import OUTPUTS, PTE, SHIP, costs_in, runnable_in
from edgeq.samples import samples_in

FOLDER, FEED = "firmware", "model.json"
GOLDEN = 4  # golden vectors: the first samples of the evaluation data
SUFFIXES = (".tflite", ".pte")


@dataclass(frozen=True)
class Package:
    """For the model of this name; `micro` where its interpreter runs on a microcontroller."""

    packages: ClassVar = ("flatbuffers",)
    model: str
    micro: bool = False

    def pack(self, out: Path, program: Path, outputs: Path, evaluation: Path) -> None:
        """Write into `out` what goes beside ship/ of `program`; `outputs` are its own for `evaluation`."""
        shipped = [file for file in sorted((program / SHIP).iterdir()) if file.suffix in SUFFIXES]
        if not shipped:
            return
        if len(shipped) > 1:
            raise ToolError(f"the program has {len(shipped)} models", "this is a bug of edgeq")
        feed = _feed(shipped[0], program)
        (out / FEED).write_text(json.dumps(feed.as_json(self.model), indent=1), encoding="utf-8")
        if self.micro:
            costs = costs_in(program) | costs_in(outputs)
            given = Shipped(identifier(self.model), shipped[0].read_bytes(), feed, costs,
                            _golden(program, outputs, evaluation))
            texts = texts_for_executorch if shipped[0].name == PTE else texts_for_tflm
            _write(out / FOLDER, texts(given))


def is_micro(*roles: object) -> bool:
    """Whether one of a target's roles says of itself that it is for a microcontroller's interpreter."""
    return any(getattr(role, "micro", False) for role in roles)


def _feed(model: Path, program: Path) -> Feed:
    if model.name == PTE:
        return fed_exported(model, ends_in(program))
    return fed_tflite(model)


def _golden(program: Path, outputs: Path, evaluation: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first samples, and what was computed of them, both (n, elements) of the model's own types."""
    model = runnable_in(program)
    samples = np.asarray(samples_in(evaluation)[:GOLDEN])
    found = np.load(outputs / OUTPUTS, mmap_mode="r", allow_pickle=False)[:GOLDEN]
    if model.suffix == ".tflite":
        graph = read(model)
        sink = graph.tensors[graph.outputs[0]]
        samples, found = on_grid(graph, samples), quantize(np.asarray(found), sink.dtype, sink.quantization)
    return samples.reshape(len(samples), -1), np.asarray(found).reshape(len(samples), -1)


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
