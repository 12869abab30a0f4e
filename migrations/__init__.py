"""Alembic migrations of the shelf, applied by `app.store.migrate`."""

NEWEST = "0002"
"""The last revision of `versions`."""
