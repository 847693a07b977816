"""What each operator of a quantized exported program loses, against the float one that it was made of.

As layer_errors.py does it for a .tflite: both programs run side by side, sample by sample. What an operator
of the quantized one gives is taken off its grid, where one follows, and what a layer of the float one gives
behind the normalization that is folded into the other's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgeq.arrays import Array
from edgeq.exported.counting import COUNTS
from edgeq.exported.models import baseline_in
from edgeq.exported.opening import entry_of, kind_of
from edgeq.exported.promise import PASSING, WEIGHTED, name_of
from edgeq.exported.running import load_exported
from edgeq.judging.scoring import decibels
from edgeq.ptq.layer_errors import NO_NUMBERS, NO_SAMPLES, TRAINED, Errors, Row, powers, write
from edgeq.ptq.sensitivity import spread
from edgeq.quantization import EXPORTED
from edgeq.samples import samples_in

ALONE = "what each layer costs alone is told of .tflite models only"
NORM = "batch_norm"
GRIDS = "quantize"  # in the names of what puts values on a grid and takes them off it
OTHERS = "the float program has other operators: {} and not {}"


@dataclass(frozen=True)
class ExportedLayerErrors:
    """The errors of a .pt2 over so many calibration `samples`; one that was `trained` on has none."""

    packages: ClassVar = ("torch", "torchao", "executorch")
    native: ClassVar = True
    trained: bool = False
    samples: int = 32

    def measure(self, out: Path, quantized: Path, baseline: Path, calibration: Path | None) -> None:
        """Write `out/errors.json` of the program in `quantized`, made of the one in `baseline`."""
        program = load_exported(quantized / EXPORTED)
        ours, theirs = _module(baseline_in(baseline)), _module(program)
        found = [*operators(theirs.graph)]
        wanted = [node for node in operators(ours.graph) if not _is_folded(node, found)]
        rows = [_row(index, node) for index, node in enumerate(found)]
        reason = TRAINED if self.trained else _unlike([*map(name_of, wanted)], [*map(name_of, found)])
        if reason or calibration is None:
            write(out, Errors(0, tuple(replace(row, reason=reason or NO_SAMPLES) for row in rows)))
            return
        samples = spread(samples_in(calibration), self.samples)
        sums = _compared((ours, theirs), (wanted, found), _inputs(entry_of(program), samples))
        write(out, Errors(len(samples), tuple(map(_filled, rows, sums))))


def operators(graph: Any) -> Iterator[Any]:
    """The calls of a torch.fx.Graph that compute; not what only moves values, or puts them on a grid."""
    for node in graph.nodes:
        name = name_of(node)
        if name and GRIDS not in name and "qparams" not in name and name not in PASSING:
            yield node


def _unlike(wanted: list[str], found: list[str]) -> str:
    """How two lists of operators differ, where nothing can be compared; empty where it can."""
    differing = ((ours, theirs) for ours, theirs in zip(wanted, found, strict=False) if ours != theirs)
    if pair := next(differing, None):
        return OTHERS.format(*pair)
    return "" if len(wanted) == len(found) else OTHERS.format(f"{len(wanted)} of them", len(found))


def _module(program: Any) -> Any:
    import torch

    torch.set_num_threads(1)
    return program.module(check_guards=False)


def _row(index: int, node: Any) -> Row:
    """An operator; its weights are the constants that it reads, at what they take in the program."""
    count = COUNTS.get(name_of(node))
    shape = getattr(node.meta.get("val"), "shape", ())
    held = sum(_bytes(each) for each in node.all_input_nodes)
    return Row(index, name_of(node), node.name, tuple(shape), count(node) if count else 0, held)


def _filled(row: Row, power: Array) -> Row:
    """An operator with its error, by the powers of what is wanted and of what is off."""
    if not np.isfinite(power).all():
        return replace(row, reason=NO_NUMBERS)
    return replace(row, sqnr_db=round(decibels(*power), 3), reason=ALONE)


def _bytes(node: Any) -> int:
    """What a constant behind `node` takes, as far as only a grid is between; 0 for what is computed."""
    while node.op == "call_function" and GRIDS in name_of(node) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    value = node.meta.get("val")
    return prod(value.shape) * value.element_size() if node.op == "get_attr" and value is not None else 0


def _is_folded(node: Any, found: list[Any]) -> bool:
    """Whether `node` normalizes what a layer gives, and no operator `found` in the quantized program does."""
    return name_of(node) == NORM and name_of(node.args[0]) in WEIGHTED and not any(
        name_of(other) == NORM for other in found)


def _settled(node: Any, folded: bool) -> Any:  # noqa: FBT001
    """What stands for the output of a float `node`: that, normalized where it is `folded`."""
    users = [*node.users]
    normalized = folded and name_of(node) in WEIGHTED and len(users) == 1 and name_of(users[0]) == NORM
    return users[0] if normalized else node


def _on_grid(node: Any) -> Any:
    """What stands for the output of `node`: that, off the grid that it is put on next, if on one alone."""
    place = node
    for _ in range(2):  # quantize, dequantize
        users = [*place.users]
        if len(users) != 1 or GRIDS not in name_of(users[0]):
            return node
        place = users[0]
    return place


def _inputs(entry: Any, samples: Array) -> Iterator[Any]:
    """`samples` one by one, as a program with this `entry` takes them."""
    import torch

    for sample in samples:
        yield torch.from_numpy(np.asarray(sample, kind_of(entry)).reshape(tuple(entry.shape)))


def _compared(
    modules: tuple[Any, Any], nodes: tuple[list[Any], list[Any]], inputs: Iterator[Any]
) -> list[Array]:
    """Of each pair of operators: the sums of the squares of the float outputs, and of what is off."""
    wanted, found = nodes
    folded = not any(name_of(node) == NORM for node in wanted)
    ours, theirs = [_settled(node, folded).name for node in wanted], [_on_grid(node).name for node in found]
    sums = [np.zeros(2) for _ in wanted]
    for each in inputs:
        before, after = _values(modules[0], {*ours}, each), _values(modules[1], {*theirs}, each)
        for place, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            sums[place] += powers(before[our], after[their])
    return sums


def _values(module: Any, names: set[str], given: Any) -> Mapping[str, Array]:
    """What the nodes of these names give for one input."""
    import torch

    taken: dict[str, Array] = {}

    class Watching(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            value = super().run_node(node)
            if node.name in names:
                taken[node.name] = value.detach().to(torch.float32).numpy().copy()
            return value

    with torch.no_grad():
        Watching(module).run(given)
    return taken
