"""`python -m edgeq.exported.keras_program SOURCE`: exports a Keras model into the folder that it runs in.

A program of its own, for which library Keras computes with is settled once in a process, and in a worker
that is TensorFlow. What is wrong with the model is left in error.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError, EdgeqError
from edgeq.exported.baseline import write_exported
from edgeq.exported.cleaning import cleaned
from edgeq.exported.tracing import exported

ERROR = "error.json"
HINT = "save it again with the library that trained it"
KERNEL = ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint")
# What Keras 2 writes of a layer, always the same, and Keras 3 does not know.
OLDER = {"DepthwiseConv1D": ("groups",), "DepthwiseConv2D": ("groups",), "SeparableConv1D": KERNEL,
         "SeparableConv2D": KERNEL}


def main(source: Path) -> None:
    """Write the baseline of the Keras file at `source` here, or what is wrong with it."""
    os.environ["KERAS_BACKEND"] = "torch"
    try:
        write_exported(Path(), _exported(source), source.name)
    except EdgeqError as error:
        told = (type(error).__name__, error.message, error.hint)
        Path(ERROR).write_text(json.dumps(told), encoding="utf-8")


def _exported(source: Path) -> Any:
    """The cleaned program of the model at `source`, for one sample in Keras's own layout."""
    import torch

    model = _loaded(source)
    given = model.inputs[0]
    shape = tuple(given.shape[1:])
    if None in shape:
        raise ConfigError(f"{source.name}: its input has the shape {list(given.shape)}",
                          "save a model whose input has a fixed shape; only the batch may be open")
    example = torch.zeros((1, *shape), dtype=getattr(torch, str(given.dtype)))
    program = exported(model, (example,), source.name)
    return exported(cleaned(program.module(check_guards=False), example), (example,), source.name)


def _loaded(source: Path) -> Any:
    """The Keras model at `source`, in inference mode; its frontend has looked for code inside it already."""
    import keras

    known = {name: _older(name) for name in OLDER} if source.suffix.lower() != ".keras" else None
    try:
        model = keras.models.load_model(source, known, compile=False, safe_mode=False)
        inputs, outputs = len(model.inputs), len(model.outputs)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError) as error:
        cause = str(error).rpartition("Exception encountered: ")[2].strip().splitlines()
        raise ConfigError(f"{source.name} cannot be loaded by Keras on PyTorch: "
                          f"{cause[0] if cause else type(error).__name__}", HINT) from error
    if (inputs, outputs) != (1, 1):
        raise ConfigError(f"{source.name} has {inputs} inputs and {outputs} outputs",
                          "export a model with one input and one output")
    model.eval()
    return model


def _older(name: str) -> Any:
    """Keras 3's layer `name`, made also from what Keras 2 writes of it."""
    import keras

    kind = getattr(keras.layers, name)

    def make(self: Any, *args: Any, **named: Any) -> None:
        kind.__init__(self, *args, **{key: value for key, value in named.items() if key not in OLDER[name]})

    return type(name, (kind,), {"__init__": make})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
