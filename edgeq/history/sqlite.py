"""The history in a SQLite file: any number of builds at once, in one process each.

The one rule: here Python's own driver carries the statements out, for SQLAlchemy takes 0.4 s to import,
which is half of what a build with nothing to do takes; it is loaded for migrations alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgeq.errors import ToolError
from edgeq.history.address import Address
from edgeq.history.version import migration

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
PATIENCE_S = 5.0  # for others that write; a build's own insert takes a hundredth of a second
SETTINGS = ("PRAGMA foreign_keys = ON", "PRAGMA synchronous = NORMAL")
ANOTHER = "name another with --history or $EDGEQ_HISTORY"
FAULTS: Mapping[str, tuple[str, str]] = {
    "SQLITE_BUSY": (f"is locked: another program has been writing for {PATIENCE_S:g} s",
                    "end that one, and try again; a build is added afterwards: edgeq history --add build"),
    "SQLITE_NOTADB": ("is no SQLite database", ANOTHER),
    "SQLITE_CORRUPT": ("is damaged", "move it away: the next build makes a new one"),
    "SQLITE_FULL": ("cannot grow: the disk is full", f"free some space there, or {ANOTHER}"),
    "SQLITE_READONLY": ("cannot be written", f"see to its permissions, or {ANOTHER}"),
    "SQLITE_CANTOPEN": ("cannot be opened", f"see to its folder and their permissions, or {ANOTHER}"),
    "SQLITE_IOERR": ("cannot be read or written: its disk fails", ANOTHER),
}


@dataclass(frozen=True)
class Transaction:
    """What happens in one transaction on a file."""

    driver: sqlite3.Connection

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """What the statement gives, all rows of it."""
        return self.driver.execute(statement, values).fetchall()

    def fill(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Carry out the statement once for each of `rows`."""
        self.driver.executemany(statement, rows)


@contextmanager
def opened(place: Address, *, writing: bool) -> Iterator[Transaction]:
    """A transaction on the file, made where it is missing and `writing`; ToolError for all that fails."""
    with _told(place), closing(_driver(place, "rwc" if writing else "rw")) as driver:
        driver.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
        yield Transaction(driver)
        driver.execute("COMMIT")  # what does not come so far, is undone as the file is closed


def upgrade(place: Address) -> None:
    """Make the tables in the file, or bring them to our schema; ToolError for all that fails."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    migrate = migration()
    engine = create_engine("sqlite://", creator=lambda: _driver(place, "rwc"), poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with _told(place):
        with closing(_driver(place, "rwc")) as driver, suppress(sqlite3.OperationalError):
            driver.execute("PRAGMA journal_mode = WAL")  # for good; left to whoever does so at this moment
        try:
            with engine.begin() as connection:
                migrate(connection)
        except DBAPIError as error:
            raise error.orig or error from error


def shrink(place: Address) -> None:
    """Make the file as small as what is in it; ToolError for all that fails, and the file stays as it is."""
    with _told(place), closing(_driver(place, "rw")) as driver:
        driver.execute("VACUUM")


def _driver(place: Address, mode: str) -> sqlite3.Connection:
    """A connection that begins and ends no transaction by itself."""
    file = Path(str(place.file))
    if mode == "rwc":
        file.parent.mkdir(parents=True, exist_ok=True)
    driver = sqlite3.connect(f"file:{quote(os.fsencode(file))}?mode={mode}", uri=True, timeout=PATIENCE_S,
                             isolation_level=None)
    for setting in SETTINGS:
        driver.execute(setting)
    return driver


@contextmanager
def _told(place: Address) -> Iterator[None]:
    """Errors of SQLite, and of the folder, as ours."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        fault = next((fault for start, fault in FAULTS.items() if name.startswith(start)), None)
        what, hint = fault or (f"failed: {error}", ANOTHER)
        raise ToolError(f"the history {place} {what}", hint) from error
    except OSError as error:
        raise ToolError(f"the history {place} cannot be written: {error.strerror}", ANOTHER) from error
