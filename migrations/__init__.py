"""Alembic migrations of the shelf, applied by `app.store.migrate`."""

NEWEST = "0007"
"""The last revision of `versions`."""
