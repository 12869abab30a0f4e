"""Alembic migrations of the shelf, applied by `app.store.migrate`."""

NEWEST = "0006"
"""The last revision of `versions`."""
