"""Tables that instruments export: lines before the header, a mark at the beginning, commas for points.

The one rule: a row that is cut short, or holds what is no number, is an error with its line; it is never left
out quietly.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.arrays import Array
from edgeq.decode import meant
from edgeq.errors import ConfigError, DeviceError
from edgeq.power.units import Unit, scale

KNOWN: Mapping[str, Unit | None] = {"time": "s", "current": "A", "voltage": "V", "power": "W",
                                    "trigger": None}
LARGEST = 1 << 30
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Layout:
    """Where the columns are (names, or numbers from 1 on), what one of their units is, how written."""

    columns: Mapping[str, str | int]
    scales: Mapping[str, float]
    delimiter: str
    decimal: str


@dataclass(frozen=True)
class Table:
    """The `columns` (n each) in s, A, V and W, and what stood before them."""

    columns: Mapping[str, Array]
    head: str


def layout(
    columns: Mapping[str, str | int], units: Mapping[str, str], delimiter: str, decimal: str
) -> Layout:
    """The layout that target.yaml says; ConfigError for what it cannot mean."""
    for name in (*columns, *units):
        if name not in KNOWN:
            raise ConfigError(f"columns: unknown {name!r}{meant(name, KNOWN)}", "correct it in target.yaml")
    if "time" not in columns:
        raise ConfigError("columns: that of the time is wanted", "name it in target.yaml")
    if len(delimiter) != 1 or decimal not in (".", ",") or delimiter == decimal:
        raise ConfigError(f"delimiter {delimiter!r} and decimal {decimal!r} do not go together",
                          "quote them: \";\" and \",\", for example; a tab is \"\\t\"")
    scales = {name: scale(units[name], unit) if unit and name in units else 1.0
              for name, unit in KNOWN.items()}
    return Layout(columns, scales, delimiter, decimal)


def read(place: Path, wanted: Layout) -> Table:
    """The table at `place`; DeviceError with the line where it is none."""
    rows = [[cell.strip() for cell in row]
            for row in csv.reader(io.StringIO(_text(place)), delimiter=wanted.delimiter)]
    header, places = _header(rows, wanted, place)
    body = [(line, row) for line, row in enumerate(rows[header:], header + 1) if any(row)]
    columns = {name: np.asarray([_number(row, at, wanted.decimal, f"{place}:{line}") for line, row in body])
               for name, at in places.items()}
    head = "\n".join(wanted.delimiter.join(row) for row in rows[:header])
    return Table({name: values * wanted.scales[name] for name, values in columns.items()}, head)


def _text(place: Path) -> str:
    try:
        if place.stat().st_size > LARGEST:
            raise DeviceError(f"{place} is larger than 1 GiB", "record less long, or fewer samples")
        content = place.read_bytes()
    except OSError as error:
        raise DeviceError(f"{place} cannot be read: {error.strerror}", "see to its rights") from error
    coding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    return content.decode(coding, "replace")


def _header(rows: Sequence[Sequence[str]], wanted: Layout, place: Path) -> tuple[int, dict[str, int]]:
    """How many rows stand before the numbers, and where each column is."""
    names = {name: at for name, at in wanted.columns.items() if isinstance(at, str)}
    places = {name: at - 1 for name, at in wanted.columns.items() if isinstance(at, int)}
    fits = _has_all(names) if names else _has_number(max(places.values()), wanted.decimal)
    index = next((index for index, row in enumerate(rows) if fits(row)), None)
    if index is None:
        columns = ", ".join(map(str, wanted.columns.values()))
        raise DeviceError(f"{place} has no header with {columns}",
                          "name the columns as the file has them, and its `delimiter:`")
    return index + bool(names), places | {name: rows[index].index(at) for name, at in names.items()}


def _has_all(names: Mapping[str, str]) -> Callable[[Sequence[str]], bool]:
    """Whether a row has all of the `names`."""
    return lambda row: {*names.values()} <= {*row}


def _has_number(at: int, decimal: str) -> Callable[[Sequence[str]], bool]:
    """Whether a row has a number at the place `at`."""
    return lambda row: _is_number(row, at, decimal)


def _is_number(cells: Sequence[str], at: int, decimal: str) -> bool:
    try:
        float(cells[at].replace(decimal, "."))
    except (ValueError, IndexError):
        return False
    return True


def _number(row: Sequence[str], at: int, decimal: str, where: str) -> float:
    try:
        return float(row[at].replace(decimal, "."))
    except IndexError:
        raise DeviceError(f"{where}: the row is cut short", "see why the export broke off") from None
    except ValueError:
        raise DeviceError(f"{where}: {row[at]!r} is no number",
                          f"see to the export; the decimal point is {decimal!r}") from None
