"""Alembic migrations of the shelf, applied by `app.store.migrate`."""

NEWEST = "0008"
"""The last revision of `versions`."""
