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
WIDEST = 100  # characters of a line

Value = int | str | Mapping[str, "Value"]


@dataclass(frozen=True)
class Call:
    """A function of the library, and what makes a kernel of it for a build; None for what it cannot do.

    It takes so many `parameters`; `helium` is whether its code for Helium can be used: GCC 12 breaks down
    over that of softmax.
    """

    function: str
    parameters: int
    generator: Callable[[Build, Operation], Kernel | None]
    helium: bool = True


def structure(kind: str, name: str, **fields: Value) -> Lines:
    """C of a constant `cmsis_nn_{kind}` called `name`, whose other fields are zero."""
    literals = [f".{field} = {_literal(value)}," for field, value in fields.items()]
    return _wrapped(f"const cmsis_nn_{kind} {name} = {{", literals, "};")


def dims(name: str, shape: Iterable[int]) -> Lines:
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


def context(scratch: int) -> Lines:
    """C of the context that tells of `scratch` bytes."""
    return structure("context", "context", buf="scratch", size=scratch)


def called(name: str, *arguments: int | str) -> Lines:
    """C that calls a function of the library and leaves its status alone: shapes were seen to before."""
    return _wrapped(f"(void){name}(", [f"{argument}," for argument in arguments], ");")


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


def _wrapped(begin: str, words: Iterable[str], end: str) -> Lines:
    """A statement of `words`, each with its comma, in lines that are not too long."""
    lines, line = [], begin
    for word in words:
        if len(line) + len(word) > WIDEST:
            lines.append(line.rstrip())
            line = ""
        line += f"{word} "
    first, *others = [*lines, f"{line.removesuffix(', ')}{end}"]
    return [first, *indented(indented(others))]


def _literal(value: Value) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f".{name} = {_literal(each)}" for name, each in value.items()) + "}"
    return str(value)
