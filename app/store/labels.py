"""Labels found by words, over several SAEs at once.

The same words and indices as in lists (`app.store.search`), but one word suffices: a feature ranks by
how many of the query's words it has, then by how many of them its label has, then by SAE and index.
To have a word is to have one that begins so. What a search costs does not grow with the features that
there are: ranked are the first `MOST_HITS` features that have a word as it is, those that have all of
them, and, where a word finds fewer, those with one that begins so. The first two are shared out among
the SAEs. So of words that are more common some features are not ranked.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, select, text

from app.errors import Invalid
from app.store import find, words
from app.store import tables as t
from app.store.engine import Shelf
from app.store.search import VECTOR, of_run
from app.store.tables import ROW_BITS, ROW_MASK, packed_id

MOST_HITS = 1_000
"""Features that a word finds, or all words together."""
FEWEST_HITS = 10
"""Of one SAE, however many there are."""
MOST_WORDS = 16
"""Words of a query."""
_AT_ONCE = 500

SHORTEST_BEGINNING = 3
"""Letters of a word that may be the beginning of another."""

_OF_FILE = (
    "SELECT * FROM (SELECT rowid, {n} FROM search_features WHERE search_features MATCH :pattern{n} "
    "AND rowid >= :lowest AND rowid < :beyond LIMIT :most)"
)
_OF_SERVER = (
    f"SELECT * FROM (SELECT id, {{n}} FROM features WHERE {VECTOR} @@ CAST(:pattern{{n}} AS tsquery) "
    "LIMIT :most) AS found{n}"
)
_BEGIN_IN_FILE = text(
    "SELECT rowid FROM search_features WHERE search_features MATCH :pattern "
    f"AND rowid >> {ROW_BITS} IN :runs LIMIT :most"
).bindparams(bindparam("runs", expanding=True))
_BEGIN_ON_SERVER = text(
    f"SELECT id FROM features WHERE {VECTOR} @@ CAST(:pattern AS tsquery) LIMIT :most"
)
# Postgres would read all features in their order where it thinks that a word is common, and those of
# several processes come in no order.
_ONLY_BY_INDEX = (
    text("SET LOCAL enable_seqscan = off"),
    text("SET LOCAL max_parallel_workers_per_gather = 0"),
)


class Served(NamedTuple):
    """An SAE whose evidence is served."""

    model_id: str
    sae_id: str
    run: int
    """The run's number."""


@dataclass(frozen=True)
class Hit:
    """A feature that was found."""

    model_id: str
    sae_id: str
    index: int
    n_words: int
    """Words of the query that it has."""
    n_in_label: int
    """Words of the query that its label has."""


def of_model(shelf: Shelf, model_id: str, sae_ids: Sequence[str] | None = None) -> list[Served]:
    """A model's SAEs that have evidence, or those named; NotFound when one of these has none."""
    with shelf.snapshot() as connection:
        if sae_ids is not None:
            named = dict.fromkeys(sae_ids)
            rows = [find.evidence(connection, model_id, sae_id) for sae_id in named]
            return [Served(model_id, row.id, row.run) for row in rows]
        find.model(connection, model_id)
        return _served(connection, t.saes.c.model_id == model_id)


def of_all(shelf: Shelf) -> list[Served]:
    """All SAEs that have evidence."""
    with shelf.read() as connection:
        return _served(connection)


def steerable(shelf: Shelf) -> list[Served]:
    """All SAEs that have evidence and can be steered with."""
    with shelf.read() as connection:
        return _served(connection, t.saes.c.steerable.is_(True))


def _served(connection: Connection, *conditions: ColumnElement[bool]) -> list[Served]:
    c = t.saes.c
    query = select(c.model_id, c.id, c.run).where(c.run.is_not(None), *conditions)
    rows = connection.execute(query.order_by(c.model_id, c.layer, c.id))
    return [Served(*row) for row in rows]


def search(
    shelf: Shelf, among: Sequence[Served], query: str, offset: int, limit: int
) -> tuple[list[Hit], bool]:
    """At most `limit` hits behind the first `offset`, best first, and whether there are more.

    Raises:
        Invalid: the query has no word, or too many.
    """
    wanted = _words(query)
    with shelf.snapshot() as connection:
        ids = _found_by(shelf, connection, among, wanted)
        by_run = {one.run: (place, one) for place, one in enumerate(among)}
        ranked = sorted(_ranked(connection, ids, wanted, by_run))
    hits = [hit for *_, hit in ranked[offset : offset + limit]]
    return hits, len(ranked) > offset + limit


def _words(query: str) -> list[str]:
    found = list(dict.fromkeys(words.cut(query)))
    if not found:
        raise Invalid("`query` has no letters or digits to search for; give at least one word.")
    if len(found) > MOST_WORDS:
        raise Invalid(
            f"`query` has {len(found)} different words; at most {MOST_WORDS} are searched."
        )
    return found


def _found_by(
    shelf: Shelf, connection: Connection, among: Sequence[Served], wanted: list[str]
) -> list[int]:
    """Keys of the features that have one of the words, or all of them."""
    if not among:
        return []
    if not shelf.is_sqlite:
        for setting in _ONLY_BY_INDEX:
            connection.execute(setting)
    found, counts = _as_they_are(shelf, connection, among, wanted)
    for n, word in enumerate(wanted):
        if counts[n] < MOST_HITS and len(word) >= SHORTEST_BEGINNING:
            found |= _that_begin(shelf, connection, among, word)
    return sorted(found)


def _as_they_are(
    shelf: Shelf, connection: Connection, among: Sequence[Served], wanted: list[str]
) -> tuple[set[int], Counter[int]]:
    """What the words find in each SAE, and how many each finds, by its place among them."""
    one, together = ('"{}"', " AND ") if shelf.is_sqlite else ("'{}'", " & ")
    patterns = [one.format(word) for word in wanted]
    patterns += [together.join(patterns)] if len(patterns) > 1 else []
    of_pattern = _OF_FILE if shelf.is_sqlite else _OF_SERVER
    statement = text(" UNION ALL ".join(of_pattern.format(n=n) for n in range(len(patterns))))
    most = max(MOST_HITS // len(among), FEWEST_HITS)
    rows = []
    for _, _, run in among:
        own = patterns if shelf.is_sqlite else [of_run(run, pattern) for pattern in patterns]
        parameters = {f"pattern{n}": pattern for n, pattern in enumerate(own)} | {"most": most}
        if shelf.is_sqlite:
            parameters |= {"lowest": packed_id(run, 0), "beyond": packed_id(run + 1, 0)}
        rows += connection.execute(statement, parameters).all()
    return {id for id, _ in rows}, Counter(n for _, n in rows)


def _that_begin(
    shelf: Shelf, connection: Connection, among: Sequence[Served], word: str
) -> set[int]:
    """What has a word that begins so, in all of the SAEs together: a beginning costs the same for one."""
    runs = [run for _, _, run in among]
    if shelf.is_sqlite:
        own = {"pattern": f'"{word}"*', "runs": runs}
        return set(connection.execute(_BEGIN_IN_FILE, own | {"most": MOST_HITS}).scalars())
    any_run = " | ".join(f"'#{run}'" for run in runs)
    own = {"pattern": f"({any_run}) & '{word}':*", "most": MOST_HITS}
    return set(connection.execute(_BEGIN_ON_SERVER, own).scalars())


def _ranked(
    connection: Connection,
    ids: list[int],
    wanted: list[str],
    by_run: dict[int, tuple[int, Served]],
) -> Iterator[tuple[int, int, int, int, Hit]]:
    """Those that have a label, with what they are sorted by."""
    c = t.features.c
    for first in range(0, len(ids), _AT_ONCE):
        some = c.id.in_(ids[first : first + _AT_ONCE])
        query = select(c.id, c.run, c.label, c.words).where(some, c.label != "")
        for id, run, label, its_words in connection.execute(query):
            place, one = by_run[run]
            n_words = _found(wanted, its_words)
            n_in_label = _found(wanted, " ".join(words.cut(label)))
            hit = Hit(one.model_id, one.sae_id, id & ROW_MASK, n_words, n_in_label)
            yield -n_words, -n_in_label, place, hit.index, hit


def _found(wanted: list[str], its_words: str) -> int:
    """How many of the wanted words begin one of a feature's, which are separated by spaces."""
    spaced = f" {its_words}"
    return sum(f" {word}" in spaced for word in wanted)
