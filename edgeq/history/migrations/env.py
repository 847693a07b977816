"""What Alembic runs to migrate: on the connection, and in the transaction, that it is given."""

from __future__ import annotations

from edgeq.history.version import TABLE


def run() -> None:
    """Migrate on the connection that the configuration brings."""
    from alembic import context

    context.configure(connection=context.config.attributes["connection"], version_table=TABLE,
                      transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


run()
