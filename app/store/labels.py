"""Labels found by words, over several SAEs at once.

The same words and indices as in lists (`app.store.search`), but one word suffices: a feature ranks by
how many of the query's words it has, then by how many of them its label has, then by SAE and index.
Each SAE is asked once, and a word finds at most `MOST_HITS` features, shared out among the SAEs: so
what a search costs does not grow with the features that there are, and of words that are more common
than that only the first features of each SAE are ranked.
"""

from collections import Counter
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

MOST_HITS = 2_000
"""Features that a word finds."""
FEWEST_HITS = 50
"""Of one SAE, however many there are."""
MOST_WORDS = 16
"""Words of a query."""
_AT_ONCE = 500

_OF_FILE = (
    "SELECT * FROM (SELECT rowid FROM search_features WHERE search_features MATCH :word{n} "
    "AND rowid >= :lowest AND rowid < :beyond LIMIT :most)"
)
# OFFSET 0 keeps Postgres from walking through the run in the order of ids.
_OF_SERVER = (
    "SELECT * FROM (SELECT id FROM (SELECT id FROM features WHERE id >= :lowest AND id < :beyond "
    f"AND {VECTOR} @@ CAST(:word{{n}} AS tsquery) OFFSET 0) AS found ORDER BY id LIMIT :most) AS some{{n}}"
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
    enough = offset + limit + 1
    hits: list[Hit] = []
    with shelf.snapshot() as connection:
        counts = _counts(shelf, connection, among, wanted)
        by_run = {one.run: (place, one) for place, one in enumerate(among)}
        for n in range(len(wanted), 0, -1):
            ids = [id for id, count in counts.items() if count == n]
            ranked = sorted(_ranked(connection, ids, wanted, by_run))
            hits += [hit for *_, hit in ranked]
            if len(hits) >= enough:
                break
    return hits[offset : offset + limit], len(hits) >= enough


def _words(query: str) -> list[str]:
    found = list(dict.fromkeys(words.cut(query)))
    if not found:
        raise Invalid("`query` has no letters or digits to search for; give at least one word.")
    if len(found) > MOST_WORDS:
        raise Invalid(
            f"`query` has {len(found)} different words; at most {MOST_WORDS} are searched."
        )
    return found


def _counts(
    shelf: Shelf, connection: Connection, among: Sequence[Served], wanted: list[str]
) -> Counter[int]:
    """How many words found a feature, by its key."""
    statement = _statement(shelf, len(wanted))
    pattern = '"{}"*' if shelf.is_sqlite else "'{}':*"
    parameters = {f"word{n}": pattern.format(word) for n, word in enumerate(wanted)}
    most = max(MOST_HITS // max(len(among), 1), FEWEST_HITS)
    counts: Counter[int] = Counter()
    for one in among:
        bounds = {"lowest": packed_id(one.run, 0), "beyond": packed_id(one.run + 1, 0)}
        found = connection.execute(statement, {**parameters, **bounds, "most": most})
        counts.update(found.scalars())
    return counts


def _statement(shelf: Shelf, n_words: int) -> TextClause:
    """Keys of one run's features, once for each word that finds them."""
    of_word = _OF_FILE if shelf.is_sqlite else _OF_SERVER
    return text(" UNION ALL ".join(of_word.format(n=n) for n in range(n_words)))


def _ranked(
    connection: Connection,
    ids: list[int],
    wanted: list[str],
    by_run: dict[int, tuple[int, Served]],
) -> Iterator[tuple[int, int, int, int, Hit]]:
    """Those that have a label, with what they are sorted by. All words count, not only those that
    found them."""
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
