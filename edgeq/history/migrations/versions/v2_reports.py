"""Version 2: the whole report beside its rows, and runs found by their commit.

Two runs are compared by their reports, which hold more than the tables: what was discordant, the audit
of the samples, the notes.
"""

from __future__ import annotations

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the table of reports, each compressed by zlib, and the index."""
    import sqlalchemy as sa
    from alembic import op

    op.create_table("reports", sa.Column(
        "run", sa.Integer, sa.ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True,
        autoincrement=False), sa.Column("content", sa.LargeBinary, nullable=False))
    op.create_index("runs_by_commit", "runs", ["project", "commit_id", "started"])


def downgrade() -> None:
    """Remove both."""
    from alembic import op

    op.drop_index("runs_by_commit", "runs")
    op.drop_table("reports")
