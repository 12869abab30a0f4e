"""Labels found by words, over several SAEs at once.

The same words and indices as in lists (`app.store.search`), but one word suffices: a feature ranks by
how many of the query's words it has, then by how many of them its label has, then by SAE and index.
Ranked are the features that each word finds, and those that all words find, each time the first
`MOST_HITS` of them, shared out among the SAEs: so what a search costs does not grow with the features
that there are, and of words that are more common than that some are not ranked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, TextClause, select, text

from app.errors import Invalid
from app.store import find, words
from app.store import tables as t
from app.store.engine import Shelf
from app.store.search import VECTOR
from app.store.tables import ROW_MASK, packed_id

MOST_HITS = 1_000
"""Features that a word finds, or all words together."""
FEWEST_HITS = 50
"""Of one SAE, however many there are."""
MOST_WORDS = 16
"""Words of a query."""
_AT_ONCE = 500

_OF_FILE = (
    "SELECT * FROM (SELECT rowid FROM search_features WHERE search_features MATCH :pattern{n} "
    "AND rowid >= :lowest AND rowid < :beyond LIMIT :most)"
)
# OFFSET 0 keeps Postgres from walking through the run in the order of ids.
_OF_SERVER = (
    "SELECT * FROM (SELECT id FROM (SELECT id FROM features WHERE id >= :lowest AND id < :beyond "
    f"AND {VECTOR} @@ CAST(:pattern{{n}} AS tsquery) OFFSET 0) AS found ORDER BY id LIMIT :most) AS some{{n}}"
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
    """Keys of the features that one of the words finds, or all of them."""
    one_word, all_words = ('"{}"*', " AND ") if shelf.is_sqlite else ("'{}':*", " & ")
    patterns = [one_word.format(word) for word in wanted]
    patterns = list(dict.fromkeys([*patterns, all_words.join(patterns)]))
    statement = _statement(shelf, len(patterns))
    parameters = {f"pattern{n}": pattern for n, pattern in enumerate(patterns)}
    parameters["most"] = max(MOST_HITS // max(len(among), 1), FEWEST_HITS)
    found: set[int] = set()
    for one in among:
        bounds = {"lowest": packed_id(one.run, 0), "beyond": packed_id(one.run + 1, 0)}
        found.update(connection.execute(statement, {**parameters, **bounds}).scalars())
    return sorted(found)


def _statement(shelf: Shelf, n_patterns: int) -> TextClause:
    """Keys of one run's features, once for each pattern that finds them."""
    of_pattern = _OF_FILE if shelf.is_sqlite else _OF_SERVER
    return text(" UNION ALL ".join(of_pattern.format(n=n) for n in range(n_patterns)))


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
            n_words = _found(wanted, its_words.split(" "))
            n_in_label = _found(wanted, words.cut(label))
            hit = Hit(one.model_id, one.sae_id, id & ROW_MASK, n_words, n_in_label)
            yield -n_words, -n_in_label, place, hit.index, hit


def _found(wanted: list[str], its_words: list[str]) -> int:
    """How many of the wanted words begin one of a feature's."""
    return sum(any(word.startswith(begin) for word in its_words) for begin in wanted)
