"""What a .tflite graph holds, as frozen data; names are those of TFLite's schema.fbs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Bytes, Floats, Integers

FLATTENED = frozenset({"SOFTMAX", "LOGISTIC"})
ALIASES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})  # the same bytes in another shape
CARRIED = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE"})  # the same values, put otherwise


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (q - zero_point), per tensor (one entry) or along `axis` (one a slice)."""

    scales: Floats
    zero_points: Integers
    axis: int

    @property
    def per_channel(self) -> bool:
        """Whether slices along `axis` have scales of their own."""
        return self.scales.size > 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor.

    `signature` is its shape with -1 where a dimension is left open; `variable` says that it keeps
    its values from one inference to the next.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    data: Bytes | None
    variable: bool

    @property
    def constant(self) -> bool:
        """Whether the file holds its values."""
        return self.data is not None

    @property
    def elements(self) -> int:
        """How many values it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def grid(self) -> Quantization:
        """Its quantization; ValueError where it has none."""
        if self.quantization is None:
            raise ValueError(f"{self.name!r} is not quantized")
        return self.quantization

    @property
    def dynamic(self) -> bool:
        """Whether a dimension is left open until run time."""
        return any(size < 0 for size in self.signature)


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: builtin name (`CONV_2D`) or `CUSTOM:name`; an absent input is -1.

    `options` are the fields of its options table in schema.fbs, under the names they have there.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Graph:
    """The main subgraph of a .tflite file, operators in execution order."""

    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    description: str
    signature_keys: tuple[str, ...]

    def inputs_of(self, operator: Operator) -> tuple[Tensor | None, ...]:
        """Its input tensors in the schema's order; None where an optional one is absent."""
        return tuple(self.tensors[i] if i >= 0 else None for i in operator.inputs)

    def present_inputs_of(self, operator: Operator) -> tuple[Tensor, ...]:
        """Its input tensors, without the optional ones that are absent."""
        return tuple(tensor for tensor in self.inputs_of(operator) if tensor)

    def outputs_of(self, operator: Operator) -> tuple[Tensor, ...]:
        """Its output tensors."""
        return tuple(self.tensors[i] for i in operator.outputs)

    def producers(self) -> dict[int, Operator]:
        """Tensor index -> the operator that writes it."""
        return {tensor: op for op in self.operators for tensor in op.outputs}

    def consumers(self) -> dict[int, list[Operator]]:
        """Tensor index -> the operators that read it, in execution order."""
        found: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for tensor in dict.fromkeys(operator.inputs):
                found.setdefault(tensor, []).append(operator)
        return found

    @property
    def scores(self) -> tuple[Tensor, str]:
        """What a last softmax or sigmoid reads, and that operator's name; else the output, and nothing."""
        writers, place = self.producers(), self.outputs[0]
        while (writer := writers.get(place)) and writer.name in CARRIED | FLATTENED:
            place = writer.inputs[0]
            if writer.name in FLATTENED:
                return self.tensors[place], writer.name
        return self.tensors[self.outputs[0]], ""

    def activations(self) -> Iterator[Tensor]:
        """The tensors that operators or the caller write at run time."""
        written = {*self.inputs, *(i for op in self.operators for i in op.outputs)}
        return (self.tensors[i] for i in sorted(written))
