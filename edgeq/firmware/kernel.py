"""What a kernel generator is asked for, and what it answers: one operator as C, shapes and grids constant.

The one rule: a routine's text holds shapes and shifts alone, never an address or a weight; what it
works on comes by its arguments. So layers of the same shape share one routine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeq.arrays import Array
from edgeq.graph import Operator, Quantization, Tensor

NAME = "@NAME@"  # stands in a routine's text wherever its own name is to be


@dataclass(frozen=True, eq=False)
class Operation:
    """One operator with its tensors; `inputs` has None where an optional one is absent."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """The operator's name in schema.fbs."""
        return self.operator.name

    @property
    def source(self) -> Tensor:
        """Its first input."""
        return self.input(0)

    @property
    def sink(self) -> Tensor:
        """Its first output."""
        return self.outputs[0]

    def input(self, place: int) -> Tensor:
        """The input at `place`; ValueError where it is absent."""
        found = self.inputs[place] if place < len(self.inputs) else None
        if found is None:
            raise ValueError(f"{self.name} has no input {place}")
        return found

    def option(self, name: str) -> Any:
        """An option by its name in schema.fbs."""
        return self.operator.options[name]

    @property
    def grids(self) -> tuple[Quantization, Quantization]:
        """The grids of the first input and the first output."""
        return self.source.grid, self.sink.grid


@dataclass(frozen=True)
class Routine:
    """A function `void @NAME@(PARAMETERS)` that several layers may share; `c` or `assembly` defines it.

    Whatever else they define begins with @NAME@, too: names must not meet in the user's program.
    `c` may use what prelude.py declares; `headers` are those that it needs besides.
    """

    stem: str
    parameters: str
    c: str = ""
    assembly: str = ""
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """An argument: the address of the operation's input at `place`, constant or not."""

    place: int = 0


@dataclass(frozen=True)
class Output:
    """An argument: the address of the operation's output at `place`."""

    place: int = 0


@dataclass(frozen=True)
class Scratch:
    """An argument: the address of the kernel's scratch memory, aligned to 8 bytes."""


@dataclass(frozen=True, eq=False)
class Constant:
    """An argument: an array in flash, of the C type that its dtype names (`int8_t`, …), flattened.

    Its address is aligned to what the type needs, and to 4 bytes at least.
    """

    stem: str
    values: Array


Argument = Input | Output | Scratch | Constant


@dataclass(frozen=True, eq=False)
class Kernel:
    """How an operation is computed: a call of `routine` with `arguments`.

    `scratch` is the working memory that it wants (bytes); `over_read` how many bytes behind the end
    of its inputs it may read and does not use; `in_place` the inputs in whose place the first output
    may be written, of the same or a larger size.
    """

    routine: Routine
    arguments: tuple[Argument, ...]
    scratch: int = 0
    over_read: int = 0
    in_place: tuple[int, ...] = ()


# The kernel for an operation; None where another provider must do it.
# Raises Refused, with the reason and what could be done, where no provider can.
Generator = Callable[[Operation], Kernel | None]
