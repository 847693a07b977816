"""Symbols and sections of a little-endian ELF file, as a linker leaves it (System V ABI, ch. 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ToolError

SYMTAB, NOBITS, ALLOCATED = 2, 8, 2
FUNCTION = 2
ARM = 40  # the machine whose functions have a Thumb bit


@dataclass(frozen=True)
class Symbol:
    """A name at an address; a function's is that of its first instruction, without the Thumb bit."""

    name: str
    address: int
    size: int
    function: bool


@dataclass(frozen=True)
class Section:
    """A part of the program: `loaded` from the file, or only room that it takes."""

    name: str
    address: int
    size: int
    loaded: bool


@dataclass(frozen=True)
class _Format:
    """Where the ELF header has its figures, and how its tables are packed, in files of 32 or 64 bits."""

    table: tuple[str, int]
    sizes: int
    header: str
    symbol: str
    order: tuple[int, ...]  # of a symbol's name, value, size, info, section


_FORMATS = {
    b"\x7fELF\x01\x01": _Format(("<I", 32), 46, "<7I", "<IIIBBH", (0, 1, 2, 3, 5)),
    b"\x7fELF\x02\x01": _Format(("<Q", 40), 58, "<IIQQQQI", "<IBBHQQ", (0, 4, 5, 1, 3)),
}


@dataclass(frozen=True)
class _Header:
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


def symbols(path: Path) -> tuple[Symbol, ...]:
    """All named symbols of the ELF file at `path`; ToolError where it is none."""
    data = path.read_bytes()
    try:
        return tuple(_symbols(data, _headers(data)))
    except (struct.error, ValueError, IndexError) as error:
        raise _damaged(path) from error


def sections(path: Path) -> tuple[Section, ...]:
    """The sections that take room in memory, in the order of the file; ToolError where it is no ELF file."""
    data = path.read_bytes()
    try:
        headers = _headers(data)
        names = headers[struct.unpack_from("<H", data, _format(data).sizes + 4)[0]]
        return tuple(Section(_text(data, names, each.name), each.address, each.size, each.kind != NOBITS)
                     for each in headers if each.flags & ALLOCATED and each.size)
    except (struct.error, ValueError, IndexError) as error:
        raise _damaged(path) from error


def functions(path: Path) -> Mapping[str, Symbol]:
    """The functions by their names."""
    return {symbol.name: symbol for symbol in symbols(path) if symbol.function}


def function_at(path: Path, address: int) -> str:
    """The function that holds `address`, and how far in; empty where none does."""
    inside = (symbol for symbol in functions(path).values()
              if symbol.address <= address < symbol.address + max(2, symbol.size))
    return next((f"{symbol.name}+{address - symbol.address:#x}" for symbol in inside), "")


def _headers(data: bytes) -> list[_Header]:
    """The section headers; ValueError where `data` is no such file."""
    form = _format(data)
    (table,) = struct.unpack_from(form.table[0], data, form.table[1])
    size, count = struct.unpack_from("<HH", data, form.sizes)
    if not count:
        raise ValueError("no sections")
    return [_Header(*struct.unpack_from(form.header, data, table + i * size)) for i in range(count)]


def _format(data: bytes) -> _Format:
    if data[:6] not in _FORMATS:
        raise ValueError("no little-endian ELF file")
    return _FORMATS[data[:6]]


def _symbols(data: bytes, headers: Sequence[_Header]) -> Iterator[Symbol]:
    table = next((each for each in headers if each.kind == SYMTAB), None)
    if table is None:
        return
    form, (machine,) = _format(data), struct.unpack_from("<H", data, 18)
    for packed in struct.iter_unpack(form.symbol, data[table.offset : table.offset + table.size]):
        name, value, size, info, section = (packed[i] for i in form.order)
        function = info & 15 == FUNCTION
        if name and section:
            address = value & ~1 if function and machine == ARM else value
            yield Symbol(_text(data, headers[table.link], name), address, size, function)


def _text(data: bytes, table: _Header, offset: int) -> str:
    start = table.offset + offset
    return data[start : data.index(0, start)].decode("utf-8", "replace")


def _damaged(path: Path) -> ToolError:
    return ToolError(f"{path.name} is no ELF file of a program, or is damaged", "build it again")
