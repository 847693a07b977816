"""A graph run operator by operator over all samples at once, so that what flows can be looked at.

Learning a layer of a graph needs what enters it and what leaves it, in the float graph and in the
quantized one. Running the whole graph for each layer would cost the square of its depth; here each
operator runs once, as a model of its own, and only what a later one still reads is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import Refused
from edgeq.graph import Change, Graph, Operator, Tensor, changed, cut, parse, unpacked

NONE: Mapping[int, Change] = {}
NONE_GIVEN: Mapping[int, Array] = {}


class Steps:
    """Where the run of one graph stands: `values` holds what is still to be read, by tensor index.

    Each is (n, *shape) with the batch of 1 in its shape. `alike` runs every operator by the kernels
    that run whole graphs, slower to set up, so that integers come out as they do there. Runs in
    workers only: an interpreter can crash.
    """

    def __init__(self, content: bytes, samples: Array, *, alike: bool = False) -> None:
        self.graph: Graph = parse(content, "the model")
        self.count = len(samples)
        self.done = 0
        entry = self.graph.tensors[self.graph.inputs[0]]
        self.values: dict[int, Array] = {
            entry.index: np.ascontiguousarray(samples).reshape(self.count, *entry.shape)}
        self._content = content
        self._changed: Any = None  # the model, once it is another than that of the content
        self._alike = alike
        self._latest: tuple[tuple[int, ...], Part] | None = None  # what ran last may run again
        self._last = {i: op.index + 1 for op in self.graph.operators for i in op.outputs}
        self._last |= {i: op.index for op in self.graph.operators for i in op.inputs}
        self._last |= dict.fromkeys(
            [*self.graph.outputs, self.graph.scores[0].index], len(self.graph.operators))

    def change(self, changes: Mapping[int, Change]) -> None:
        """Give constants other values or grids, for the operators that are still to run."""
        self._changed = changed(self._model, changes)
        self._latest = None

    @property
    def _model(self) -> Any:
        return self._changed or unpacked(self._content, "the model")

    def advance(self, to: int) -> None:
        """Run the operators before the one at place `to` that have not run yet."""
        while self.done < to:
            operator = self.graph.operators[self.done]
            made = self.outputs(operator)
            self.done += 1
            live = self.values | dict(zip(operator.outputs, made, strict=True))
            self.values = {i: kept for i, kept in live.items() if self._last.get(i, -1) >= self.done}

    def written(self) -> Iterator[tuple[Tensor, Operator | None]]:
        """Each activation when it has just been written, the model's input first, and by whom."""
        yield self.graph.tensors[self.graph.inputs[0]], None
        for operator in self.graph.operators:
            self.advance(operator.index + 1)
            yield from ((tensor, operator) for tensor in self.graph.outputs_of(operator))

    def outputs(self, operator: Operator) -> list[Array]:
        """What `operator` gives for the values as they stand."""
        return self._part([operator], operator.outputs)

    def through(
        self, operators: Sequence[Operator], instead: Mapping[int, Array] = NONE_GIVEN,
        changes: Mapping[int, Change] = NONE,
    ) -> Array:
        """What a chain of `operators` ends in, with some values and constants other than its own."""
        return self._part(operators, operators[-1].outputs[:1], instead, changes)[0]

    def rest(
        self, instead: Mapping[int, Array] = NONE_GIVEN, changes: Mapping[int, Change] = NONE,
    ) -> Array:
        """The graph's output, run to its end from where it stands, with some of it changed for once."""
        return self._up_to(self.graph.outputs[0], instead, changes)

    def scores(self, instead: Mapping[int, Array] = NONE_GIVEN) -> Array:
        """`rest`, but of the graph's scores: what a last softmax or sigmoid would flatten."""
        return self._up_to(self.graph.scores[0].index, instead, NONE)

    def _up_to(self, sink: int, instead: Mapping[int, Array], changes: Mapping[int, Change]) -> Array:
        if sink in self.values:
            return {**self.values, **instead}[sink]
        last = next(op.index for op in self.graph.operators if sink in op.outputs)
        return self._part(self.graph.operators[self.done:last + 1], [sink], instead, changes)[0]

    def _part(
        self, operators: Sequence[Operator], sinks: Sequence[int],
        instead: Mapping[int, Array] = NONE_GIVEN, changes: Mapping[int, Change] = NONE,
    ) -> list[Array]:
        """The tensors `sinks` (m, *shape) of a part; m is that of `instead`, of the first samples."""
        count = min([self.count, *(len(values) for values in instead.values())])
        part = self._ready(operators, sinks, changes)
        return part.run([(instead[i] if i in instead else self.values[i])[:count] for i in part.inputs],
                        count)

    def _ready(
        self, operators: Sequence[Operator], sinks: Sequence[int], changes: Mapping[int, Change]
    ) -> Part:
        if changes:
            return part_of(changed(self._model, changes), operators, sinks, alike=self._alike)
        if len(operators) == 1 and self._changed is None:
            return _single(self._content, operators[0].index, tuple(sinks), self._alike)
        place = (*(operator.index for operator in operators), *sinks)
        if self._latest is None or self._latest[0] != place:
            self._latest = (place, part_of(self._model, operators, sinks, alike=self._alike))
        return self._latest[1]


@dataclass(frozen=True, eq=False)
class Part:
    """Some operators of a graph in an interpreter of their own; `inputs` are tensors of the graph."""

    interpreter: Any
    inputs: tuple[int, ...]

    def run(self, inputs: Sequence[Array], count: int) -> list[Array]:
        """The outputs (count, *shape) for `inputs` (count, *shape); Refused where it cannot run."""
        entries = [each["index"] for each in self.interpreter.get_input_details()]
        sinks = [each["index"] for each in self.interpreter.get_output_details()]
        taken = []
        try:
            for place in range(count):
                self.interpreter.reset_all_variables()
                for entry, values in zip(entries, inputs, strict=True):
                    self.interpreter.set_tensor(entry, values[place])
                self.interpreter.invoke()
                taken.append([self.interpreter.get_tensor(sink) for sink in sinks])
            return [np.stack(made) for made in zip(*taken, strict=True)]
        except (ValueError, RuntimeError) as error:
            raise _refused(error) from error


@functools.lru_cache(maxsize=256)
def _single(content: bytes, index: int, sinks: Sequence[int], alike: bool) -> Part:  # noqa: FBT001  # cached
    """One operator of a model as it is: many walks take the same steps, and setting up costs most."""
    operator = parse(content, "the model").operators[index]
    return part_of(unpacked(content, "the model"), [operator], sinks, alike=alike)


def part_of(
    model: Any, operators: Sequence[Operator], sinks: Sequence[int], *, alike: bool = False
) -> Part:
    """The `operators` of `model`, the schema's own ModelT, up to the tensors `sinks`.

    One operator runs by LiteRT's own kernels, several (or `alike` one) by XNNPACK, which first lays
    out weights anew.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content, inputs = cut(model, operators, sinks)
    kinds = OpResolverType
    kernels = kinds.AUTO if alike or len(operators) > 1 else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(
            model_content=content, num_threads=1, experimental_op_resolver_type=kernels)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _refused(error) from error
    return Part(interpreter, inputs)


def _refused(error: Exception) -> Refused:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return Refused(f"the model cannot be run operator by operator: {said}",
                   "`engine: tflite-converter` of static-int8 runs whole models alone, and may do")
