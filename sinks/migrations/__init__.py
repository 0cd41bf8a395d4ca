"""Schema of the database, step by step (Alembic). ``migrate`` is safe to call from several processes at once."""
