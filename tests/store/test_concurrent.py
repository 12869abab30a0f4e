"""Readers beside a writer, and writers that are killed: one run or the other, never a mixture."""

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from app.errors import Gone, NotFound
from app.store import lookup, read, write
from app.store.engine import Shelf, open_shelf
from app.store.records import FeatureBatch
from tests.store import builders

D_SAE = 64


def whole_list(shelf: Shelf) -> tuple[str, ...]:
    """Labels of all features, in pages."""
    found, cursor = [], None
    while True:
        page = read.features(shelf, "tiny", "0-res", limit=32, cursor=cursor)
        found += [feature.label for feature in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return tuple(found)


def put_labelled(shelf: Shelf, tokens: builders.Tokens, run_id: str) -> None:
    """A complete run whose labels are its own id."""
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, run_id)
    for first in range(0, D_SAE, 16):
        batch = builders.batch(tokens, first, 16)
        batch.labels[:] = [run_id] * 16
        write.put_features(shelf, run_id, batch)
    write.finish_runs(shelf, {run_id: {}})


def test_readers_see_one_run_or_the_other(shelf_url: str, shelf: Shelf) -> None:
    tokens = builders.fill(shelf, d_sae=D_SAE)
    put_labelled(shelf, tokens, "first")
    done = threading.Event()

    def keep_reading(own: Shelf) -> list[tuple[str, ...]]:
        seen = []
        while not done.is_set():
            with contextlib.suppress(Gone):  # a run was switched between two pages
                seen.append(whole_list(own))
            feature = lookup.feature(own, "tiny", "0-res", len(seen) % D_SAE)
            assert feature.label == feature.run_id
        return seen

    other = open_shelf(shelf_url)

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(keep_reading, own) for own in (shelf, shelf, other)]
        try:
            for run_id in ("second", "third", "fourth"):
                put_labelled(shelf, tokens, run_id)
        finally:
            done.set()
    other.close()
    for reader in readers:
        seen = reader.result()
        assert {len(set(labels)) for labels in seen} == {1}
        assert {len(labels) for labels in seen} == {D_SAE}


WRITER = """
import sys, time
from sqlalchemy import event
from app.store import write
from app.store.engine import open_shelf
from tests.store import builders

shelf = open_shelf(sys.argv[1])
tokens = builders.corpus()
for first in (0, 32):
    write.put_features(shelf, "run-2", builders.batch(tokens, first, 32, seed=1))

def stop_inside(connection, cursor, statement, parameters, context, executemany):
    if statement.startswith("INSERT INTO features"):
        print("inside", flush=True)
        time.sleep(600)

event.listen(shelf.writer, "after_cursor_execute", stop_inside)
write.put_features(shelf, "run-2", builders.batch(tokens, 0, 32, seed=2))
"""


def test_a_writer_killed_inside_a_range_leaves_the_range_as_it_was(
    shelf_url: str, shelf: Shelf
) -> None:
    tokens = builders.fill(shelf, d_sae=D_SAE)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "run-2")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, shelf_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout
    assert process.stdout.readline() == "inside\n"
    process.kill()
    process.communicate()
    assert write.committed_ranges(shelf, "run-2") == [(0, 32), (32, 64)]
    write.finish_runs(shelf, {"run-2": {}})
    for first in (0, 32):
        expected = builders.batch(tokens, first, 32, seed=1)
        found = read.max_activations(shelf, "tiny", "0-res", range(first, first + 32))
        assert list(found.values()) == expected.max_activation.tolist()
    check_index(shelf)


def check_index(shelf: Shelf) -> None:
    """SQLite's full-text index holds exactly the rows of the table."""
    if shelf.is_sqlite:
        with shelf.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO search_features(search_features, rank) VALUES ('integrity-check', 1)"
            )


def test_an_sae_that_comes_while_its_model_is_deleted_is_refused(
    shelf_url: str, shelf: Shelf
) -> None:
    builders.fill(shelf)
    other, late = open_shelf(shelf_url), []
    with ThreadPoolExecutor() as pool:

        def put(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("DELETE FROM saes"):
                late.append(pool.submit(write.put_sae, other, builders.sae_record("late")))
                wait(late, timeout=1)

        event.listen(shelf.writer, "after_cursor_execute", put)
        write.delete_model(shelf, "tiny")
        with pytest.raises(NotFound, match="no model 'tiny'"):
            late[0].result()
    other.close()


def test_two_writers_of_the_same_range_leave_one_of_them(shelf_url: str, shelf: Shelf) -> None:
    tokens = builders.fill(shelf, d_sae=D_SAE)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "run-2")
    batches = [builders.batch(tokens, 0, D_SAE, seed=seed) for seed in range(4)]

    def put(batch: FeatureBatch) -> None:
        own = open_shelf(shelf_url)
        for _ in range(5):
            write.put_features(own, "run-2", batch)
        own.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(put, batches))
    write.finish_runs(shelf, {"run-2": {}})
    maxima = read.max_activations(shelf, "tiny", "0-res", range(D_SAE))
    found = [maxima[index] for index in range(D_SAE)]
    assert found in [batch.max_activation.tolist() for batch in batches]
