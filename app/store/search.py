"""Full text over features: the indices, and the condition that uses them.

A feature's `words` column holds what it can be found by (`app.store.words`). Both databases index
the words as they are: FTS5's ascii tokenizer splits at nothing but the spaces between them,
Postgres takes the split array. Hits of one run lie together in SQLite's index; Postgres finds them by
the run's number, which is indexed as a word. A query finds the features that have, for every word of it, a word
that begins so.
"""

from sqlalchemy import ColumnElement, Connection, cast, column, false, literal_column, text
from sqlalchemy.dialects.postgresql import TSQUERY

from app.errors import Invalid
from app.store import words
from app.store.engine import Shelf
from app.store.tables import features, packed_id

NOT_MODELLED = "search_"
"""Prefix of the names of tables and indices that `app.store.tables` does not model."""

FEW = 2_000
"""Hits up to which SQLite looks each up by its key."""

_HITS = text(
    "SELECT rowid FROM search_features WHERE search_features MATCH :q "
    "AND rowid >= :lowest AND rowid < :beyond LIMIT :most"
).columns(column("rowid"))

_ADD = text(
    "INSERT INTO search_features(rowid, words) "
    "SELECT id, words FROM features WHERE id >= :lowest AND id < :beyond"
)

_FORGET = text(
    "INSERT INTO search_features(search_features, rowid, words) "
    "SELECT 'delete', id, words FROM features WHERE id >= :lowest AND id < :beyond"
)

VECTOR = "array_to_tsvector(array_append(string_to_array(words, ' '), '#' || run::text))"
"""What Postgres indexes: the words, and the run as a word that no text has."""


def matches(shelf: Shelf, connection: Connection, run: int, query: str) -> ColumnElement[bool]:
    """Condition on `features` that holds for those of `run` with every word of `query`.

    Few hits are best looked up by key and sorted, many are best met on the way through the list's
    own index. Postgres decides that by its statistics; SQLite has none, so hits are counted here.
    """
    found = list(dict.fromkeys(words.cut(query)))
    if not found:
        raise Invalid("`q` has no letters or digits to search for; give at least one word.")
    if not shelf.is_sqlite:
        tsquery = of_run(run, " & ".join(f"'{word}':*" for word in found))
        return literal_column(VECTOR).op("@@")(cast(tsquery, TSQUERY))
    hits = _HITS.bindparams(
        q=" AND ".join(f'"{word}"*' for word in found),
        lowest=packed_id(run, 0),
        beyond=packed_id(run + 1, 0),
    )
    some = connection.execute(hits.bindparams(most=FEW + 1)).scalars().all()
    if len(some) <= FEW:
        return features.c.id.in_(some) if some else false()
    return (features.c.id + 0).in_(hits.bindparams(most=-1))


def of_run(run: int, tsquery: str) -> str:
    """A query of Postgres that finds a run's features only."""
    return f"'#{run}' & ({tsquery})"


def add(connection: Connection, lowest: int, beyond: int) -> None:
    """Index the rows of `features` with ids from `lowest` to below `beyond`, after inserting them.

    Postgres does it by itself. On SQLite a trigger would: but FTS5 then writes a segment for every
    row, which takes three times as long as all rows in one statement.
    """
    if connection.dialect.name == "sqlite":
        connection.execute(_ADD, {"lowest": lowest, "beyond": beyond})


def forget(connection: Connection, lowest: int, beyond: int) -> None:
    """Take rows out of the index, before deleting them: FTS5 must be told what was in them."""
    if connection.dialect.name == "sqlite":
        connection.execute(_FORGET, {"lowest": lowest, "beyond": beyond})
