"""Rows of all files, brought together by feature: a file of the job's own, on disk.

Neuronpedia's exports name features in one order in one file and in another in the next, so that the
rows of a feature may be anywhere. Those that follow each other are stored together, each with its place;
tokens of activations as the numbers of their strings, apart from the rows. A batch of rows is committed as a whole, with the numbers of its strings: a job that was killed goes on
behind the batches that are there, and begins anew when a file was changed meanwhile.
"""

import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
from isal import isal_zlib

from app.errors import Invalid, Unavailable
from app.store.imports import MAX_EXAMPLES
from worker.neuronpedia.layout import Batch, Kind
from worker.neuronpedia.rows import NO_TOKENS, Placed, Rows

_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE batches (name TEXT PRIMARY KEY, digest TEXT, tokens INTEGER);
CREATE TABLE neurons (feature INTEGER PRIMARY KEY, place TEXT, row BLOB);
CREATE TABLE others (feature INTEGER, kind TEXT, n INTEGER, rows BLOB, tokens BLOB);
CREATE INDEX others_feature ON others (feature);
CREATE TABLE strings (number INTEGER PRIMARY KEY, string TEXT);
"""
WAIT_S = 60.0
"""Seconds that a file which another process writes is waited for."""
_FORMAT = 2
"""Of the tables: a file in another begins anew."""
_RUN_BYTES = 2**20
"""Size from which rows are no longer stored together."""


class Spool:
    """The rows that were read so far."""

    def __init__(self, path: Path, batches: list[Batch]) -> None:
        """Open the file at `path`, made anew unless it is of `batches` as they are now."""
        versions = [(one.name, *_version(one.path)) for one in batches]
        files = orjson.dumps([_FORMAT, versions]).decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and _files_of(path) != files:
            path.unlink()
        known = path.exists()
        self._db = sqlite3.connect(path, isolation_level=None, timeout=WAIT_S)
        # What the shelf holds names strings by the numbers that are here, after a power cut too.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA cache_size=-32768")
        if not known:
            self._db.executescript(f"BEGIN; {_TABLES}")
            told = [("files", files), ("id", secrets.token_hex(8))]
            self._db.executemany("INSERT INTO about VALUES (?, ?)", told)
            self._db.execute("COMMIT")
        self._run = _Run()
        query = "SELECT kind, feature, SUM(n) FROM others GROUP BY kind, feature"
        self._counts = Counter({(kind, at): n for kind, at, n in self._db.execute(query)})

    @property
    def id(self) -> str:
        """Another for each file that was made: the numbers of strings are its own."""
        return self._db.execute("SELECT value FROM about WHERE key = 'id'").fetchone()[0]

    def has(self, batch: Batch) -> bool:
        """Whether a batch was read."""
        query = "SELECT 1 FROM batches WHERE name = ?"
        return self._db.execute(query, [batch.name]).fetchone() is not None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All or nothing of a batch."""
        self._db.execute("BEGIN")
        self._run = _Run()
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add_neuron(self, feature: int, place: str, row: bytes) -> None:
        """Raises Invalid when the feature is there already."""
        try:
            values = [feature, place, isal_zlib.compress(row, 1)]
            self._db.execute("INSERT INTO neurons VALUES (?, ?, ?)", values)
        except sqlite3.IntegrityError:
            query = "SELECT place FROM neurons WHERE feature = ?"
            (before,) = self._db.execute(query, [feature]).fetchone()
            raise Invalid(
                f"{place}: feature {feature} is here a second time; it was at {before}.",
                place=place,
            ) from None

    def add_other(
        self, kind: Kind, feature: int, place: str, row: bytes, tokens: np.ndarray = NO_TOKENS
    ) -> None:
        """An explanation, or an activation without its tokens, whose numbers are int32 [tokens]. Raises
        Invalid for one more than a feature may have: they are in memory together."""
        self._counts[kind, feature] += 1
        if self._counts[kind, feature] > MAX_EXAMPLES:
            raise Invalid(
                f"{place}: this is one more than the {MAX_EXAMPLES} {kind} of feature {feature} that are "
                "taken.",
                place=place,
            )
        if not self._run.goes_on(kind, feature):
            self._end_run()
            self._run = _Run(kind, feature)
        self._run.add(place, row, tokens)

    def _end_run(self) -> None:
        """Store the rows that followed each other."""
        run = self._run
        if run.rows:
            values = [run.feature, run.kind, len(run.rows), *run.packed()]
            self._db.execute("INSERT INTO others VALUES (?, ?, ?, ?, ?)", values)

    def end_batch(
        self, batch: Batch, digest: str, tokens: int, strings: Iterable[tuple[int, str]]
    ) -> None:
        """Remember that all of a batch is there; `digest` is sha256 over its rows, `strings` are those
        that it has numbered."""
        self._end_run()
        self._db.executemany("INSERT INTO strings VALUES (?, ?)", strings)
        values = [batch.name, digest, tokens]
        self._db.execute("INSERT INTO batches VALUES (?, ?, ?)", values)

    def refuse_strangers(self) -> None:
        """Raises Invalid when an activation or an explanation is of a feature that is not there."""
        found = self._db.execute(
            "SELECT kind, feature, rows, tokens FROM others WHERE NOT EXISTS "
            "(SELECT 1 FROM neurons WHERE neurons.feature = others.feature) ORDER BY rowid LIMIT 1"
        ).fetchone()
        if found:
            kind, feature, *packed = found
            place = next(_unpacked(*packed)).place
            raise Invalid(
                f"{place}: this is one of the {kind} of feature {feature}, which is not there.",
                place=place,
            )

    def digests(self) -> list[tuple[str, str]]:
        """Name and digest of each batch, by name."""
        return self._db.execute("SELECT name, digest FROM batches ORDER BY name").fetchall()

    def size(self) -> tuple[int, int, int]:
        """One more than the largest index of a feature; activations; their tokens."""
        (beyond,) = self._db.execute("SELECT COALESCE(MAX(feature) + 1, 0) FROM neurons").fetchone()
        query = "SELECT COALESCE(SUM(n), 0) FROM others WHERE kind = 'activations'"
        (activations,) = self._db.execute(query).fetchone()
        (tokens,) = self._db.execute("SELECT COALESCE(SUM(tokens), 0) FROM batches").fetchone()
        return beyond, activations, tokens

    def indices(self, after: int, limit: int) -> list[int]:
        """At most `limit` features behind `after` (-1: from the first), ascending."""
        query = "SELECT feature FROM neurons WHERE feature > ? ORDER BY feature LIMIT ?"
        return [feature for (feature,) in self._db.execute(query, [after, limit])]

    def rows(self, feature: int) -> Rows:
        """All rows of a feature that is there."""
        query = "SELECT place, row FROM neurons WHERE feature = ?"
        place, row = self._db.execute(query, [feature]).fetchone()
        found = Rows(feature, Placed(place, orjson.loads(isal_zlib.decompress(row))))
        query = "SELECT kind, rows, tokens FROM others WHERE feature = ? ORDER BY rowid"
        for kind, *packed in self._db.execute(query, [feature]):
            into = found.activations if kind == "activations" else found.explanations
            into += _unpacked(*packed)
        return found

    def strings(self) -> list[str]:
        """The strings that have numbers, in their order."""
        query = "SELECT string FROM strings ORDER BY number"
        return [string for (string,) in self._db.execute(query)]

    def close(self) -> None:
        self._db.close()


class _Run:
    """Rows of one kind and feature that follow each other in a file."""

    def __init__(self, kind: Kind = "activations", feature: int = -1) -> None:
        self.kind, self.feature = kind, feature
        self.rows: list[bytes] = []
        self._tokens: list[np.ndarray] = []
        self._n_bytes = 0

    def goes_on(self, kind: Kind, feature: int) -> bool:
        """Whether a row of this kind and feature can be added."""
        same = kind == self.kind and feature == self.feature
        return same and self._n_bytes < _RUN_BYTES

    def add(self, place: str, row: bytes, tokens: np.ndarray) -> None:
        self.rows.append(b"[%b,%d,%b]" % (orjson.dumps(place), len(tokens), row))
        self._tokens.append(tokens)
        self._n_bytes += len(row) + tokens.nbytes

    def packed(self) -> tuple[bytes, bytes]:
        """JSON [[place, number of tokens, row], ...], and the tokens of all rows."""
        rows, tokens = b"[%b]" % b",".join(self.rows), np.concatenate(self._tokens)
        return isal_zlib.compress(rows, 1), isal_zlib.compress(tokens, 1)


def _unpacked(rows: bytes, tokens: bytes) -> Iterator[Placed]:
    """The rows of a run."""
    numbers, at = np.frombuffer(isal_zlib.decompress(tokens), np.int32), 0
    for place, n_tokens, row in orjson.loads(isal_zlib.decompress(rows)):
        yield Placed(place, row, numbers[at : at + n_tokens])
        at += n_tokens


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _files_of(path: Path) -> str | None:
    """The files that a spool is of; None when it is none.

    Raises Unavailable where another process writes it all the while: the job was taken over from one that
    stands still.
    """
    db = sqlite3.connect(path, timeout=WAIT_S)
    try:
        return db.execute("SELECT value FROM about WHERE key = 'files'").fetchone()[0]
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Unavailable(
                "Another process still writes what this import has read so far; end it, then "
                "`saescope jobs retry` goes on with this job."
            ) from None
        return None
    finally:
        db.close()
