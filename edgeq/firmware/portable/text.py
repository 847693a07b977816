"""The C that the portable kernels are written with: functions, loops, and nests of loops over arrays.

The one rule: text is a list of lines that know nothing of their depth; whoever encloses them indents them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.errors import Refused
from edgeq.firmware.kernel import NAME, Routine
from edgeq.graph import Tensor

Lines = list[str]
TYPES = {"INT8": "int8_t", "INT16": "int16_t", "INT32": "int32_t", "UINT8": "uint8_t", "FLOAT32": "float",
         "BOOL": "uint8_t"}
INTEGERS = frozenset({"INT8", "INT16"})
RECIPES = "use a full-integer int8 or int16x8 recipe"
RUN = 8  # from so many elements on, a copy is memcpy's
INDICES = "ijklmnpq"


@dataclass(frozen=True)
class Span:
    """A dimension that a nest of loops walks: how often, and by how many elements in each array."""

    size: int
    steps: Mapping[str, int]


def c_type(tensor: Tensor) -> str:
    """The C type of a tensor's elements; Refused for one that no kernel works on."""
    if tensor.dtype not in TYPES:
        raise Refused(f"its tensor {tensor.name!r} is {tensor.dtype}", RECIPES)
    return TYPES[tensor.dtype]


def require_integers(*tensors: Tensor, among: Iterable[str] = INTEGERS) -> str:
    """The one type that all the `tensors` have, which is `among` those given; else Refused."""
    kinds = {tensor.dtype for tensor in tensors}
    if len(kinds) > 1 or not kinds <= {*among}:
        raise Refused(f"its tensors are {', '.join(sorted(kinds))}; there are kernels for "
                      f"{', '.join(sorted(among))}", RECIPES)
    return kinds.pop()


def shaped(tensor: Tensor) -> str:
    """A shape as people read it: `10x10x8`, without a batch of one."""
    sizes = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
    return "x".join(map(str, sizes)) or "1"


def function(
    stem: str, what: str, parameters: str, body: Iterable[str], before: Iterable[str] = ()
) -> Routine:
    """The routine `void @NAME@(parameters)`, said to be `what`; `before` it stand lines of its own."""
    text = [f"/* {what} */", *before, f"void {NAME}({parameters}) {{", *indented(body), "}", ""]
    return Routine(stem, parameters, "\n".join(text))


def indented(lines: Iterable[str]) -> Lines:
    """The lines, a step deeper."""
    return [f"  {line}" for line in lines]


def block(head: str, lines: Iterable[str]) -> Lines:
    """`lines` in braces behind `head`."""
    return [f"{head} {{", *indented(lines), "}"]


def loop(index: str, count: int | str, lines: Iterable[str], first: int | str = 0) -> Lines:
    """`lines` for every `index` from `first` up to `count`."""
    return block(f"for (int32_t {index} = {first}; {index} < {count}; {index}++)", lines)


def alternatives(condition: str, then: Iterable[str], otherwise: Iterable[str]) -> Lines:
    """`then` where the condition holds, else the other lines."""
    return [f"if ({condition}) {{", *indented(then), "} else {", *indented(otherwise), "}"]


def term(factor: int, name: str) -> str:
    """`name` times a factor that is a number: ` + 3 * name`, with its sign before it, or nothing."""
    if factor == 0:
        return ""
    times = "" if abs(factor) == 1 else f"{abs(factor)} * "
    return f" {'-' if factor < 0 else '+'} {times}{name}"


def plus(value: int) -> str:
    """A number with its sign before it, to be added to something: ` + 3`, ` - 3`, or nothing."""
    return f" {'-' if value < 0 else '+'} {abs(value)}" if value else ""


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """How many elements apart neighbours along each dimension lie."""
    return tuple(int(np.prod(shape[axis + 1:], dtype=np.int64)) for axis in range(len(shape)))


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same walk with as few spans as can be: without those of one, neighbours that continue as one."""
    found: list[Span] = []
    for span in spans:
        if span.size == 1:
            continue
        outer = found[-1] if found else None
        if outer and all(outer.steps[name] == span.size * step for name, step in span.steps.items()):
            found[-1] = Span(outer.size * span.size, span.steps)
        else:
            found.append(span)
    return found


def nest(spans: Sequence[Span], lines: Iterable[str], depth: int = 0) -> Lines:
    """`lines` in a loop for every span, itself in `depth` others; place() tells where an array is then."""
    nested = [*lines]
    for level in reversed(range(len(spans))):
        nested = loop(INDICES[depth + level], spans[level].size, nested)
    return nested


def place(spans: Sequence[Span], name: str, start: int = 0, depth: int = 0) -> str:
    """The index of the array `name` within a nest of `spans`, from `start` on."""
    terms = "".join(term(span.steps[name], INDICES[depth + level]) for level, span in enumerate(spans))
    return (f"{start}{terms}" if start else terms.removeprefix(" + ").strip()) or "0"


def copied(
    kind: str, spans: Iterable[Span], ends: tuple[str, str] = ("x", "y"), starts: tuple[int, int] = (0, 0)
) -> Lines:
    """Copies elements of the C type `kind` along a walk, from one array to the other, from `starts` on."""
    source, sink = ends
    walk = merged(spans)
    last = walk[-1] if walk else Span(1, {source: 1, sink: 1})
    if last.size >= RUN and last.steps == {source: 1, sink: 1}:
        at = [f"&{name}[{place(walk[:-1], name, start)}]" for name, start in zip(ends, starts, strict=True)]
        return nest(walk[:-1], [f"memcpy({at[1]}, {at[0]}, {last.size}u * sizeof({kind}));"])
    at = [f"{name}[{place(walk, name, start)}]" for name, start in zip(ends, starts, strict=True)]
    return nest(walk, [f"{at[1]} = {at[0]};"])
