"""Migrations: complete, equal to the tables that the program uses, safe to start at once."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

import migrations
from app.errors import Conflict, Unavailable
from app.jobs import migrate_jobs
from app.store import lists, read, upgrade
from app.store.engine import connected, open_shelf, transacting
from app.store.migrate import migrate
from app.store.tables import metadata
from tests.store import builders

MIGRATE = "import sys; from app.store.migrate import migrate; migrate(sys.argv[1])"


def test_migrations_make_the_tables_that_the_program_uses(shelf_url: str) -> None:
    migrate(shelf_url)
    with upgrade.exclusive(shelf_url) as connection:
        command.check(upgrade.configuration(connection))


def test_the_newest_revision_is_the_last(shelf_url: str) -> None:
    with upgrade.exclusive(shelf_url) as connection:
        scripts = ScriptDirectory.from_config(upgrade.configuration(connection))
    assert scripts.get_current_head() == migrations.NEWEST


def _written_by_a_later_version(url: str, usable_from: str) -> None:
    migrate(url)
    with connected(transacting(url)) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text(f"UPDATE usable_from SET revision = '{usable_from}'"))


def test_a_newer_database_is_used_where_it_says_that_it_can_be(shelf_url: str) -> None:
    _written_by_a_later_version(shelf_url, migrations.NEWEST)
    migrate(shelf_url)
    with pytest.raises(Conflict, match="revision 9999"):
        migrate(shelf_url, exactly=True)
    with connected(transacting(shelf_url)) as connection:
        assert connection.execute(text("SELECT * FROM alembic_version")).scalar() == "9999"


def test_a_newer_database_that_this_version_would_spoil_is_refused(shelf_url: str) -> None:
    _written_by_a_later_version(shelf_url, "9998")
    with pytest.raises(Conflict, match="revision 9999"):
        migrate(shelf_url)


def test_tables_that_stay_in_use_are_told(
    postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres()
    migrate(url)
    with upgrade.exclusive(url) as connection:
        command.downgrade(upgrade.configuration(connection), "0005")
    monkeypatch.setattr("app.store.migrate.PATIENCE_S", 0.0)
    with connected(transacting(url)) as connection:
        connection.execute(text("SELECT 1 FROM corpora"))
        with pytest.raises(Unavailable, match="transactions on them stay open"):
            migrate(url)
    migrate(url)


def test_a_process_that_stands_still_while_it_migrates_is_cut_off(
    postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.engine.IDLE_TRANSACTION_S", 1)
    monkeypatch.setattr("app.store.migrate.PATIENCE_S", 60.0)
    url = postgres()
    with pytest.raises(DBAPIError), upgrade.exclusive(url) as connection:
        connection.execute(text("CREATE TABLE models (half INT)"))
        migrate(url)
        connection.execute(text("DROP TABLE models"))
    with closing(open_shelf(url)) as shelf:
        builders.fill(shelf)


def test_a_process_that_migrates_for_too_long_is_told(
    postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.migrate.PATIENCE_S", 0.0)
    url = postgres()
    with upgrade.exclusive(url), pytest.raises(Unavailable, match="being changed by another"):
        migrate(url)
    migrate(url)


@pytest.mark.parametrize("prepare", [migrate, migrate_jobs])
def test_a_file_that_is_no_database_is_refused(
    tmp_path: Path, prepare: Callable[[str], None]
) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"To do: buy milk. " * 1000)
    with pytest.raises(Conflict, match=r"notes\.db is damaged, or no SQLite database"):
        prepare(f"sqlite:///{path}")
    assert path.read_bytes() == b"To do: buy milk. " * 1000


def test_every_migration_can_be_taken_back(shelf_url: str) -> None:
    migrate(shelf_url)
    with upgrade.exclusive(shelf_url) as connection:
        command.downgrade(upgrade.configuration(connection), "base")
    with connected(transacting(shelf_url)) as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    migrate(shelf_url)


def test_an_sae_whose_evidence_is_dropped_says_nothing_of_it(shelf_url: str) -> None:
    migrate(shelf_url)
    with closing(open_shelf(shelf_url)) as shelf:
        builders.fill(shelf)
    with upgrade.exclusive(shelf_url) as connection:
        command.downgrade(upgrade.configuration(connection), "0001")
    migrate(shelf_url)
    with closing(open_shelf(shelf_url)) as shelf:
        sae = read.sae(shelf, "tiny", "0-res")
    assert (sae.status, sae.run_id) == ("registered", None)
    assert sae.provenance == {"model": "f" * 64, "sae": "a" * 64}


def test_going_back_drops_what_people_kept_and_nothing_else(shelf_url: str) -> None:
    migrate(shelf_url)
    with closing(open_shelf(shelf_url)) as shelf:
        builders.fill(shelf)
        lists.new(shelf, "me", "mine", "", None, {("tiny", "0-res", 3): ""})
        before = read.features(shelf, "tiny", "0-res", q="tok7")
    with upgrade.exclusive(shelf_url) as connection:
        command.downgrade(upgrade.configuration(connection), "0006")
    migrate(shelf_url)
    with closing(open_shelf(shelf_url)) as shelf:
        assert lists.owned(shelf, "me") == []
        assert read.features(shelf, "tiny", "0-res", q="tok7") == before
        assert before.items


def test_several_processes_may_migrate_at_once(shelf_url: str) -> None:
    command_line = [sys.executable, "-c", MIGRATE, shelf_url]
    started = [subprocess.Popen(command_line) for _ in range(3)]
    assert [process.wait() for process in started] == [0] * 3
    with connected(transacting(shelf_url)) as connection:
        assert metadata.tables.keys() <= set(inspect(connection).get_table_names())
