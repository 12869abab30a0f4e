"""Alembic migrations of the shelf, applied by `app.store.migrate`."""

NEWEST = "0010"
"""The last revision of `versions`."""
