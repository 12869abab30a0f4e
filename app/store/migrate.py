"""Bring a shelf's tables to the newest revision; safe when several processes start at once.

A new revision: `alembic revision --autogenerate -m "..."` in the repository root, then set
`migrations.NEWEST`.
"""

from pathlib import Path

from sqlalchemy import inspect, make_url, text

from app.errors import Conflict
from app.store.engine import autocommitting, connected
from migrations import NEWEST


def migrate(url: str) -> None:
    """Upgrade the shelf at `url` to the newest revision. One process works, others wait.

    Conflict when a newer version of the program has been there, or the file is no database.
    """
    found = _revision(url)
    if found == NEWEST:
        return
    # Imported for this only: Alembic would add a tenth to the memory of a process that serves.
    from alembic import command
    from alembic.util import CommandError

    from app.store.upgrade import configuration, exclusive

    with exclusive(url) as connection:
        try:
            command.upgrade(configuration(connection), "head")
        except CommandError as error:
            raise Conflict(
                f"The database is at revision {found}, this version knows up to {NEWEST}; use the "
                "version that wrote it, or another database."
            ) from error


def _revision(url: str) -> str | None:
    """The revision that a shelf is at; None when it has no tables."""
    path = make_url(url).database
    if url.startswith("sqlite") and not Path(path or "").exists():
        return None
    with connected(autocommitting(url)) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
