"""Quantizing an exported program with PT2E: observe, choose grids, convert, and look at what came out.

PT2E is torchao's quantization of exported graphs (https://docs.pytorch.org/ao/stable/pt2e_quantization):
a delegate's quantizer says where grids belong, and pairs of operators that quantize and dequantize mark
them for the delegate's compiler.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

from edgeq.arrays import Array
from edgeq.errors import Refused
from edgeq.exported.models import baseline_in, exported_again, save
from edgeq.exported.opening import Module, opened, with_open_batch
from edgeq.exported.promise import Layers, layers, see_promise
from edgeq.exported.ranges import Range, fix_ranges
from edgeq.exported.schemes import Grids, prepared
from edgeq.exported.tracing import first_line
from edgeq.exported.training import Course, train
from edgeq.quantization import note
from edgeq.samples import labels_in, samples_in

NAME = "PT2E"


def write_static(out: Path, baseline: Path, calibration: Array, grids: Grids, asked: Range) -> None:
    """Write `out/model.pt2`, every layer with weights on integers, ranges from `calibration` (n, …).

    Raises Refused where a layer with weights stays in float.
    """
    module = opened(baseline_in(baseline))
    graph = observing(module, grids)
    fix_ranges(graph, module, calibration, asked)
    write_converted(out, baseline, (graph, module.example, calibration), grids)


def write_dynamic(out: Path, baseline: Path, grids: Grids) -> None:
    """Write `out/model.pt2` with int8 weights; the kernels find the ranges of activations as they run.

    Raises Refused where the delegate has no such kernel for any layer of the model.
    """
    module = opened(baseline_in(baseline))
    graph = observing(module, grids)
    module_outputs(graph, module)
    exported = converted(graph, module.example)
    found = layers(exported.graph)
    if not found.quantized:
        kinds = sorted({name.split()[0] for name in found.weighted_in_float}) or ["no layer with weights"]
        raise Refused(f"no layer of the model has a kernel for dynamic ranges: it has {', '.join(kinds)}",
                      "static-int8 takes convolutions, too")
    if found.weighted_in_float:
        names = ", ".join(found.weighted_in_float)
        note(out, f"in float, for dynamic ranges have no kernel for them: {names}")
    save(out, exported, baseline)


def write_trained(out: Path, given: tuple[Path, Path], grids: Grids, course: Course) -> None:
    """Write `out/model.pt2` of a baseline that was trained on with `grids` simulated.

    Raises Refused where a layer with weights stays in float, before the training, or that diverges.
    """
    baseline, training = given
    x, y = samples_in(training), labels_in(training)
    start = opened(baseline_in(baseline), course.batch_size)
    seen = Module(observing(start, grids), start.example, start.batch)
    seen.outputs(x[:course.batch_size])
    see_promise(converted(copy.deepcopy(seen.graph), start.example).graph, grids.scheme)
    train(seen, x, y, course)
    write_converted(out, baseline, (seen.graph, start.example, x), grids)


def observing(module: Module, grids: Grids) -> Any:
    """A copy of a module's graph with observers, or in a training simulated grids, for `grids`."""
    with warnings.catch_warnings(action="ignore"):
        graph = prepared(copy.deepcopy(module.graph), grids)
    return with_open_batch(graph) if module.batch > 1 else graph  # a quantizer may put reshapings in


def module_outputs(graph: Any, module: Module) -> None:
    """Run `graph` once, which lets the observers of weights see them."""
    import torch

    with torch.no_grad():
        graph(module.example)


def write_converted(out: Path, baseline: Path, made: tuple[Any, Any, Array], grids: Grids) -> None:
    """Write `out/model.pt2` of a graph whose grids are fixed; Refused as `see_promise`.

    `made` is that graph, an example of its input, and samples.
    """
    graph, example, samples = made
    exported = converted(graph, example)
    found = see_promise(exported.graph, grids.scheme)
    note_floats(out, found)
    save(out, exported, baseline, samples)


def note_floats(out: Path, found: Layers) -> None:
    """Say which operators stay in float, where any do."""
    if told := found.told():
        note(out, f"in float: {told}")


def converted(graph: Any, example: Any) -> Any:
    """`graph` with its fixed grids as operators that quantize and dequantize, exported with a batch of 1."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    with warnings.catch_warnings(action="ignore"):
        try:
            return exported_again(convert_pt2e(graph), example)
        except (RuntimeError, ValueError, AssertionError, KeyError) as error:
            raise Refused(f"{NAME} cannot convert the model: {first_line(error)}",
                          "another recipe, or other operators in the model") from error
