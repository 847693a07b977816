"""The operators that a .pte calls, read from its tables.

The one rule: only what is asked for is read, so that a model of any size takes no time. Slots are those of
program.fbs in github.com/pytorch/executorch (schema/), as offsets in a table's vtable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeq.errors import ToolError

EXECUTION_PLAN, OPERATORS, NAME, OVERLOAD = 6, 16, 4, 6
MAGIC = slice(4, 6)


def operators_in(content: bytes) -> tuple[str, ...]:
    """The operators that the program in a .pte calls, as `aten::add.out`; a delegate's own are none.

    Raises ToolError where the content is no .pte.
    """
    if content[MAGIC] != b"ET":
        raise ToolError("the lowered program is no .pte: it lacks the mark of one", "this is a bug of edgeq")
    return tuple(dict.fromkeys(_operators(content)))


def _operators(content: bytes) -> Iterator[str]:
    from flatbuffers import encode, number_types
    from flatbuffers.table import Table

    buffer = bytearray(content)
    program = Table(buffer, encode.Get(number_types.UOffsetTFlags.packer_type, buffer, 0))
    for plan in _tables(program, EXECUTION_PLAN):
        for operator in _tables(plan, OPERATORS):
            name, overload = (_text(operator, slot) for slot in (NAME, OVERLOAD))
            yield f"{name}.{overload}" if overload else name


def _tables(table: Any, slot: int) -> Iterator[Any]:
    """The tables in a vector of `table`; none where the field is left out."""
    from flatbuffers.table import Table

    if offset := table.Offset(slot):
        for i in range(table.VectorLen(offset)):
            yield Table(table.Bytes, table.Indirect(table.Vector(offset) + 4 * i))


def _text(table: Any, slot: int) -> str:
    offset = table.Offset(slot)
    return str(table.String(table.Pos + offset).decode("utf-8")) if offset else ""
