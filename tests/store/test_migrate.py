"""Migrations: complete, equal to the tables that the program uses, safe to start at once."""

import subprocess
import sys

from alembic import command
from sqlalchemy import inspect

from app.store import migrate
from app.store.engine import connected, transacting
from app.store.tables import metadata

MIGRATE = "import sys; from app.store.migrate import migrate; migrate(sys.argv[1])"


def test_migrations_make_the_tables_that_the_program_uses(shelf_url: str) -> None:
    migrate.migrate(shelf_url)
    with migrate.exclusive(shelf_url) as connection:
        command.check(migrate.configuration(connection))


def test_every_migration_can_be_taken_back(shelf_url: str) -> None:
    migrate.migrate(shelf_url)
    with migrate.exclusive(shelf_url) as connection:
        command.downgrade(migrate.configuration(connection), "base")
    with connected(transacting(shelf_url)) as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    migrate.migrate(shelf_url)


def test_several_processes_may_migrate_at_once(shelf_url: str) -> None:
    command_line = [sys.executable, "-c", MIGRATE, shelf_url]
    started = [subprocess.Popen(command_line) for _ in range(3)]
    assert [process.wait() for process in started] == [0] * 3
    with connected(transacting(shelf_url)) as connection:
        assert metadata.tables.keys() <= set(inspect(connection).get_table_names())
