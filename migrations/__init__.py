"""Alembic migrations of the shelf, applied by `app.store.migrate`."""

NEWEST = "0005"
"""The last revision of `versions`."""
