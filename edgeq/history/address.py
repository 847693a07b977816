"""Where the history is kept: a SQLite file by its path, or PostgreSQL by its URL.

The one rule: what is shown of an address holds no password and no option of it, only where it leads.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.errors import ConfigError

VARIABLE = "EDGEQ_HISTORY"
NOWHERE = "none"  # what is given where no history is wanted
POSTGRESQL = re.compile(r"(?:postgresql(?:\+psycopg)?|postgres)://(.*)", re.DOTALL)
SQLITE = re.compile(r"sqlite(?:\+pysqlite)?://(.*)", re.DOTALL)
SECRET = re.compile(r"(?<=://)([^:/@]*):.*@", re.DOTALL)  # greedy: a password may hold what should be escaped
HINT = "give a file, sqlite:///FILE, postgresql://USER@HOST/DATABASE, or none"


@dataclass(frozen=True)
class Address:
    """A database: the SQLite `file`, or the `url` of a server as SQLAlchemy takes it; one of them."""

    url: str
    file: Path | None = None

    def __str__(self) -> str:
        """What is shown of it to people: no password."""
        return str(self.file) if self.file else SECRET.sub(r"\1@", self.url).partition("?")[0]


def address(text: str) -> Address:
    """The database that `text` names: a path, or a URL; ConfigError for `none` and an unknown kind."""
    if text == NOWHERE:
        raise ConfigError("no history is kept: --history, or $EDGEQ_HISTORY, says none",
                          "name a file, or PostgreSQL's URL")
    if postgresql := POSTGRESQL.fullmatch(text):
        if postgresql[1].partition("?")[0].count("@") > 1:  # part of a password would pass for the host
            raise ConfigError("the history's URL has more than one @",
                              "write %40 for each that is in the user's name or password")
        return Address(f"postgresql+psycopg://{postgresql[1]}")
    if sqlite := SQLITE.fullmatch(text):
        return _in_file(sqlite[1].partition("?")[0].removeprefix("/"), text)
    if "://" in text:
        raise ConfigError(f"a history cannot be kept in {text.partition('://')[0]}://…", HINT)
    return _in_file(text, text)


def default() -> str:
    """Where history goes that nobody says otherwise of: $EDGEQ_HISTORY, else a file of the user's own."""
    return os.environ.get(VARIABLE) or _own()


def is_unmade(place: Address) -> bool:
    """Whether nothing was recorded yet in the user's own file; ConfigError where any other is not there."""
    if place.file is None or place.file.exists():
        return False
    if place != address(_own()):
        raise ConfigError(f"the history {place} does not exist",
                          "correct --history, or $EDGEQ_HISTORY; a build that is given it makes it")
    return True


def _own() -> str:
    data = os.environ.get("XDG_DATA_HOME") or tool.home() / ".local/share"
    return str(Path(data) / "edgeq/history.sqlite")


def _in_file(path: str, text: str) -> Address:
    if path in ("", ":memory:") or "\0" in path:
        raise ConfigError(f"{text!r} names no file that a history could be kept in", HINT)
    file = Path(path).expanduser().absolute()
    return Address(f"sqlite:///{file}", file)
