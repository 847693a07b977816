"""What every build found, in a database: a SQLite file, or PostgreSQL by its URL."""
