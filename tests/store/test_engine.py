"""Connections: what SQLite is told, how a dead Postgres connection is noticed, plans of lists."""

import asyncio
import time

import pytest
from sqlalchemy import event

from app.store import engine, lookup, read
from app.store.engine import Shelf
from app.store.lookup import Lookups
from app.store.read import Ranges
from tests.store import builders


def test_sqlite_is_durable_and_checked(sqlite_shelf: Shelf) -> None:
    with sqlite_shelf.read() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum", "page_size")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == ["wal", 2, 1, 2, 8192]


def test_readers_connect_while_a_writer_works(sqlite_shelf: Shelf) -> None:
    builders.fill(sqlite_shelf)
    with sqlite_shelf.write():
        sqlite_shelf.reader.dispose()
        began = time.monotonic()
        assert read.models(sqlite_shelf).items
        assert time.monotonic() - began < engine.BUSY_TIMEOUT_S / 2


def cut_connections(shelf: Shelf) -> None:
    """End all connections of a Postgres shelf, as a restart of the server does."""
    with shelf.writer.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    time.sleep(0.1)


def test_a_read_notices_that_its_connection_died(postgres_shelf: Shelf) -> None:
    builders.fill(postgres_shelf)
    before = lookup.feature(postgres_shelf, "tiny", "0-res", 3)
    cut_connections(postgres_shelf)
    assert lookup.feature(postgres_shelf, "tiny", "0-res", 3) == before


def test_lookups_go_on_when_all_their_connections_died(postgres_shelf: Shelf) -> None:
    builders.fill(postgres_shelf)
    asyncio.run(_looked_up_before_and_after(postgres_shelf))


async def _looked_up_before_and_after(shelf: Shelf) -> None:
    lookups = Lookups(shelf)
    before = await asyncio.gather(*(lookups("tiny", "0-res", 3) for _ in range(20)))
    await asyncio.to_thread(cut_connections, shelf)
    after = await asyncio.gather(*(lookups("tiny", "0-res", 3) for _ in range(20)))
    await lookups.close()
    assert [found for found, _ in before] == [found for found, _ in after]


@pytest.mark.parametrize("sort", ["index", "density", "max_activation"])
def test_sqlite_walks_the_index_of_the_sort(sqlite_shelf: Shelf, sort: read.Sort) -> None:
    builders.fill(sqlite_shelf)
    statements = []
    event.listen(
        sqlite_shelf.reader,
        "before_cursor_execute",
        lambda connection, cursor, sql, parameters, *_: statements.append((sql, parameters)),
    )
    ranges = Ranges(density_min=0.0, density_max=1.0, max_activation_min=0.0)
    page = read.features(sqlite_shelf, "tiny", "0-res", sort=sort, ranges=ranges, limit=5)
    read.features(
        sqlite_shelf, "tiny", "0-res", sort=sort, ranges=ranges, limit=5, cursor=page.next_cursor
    )
    lists = [one for one in statements if "ORDER BY" in one[0]]
    assert len(lists) == 2
    for sql, parameters in lists:
        with sqlite_shelf.reader.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
        assert f"ix_features_{sort}" in plan[0].detail
        assert len(plan) == 1  # nothing is sorted
