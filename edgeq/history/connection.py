"""A connection to the history: the same statements to SQLite and to a server.

The one rule: a statement is fixed text with named parameters (`:name`), which both of them take;
whatever comes from outside is a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from edgeq.history import server, sqlite
from edgeq.history.address import Address
from edgeq.history.version import FOUND, TABLE, is_current

Row = Mapping[str, Any]


class Connection(Protocol):
    """One transaction: all of it happens, or none."""

    def rows(self, statement: str, values: Row) -> list[tuple[Any, ...]]:
        """What the statement gives, all rows of it."""

    def fill(self, statement: str, rows: Sequence[Row]) -> None:
        """Carry out the statement once for each of `rows`."""


@contextmanager
def connected(place: Address, *, writing: bool) -> Iterator[Connection]:
    """A transaction on the history at `place`, which is made, or brought to our schema, where it must be.

    Raises ToolError where the database is locked, damaged, full or not reached, and ConfigError where
    a newer edgeq or another program made it.
    """
    kind = server if place.file is None else sqlite
    with kind.opened(place, writing=writing) as connection:
        tables = [name for (name,) in connection.rows(kind.TABLES, {})]
        versions = [version for (version,) in connection.rows(FOUND, {})] if TABLE in tables else []
        current = is_current(tables, versions, place)
        if current:
            yield connection
    if not current:
        kind.upgrade(place)
        with kind.opened(place, writing=writing) as connection:
            yield connection


def insert(table: str, rows: Sequence[Row]) -> str:
    """The statement that puts `rows`, which are never empty and have the same columns, into `table`."""
    names = list(rows[0])
    return " ".join(("INSERT INTO", table, "(", ", ".join(names), ") VALUES (",
                     ", ".join(f":{name}" for name in names), ")"))
