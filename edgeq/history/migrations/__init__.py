"""The ways from one version of the history's schema to the next, as Alembic takes them."""
