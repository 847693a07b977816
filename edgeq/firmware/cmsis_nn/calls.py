"""The C of a call of CMSIS-NN: its parameter structures as literals, its constants by argument.

The one rule: a field is set by its name, so releases may order their structures as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeq.firmware.arithmetic import bounds
from edgeq.firmware.cmsis_nn.buffers import Build
from edgeq.firmware.kernel import Kernel, Operation, Routine
from edgeq.firmware.portable.text import Lines, function, indented

HEADERS = ("arm_nnfunctions.h",)
WIDEST = 100  # characters of a line of arguments

Value = int | str | Mapping[str, "Value"]


@dataclass(frozen=True)
class Call:
    """A function of the library, and what makes a kernel of it for a build; None for what it cannot do.

    `helium` is whether its code for Helium can be used: GCC 12 breaks down over that of softmax.
    """

    function: str
    generator: Callable[[Build, Operation], Kernel | None]
    helium: bool = True


def structure(kind: str, name: str, **fields: Value) -> str:
    """C of a constant `cmsis_nn_{kind}` called `name`, whose other fields are zero."""
    return f"const cmsis_nn_{kind} {name} = {_literal(fields)};"


def dims(name: str, shape: Iterable[int]) -> str:
    """C of the dimensions n, h, w, c."""
    return structure("dims", name, **dict(zip("nhwc", shape, strict=True)))


def tile(sizes: tuple[int, int]) -> dict[str, Value]:
    """A height and a width."""
    return {"w": sizes[1], "h": sizes[0]}


def activation(operation: Operation) -> tuple[int, int]:
    """The integers that the fused activation leaves, lowest and highest."""
    return bounds(operation.option("fusedActivationFunction"), operation.sink.grid, operation.sink.dtype)


def clamp(operation: Operation) -> dict[str, Value]:
    """The fused activation, as a cmsis_nn_activation."""
    low, high = activation(operation)
    return {"min": low, "max": high}


def context(scratch: int) -> str:
    """C of the context that tells of `scratch` bytes."""
    return structure("context", "context", buf="scratch", size=scratch)


def called(name: str, *arguments: int | str) -> Lines:
    """C that calls a function of the library and leaves its status alone: shapes were seen to before."""
    lines, line = [], f"(void){name}("
    for argument in arguments:
        if len(line) + len(str(argument)) > WIDEST:
            lines.append(line.rstrip())
            line = ""
        line += f"{argument}, "
    first, *others = [*lines, f"{line.removesuffix(', ')});"]
    return [first, *indented(indented(others))]


def zero_points(operation: Operation) -> dict[str, Value]:
    """The offsets of a layer's input and output, as the library wants them."""
    source, sink = operation.grids
    return {"input_offset": -int(source.zero_points[0]), "output_offset": int(sink.zero_points[0])}


def routine(stem: str, what: str, parameters: str, body: Lines) -> Routine:
    """The routine that is said to compute `what`."""
    made = function(stem, f"{what} By CMSIS-NN.", parameters, body)
    return Routine(made.stem, made.parameters, made.c, headers=HEADERS)


def in_int8(operation: Operation) -> bool:
    """Whether its first input and its first output are int8."""
    return operation.source.dtype == operation.sink.dtype == "INT8"


def _literal(value: Value) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f".{name} = {_literal(each)}" for name, each in value.items()) + "}"
    return str(value)
