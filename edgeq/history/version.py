"""The schema's version: which one is ours, what a database has, and the way from there to here.

The one rule: an older database is brought to our schema in place, whole or not at all; a newer one is
left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import ConfigError
from edgeq.history.address import Address

if TYPE_CHECKING:
    from sqlalchemy import Connection

TABLE = "edgeq_history"  # where Alembic notes the version
CURRENT = 2
HEAD = "head"  # of the migrations
FOUND = "SELECT version_num FROM edgeq_history"
OURS = frozenset({"runs", "benches", "tools", "jobs", "artifacts", "rungs", "metrics", "reports"})


def is_current(tables: Collection[str], found: Collection[str], place: Address) -> bool:
    """Whether a database with these `tables`, and these versions noted in it, has our schema.

    Raises ConfigError where it is newer, or where its tables are not of this history.
    """
    if TABLE not in tables:
        if taken := sorted(tables if place.file else OURS & set(tables)):
            raise ConfigError(f"{place} is a database of something else: it has the table {taken[0]}",
                              "name another with --history or $EDGEQ_HISTORY")
        return False
    version = _version("".join(found), place)
    if version > CURRENT:
        raise ConfigError(
            f"the history {place} has schema {version}, and this edgeq knows {CURRENT} at most",
            "a newer edgeq made it: update this one, or name another history with --history")
    return version == CURRENT


def migration() -> Callable[[Connection], None]:
    """What brings the database of a connection to our schema, in the transaction that it is in.

    Alembic is imported here, so that nobody waits for that while the database is locked.
    """
    from alembic.command import upgrade
    from alembic.config import Config

    def migrate(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        folder = Path(__file__).parent / "migrations"
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        upgrade(config, HEAD)

    return migrate


def _version(noted: str, place: Address) -> int:
    """The version that is noted in a database; 0 where none is."""
    if noted and not (noted.isascii() and noted.isdigit()):
        raise ConfigError(f"{place} names no version of its schema: {noted[:80]!r}",
                          "move it away: the next build makes a new one")
    return int(noted or 0)
