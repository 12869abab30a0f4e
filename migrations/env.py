"""Alembic's entry: over the connection that `app.store.migrate` hands in, else the settings'."""

from typing import Literal

from alembic import context
from sqlalchemy import Connection

from app.settings import Settings
from app.store.engine import transacting
from app.store.search import NOT_MODELLED
from app.store.tables import UtcTime, metadata


def include_name(name: str | None, kind: str, parents: object) -> bool:
    """Leave out what the full-text search needs and `app.store.tables` cannot express, and the
    tables of others in the same Postgres database."""
    if kind == "table":
        return name in metadata.tables
    return not (name or "").startswith(NOT_MODELLED)


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Migrations name plain column types only: ours may change after them."""
    return "sa.DateTime(timezone=True)" if isinstance(item, UtcTime) else False


def run(connection: Connection) -> None:
    """Run the migrations, all in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=include_name,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with transacting(Settings().shelf_url).connect() as opened:
        run(opened)
