"""Version 1: runs, and below each its jobs, rungs and metrics, its files and tools, and the benches.

Rows are found by the number of their run and their places in its report. Names from outside stand in
no index: they may be of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Column

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    from alembic import op

    op.create_table("runs", *_runs())
    op.create_index("runs_by_time", "runs", ["project", "started", "id"])
    op.create_table("benches", *_benches())
    _below("runs", "tools", ["run", "position"], _texts("name", "version"))
    _below("runs", "jobs", ["run", "job"], _jobs())
    _below("jobs", "artifacts", ["run", "job", "position"], [*_texts("path", "sha256"), *_counts("bytes")])
    _below("jobs", "rungs", ["run", "job", "rung"], _rungs())
    _below("rungs", "metrics", ["run", "job", "rung", "position"], _metrics())


def downgrade() -> None:
    """Remove all tables, and what is in them."""
    from alembic import op

    for table in ("metrics", "rungs", "artifacts", "jobs", "tools", "benches", "runs"):
        op.drop_table(table)


def _below(parent: str, table: str, key: Sequence[str], columns: Sequence[Column[Any]]) -> None:
    """A table whose rows belong to those of `parent`, and go with them; without SQLite's second key."""
    import sqlalchemy as sa
    from alembic import op

    whole = {"runs": ["number"], "jobs": ["run", "job"], "rungs": ["run", "job", "rung"]}[parent]
    keys = [sa.Column(name, sa.Integer, primary_key=True, autoincrement=False) for name in key]
    op.create_table(
        table, *keys, *columns,
        sa.ForeignKeyConstraint(key[:len(whole)], [f"{parent}.{name}" for name in whole], ondelete="CASCADE"),
        sqlite_with_rowid=False)


def _runs() -> list[Column[Any]]:
    import sqlalchemy as sa

    return [sa.Column("number", sa.Integer, primary_key=True),
            sa.Column("id", sa.Text, unique=True, nullable=False),
            *(sa.Column(name, sa.Text, nullable=False) for name in ("project", "started", "edgeq")),
            *_texts("commit_id", "branch", "host"), sa.Column("seconds", sa.Float),
            sa.Column("dirty", sa.Boolean), sa.Column("passed", sa.Boolean, nullable=False)]


def _benches() -> list[Column[Any]]:
    import sqlalchemy as sa

    return [sa.Column("digest", sa.Text, primary_key=True), *_texts("runner", "board", "host", "identity")]


def _jobs() -> list[Column[Any]]:
    import sqlalchemy as sa

    return [*(sa.Column(name, sa.Text, nullable=False) for name in ("model", "target")),
            sa.Column("passed", sa.Boolean, nullable=False), sa.Column("best", sa.Integer),
            sa.Column("bench", sa.Text, sa.ForeignKey("benches.digest"), nullable=False),
            *_texts("recipe", "options", "evaluation", "error_kind", "error", "notice")]


def _rungs() -> list[Column[Any]]:
    import sqlalchemy as sa

    return [*(sa.Column(name, sa.Text, nullable=False) for name in ("recipe", "options", "state")),
            *_texts("reason")]


def _metrics() -> list[Column[Any]]:
    import sqlalchemy as sa

    return [sa.Column("name", sa.Text, nullable=False), sa.Column("source", sa.Text, nullable=False),
            *_texts("unit", "aggregation", "basis", "rig", "reason", "verdict"), *_counts("n"),
            *(sa.Column(name, sa.Double) for name in ("value", "low", "high", "minimum", "maximum")),
            sa.Column("passed", sa.Boolean)]


def _texts(*names: str) -> list[Column[Any]]:
    import sqlalchemy as sa

    return [sa.Column(name, sa.Text) for name in names]


def _counts(*names: str) -> list[Column[Any]]:
    import sqlalchemy as sa

    return [sa.Column(name, sa.BigInteger) for name in names]
