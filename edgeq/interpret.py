"""Running a .tflite over samples, in the two interpreters that there are for it.

LiteRT is what hosts and phones run (XNNPACK or its reference kernels), TensorFlow Lite Micro what
microcontrollers run; both take one sample at a time, and here both take and give floats: samples
are put on the grid of the model's input and outputs are read off the grid of its output.
An interpreter can crash, so this runs in workers only.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.errors import ConfigError, Refused
from edgeq.graph import Graph, Quantization, Tensor, read

Kernels = Literal["xnnpack", "reference"]
RESOLVERS = {"xnnpack": "AUTO", "reference": "BUILTIN_REF", "own": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}
BYTES = {"FLOAT32": 4, "INT32": 4, "FLOAT16": 2, "INT16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1}
ROOM = 1 << 20
NO_KERNEL = "Didn't find op"


def quantize(values: Array, dtype: str, grid: Quantization | None) -> Array:
    """`values` on the grid of a tensor: round(x / scale) + zero_point, ties away from zero.

    This is the arithmetic of TFLite's QUANTIZE. Without a grid the values are only cast.
    """
    kind = np.dtype(dtype.lower())
    if grid is None:
        return values.astype(kind)
    scaled = (values.astype(np.float32) / grid.scales[0]).astype(np.float64)  # x + 0.5 exactly
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + grid.zero_points[0]
    bounds = np.iinfo(kind)
    gridded: Array = np.clip(rounded, bounds.min, bounds.max).astype(kind)
    return gridded


def dequantize(values: Array, grid: Quantization | None) -> Floats:
    """Scale * (q - zero_point) as float32; without a grid the values are only cast."""
    if grid is None:
        return values.astype(np.float32)
    exact = np.dtype("float32" if values.dtype.itemsize <= 2 else "float64")  # holds q - zero_point as it is
    point, scale = grid.zero_points[0].astype(exact), grid.scales[0].astype(exact)
    real: Floats = ((values.astype(exact) - point) * scale).astype(np.float32, copy=False)
    return real


def run_litert(model: Path, samples: Array, kernels: Kernels) -> Floats:
    """The outputs (n, *shape) of the model at `model` for `samples` (n, *shape), by LiteRT.

    Raises Refused where LiteRT has no kernel for an operator of the model.
    """
    graph = read(model)
    return from_grid(graph, litert_outputs(model, on_grid(graph, samples), kernels))


def on_grid(graph: Graph, samples: Array) -> Array:
    """`samples` (n, …), real, as the input of `graph` takes them: (n, *shape), of its own type."""
    source = graph.tensors[graph.inputs[0]]
    given = quantize(samples, source.dtype, source.quantization)
    return np.ascontiguousarray(given.reshape(len(samples), *source.shape))


def from_grid(graph: Graph, outputs: Array) -> Floats:
    """Outputs (n, *shape) of `graph`, of its own type, as real numbers."""
    return dequantize(outputs, graph.tensors[graph.outputs[0]].quantization)


def litert_outputs(model: Path, given: Array, kernels: Kernels) -> Array:
    """What the model makes of `given` (n, *shape), both of its own types; errors as `litert`."""
    graph = read(model)
    interpreter = litert(model, kernels)
    source, sink = graph.inputs[0], graph.outputs[0]
    reset = interpreter.reset_all_variables if _stateful(graph) else _nothing

    def infer(sample: Array) -> Array:
        reset()
        interpreter.set_tensor(source, sample)
        interpreter.invoke()
        output: Array = interpreter.get_tensor(sink)
        return output

    return _each(graph, given, infer)


def litert(model: Path, kernels: Kernels | Literal["own"], *, keep_all: bool = False) -> Any:
    """A LiteRT interpreter with its tensors allocated, on one thread.

    With `keep_all` every tensor can be read after an inference, those that LiteRT's `own` fast kernels, or
    the reference ones, write: XNNPACK keeps its own to itself. Raises Refused where LiteRT has no
    kernel for an operator, ConfigError for a damaged file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType[RESOLVERS[kernels]]
    try:
        interpreter = Interpreter(
            model_path=str(model), num_threads=1, experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=keep_all)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        said = _first_line(error)
        if isinstance(error, ValueError) and not said.startswith(NO_KERNEL):
            raise ConfigError(f"{model.name} is damaged: {said}", "make or download it again") from error
        raise Refused(f"LiteRT cannot run the model: {said}",
                      "see the log for the operator; another recipe may avoid it") from error
    return interpreter


def run_tflm(model: Path, samples: Array) -> tuple[Floats, int]:
    """The outputs (n, *shape) for `samples` by TensorFlow Lite Micro, and the arena used (bytes).

    Raises Refused, in TFLM's own words, where it cannot run an operator of the model.
    """
    graph = read(model)
    outputs, arena = tflm_outputs(model, on_grid(graph, samples))
    return from_grid(graph, outputs), arena


def tflm_outputs(model: Path, given: Array) -> tuple[Array, int]:
    """As `run_tflm`, of inputs and outputs (n, *shape) of the model's own types."""
    graph, interpreter = read(model), tflm(model)
    reset = interpreter.reset if _stateful(graph) else _nothing

    def infer(sample: Array) -> Array:
        reset()
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        output: Array = interpreter.get_output(0)
        return output

    with said_by_tflm():
        outputs = _each(graph, given, infer)
    with _captured_stderr() as said:
        interpreter.print_allocations()
        return outputs, arena_total(said())


def tflm(model: Path, *, keep_all: bool = False) -> Any:
    """An interpreter of TensorFlow Lite Micro; with `keep_all` every tensor can be read afterwards.

    Raises Refused where it has no kernel for an operator.
    """
    from tflite_micro.python.tflite_micro import runtime

    config = runtime.InterpreterConfig
    with said_by_tflm():
        return runtime.Interpreter.from_file(
            str(model), arena_size=_arena_bound(model, read(model)),
            intrepreter_config=config.kPreserveAllTensors if keep_all else config.kAllocationRecording)


@contextmanager
def said_by_tflm() -> Iterator[None]:
    """Makes of TFLM's own errors in the block a Refused, with what it prints: the reason is there."""
    with _captured_stderr() as said:
        try:
            yield
        except RuntimeError as error:
            raise Refused(f"TensorFlow Lite Micro cannot run the model: {said() or error}",
                          "an int8 recipe, or operators that TFLM has") from error


def arena_total(report: str) -> int:
    """The bytes in `Arena allocation total N bytes`, of TFLM's report of its allocations."""
    words = report.split()
    return int(words[words.index("total") + 1])


def _each(graph: Graph, given: Array, infer: Callable[[Array], Array]) -> Array:
    """The outputs of `infer`, (n, *shape without a batch of one)."""
    sink = graph.tensors[graph.outputs[0]]
    shape = sink.shape[1:] if sink.shape[:1] == (1,) else sink.shape
    return np.stack([infer(sample) for sample in given]).reshape(len(given), *shape)


def _stateful(graph: Graph) -> bool:
    return any(tensor.variable for tensor in graph.tensors)


def _nothing() -> None:
    """Nothing to reset in a model without state."""


def _arena_bound(model: Path, graph: Graph) -> int:
    """An arena that is large enough for certain: every tensor in a place of its own, and room."""
    tensors: tuple[Tensor, ...] = graph.tensors
    size = sum(t.elements * BYTES.get(t.dtype, 8) + 256 for t in tensors if not t.constant)
    return 2 * size + 4 * model.stat().st_size + ROOM


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """What native code writes to file descriptor 2 in the block, to be asked for at any time."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def said() -> str:
            end = file.seek(0, os.SEEK_END)
            return os.pread(file.fileno(), end, 0).decode("utf-8", "replace").strip()

        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
