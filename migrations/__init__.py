"""Alembic migrations of the shelf, applied by `app.store.migrate`."""
