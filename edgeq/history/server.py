"""The history on a PostgreSQL server, through SQLAlchemy and psycopg.

The one rule: nothing waits for long, neither for the server nor for another's lock, and no error tells
a password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeq.errors import ConfigError, ToolError
from edgeq.history.address import Address
from edgeq.history.version import migration

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
PATIENCE_S = 5
LIMITS = ("SELECT set_config('lock_timeout', :lock, true), set_config('statement_timeout', :statement, true)",
          {"lock": f"{PATIENCE_S}s", "statement": f"{6 * PATIENCE_S}s"})
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(7143106)"  # any number, the same for every edgeq
HINT = "check the URL, and that the server takes this user; `edgeq history --add build` records a build later"


@dataclass(frozen=True)
class Transaction:
    """What happens in one transaction on a server."""

    driver: Connection

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """What the statement gives, all rows of it."""
        from sqlalchemy import text

        return [tuple(row) for row in self.driver.execute(text(statement), values)]

    def fill(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Carry out the statement once for each of `rows`."""
        from sqlalchemy import text

        self.driver.execute(text(statement), rows)


@contextmanager
def opened(place: Address, *, writing: bool) -> Iterator[Transaction]:
    """A transaction on the server; ToolError for all that fails, ConfigError for a URL that is none."""
    with _connected(place) as connection:
        if not writing:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        yield Transaction(connection)


def upgrade(place: Address) -> None:
    """Make the tables, or bring them to our schema; ToolError for all that fails."""
    migrate = migration()
    with _connected(place) as connection:
        connection.exec_driver_sql(ONE_AT_A_TIME)
        migrate(connection)


@contextmanager
def _connected(place: Address) -> Iterator[Connection]:
    """A transaction, its limits set."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    engine = _engine(place)
    try:
        with engine.begin() as connection:
            connection.execute(text(LIMITS[0]), LIMITS[1])
            yield connection
    except DBAPIError as error:
        raise ToolError(f"the history {place} failed: {_first_line(error.orig)}", HINT) from None


def _engine(place: Address) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    patience = {} if "connect_timeout" in place.url else {"connect_timeout": PATIENCE_S}
    try:
        return create_engine(place.url, poolclass=NullPool, connect_args=patience)
    except ImportError as error:
        raise ToolError("psycopg, which PostgreSQL is reached with, is not installed",
                        "pip install 'edgeq[postgresql]'") from error
    except (SQLAlchemyError, ValueError) as error:
        raise ConfigError(f"{place} is no URL of a database", HINT) from error


def _first_line(error: BaseException | None) -> str:
    """What the server or its library says: the values of the statement stand in the lines after."""
    return next(iter(str(error).strip().splitlines()), "it says nothing")
