"""The catalog of pretrained SAEs: what SAELens' directory says, on the shelf.

It is replaced as a whole, and `catalog_source` names what it was made from. Its words are cut and
indexed as those of features are (`app.store.search`): 13,857 entries searched without an index take
longer than the rest of a request.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    cast,
    column,
    delete,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from app.errors import Unavailable
from app.store import pages, words
from app.store.engine import Shelf
from app.store.pages import Page
from app.store.tables import catalog, catalog_source

PREFIX = "saelens:"
"""What the name of an entry begins with where a path is asked for."""
_NUMBER_MAX = 2**31 - 1
_HITS = text("SELECT rowid FROM search_catalog WHERE search_catalog MATCH :q").columns(
    column("rowid")
)
_INDEX = text("INSERT INTO search_catalog(search_catalog) VALUES ('rebuild')")
_VECTOR = "array_to_tsvector(string_to_array(words, ' '))"


@dataclass(frozen=True)
class CatalogEntry:
    """One pretrained SAE. What is not known is None."""

    release: str
    sae_id: str
    model: str
    repo: str
    format: str
    """Name of SAELens' conversion; `sae_lens` is its own format."""
    hook_name: str | None
    neuronpedia_id: str | None
    l0: float | None
    explained_variance: float | None

    @property
    def path(self) -> str:
        """What a `load` job takes."""
        return f"{PREFIX}{self.release}/{self.sae_id}"

    @property
    def words(self) -> str:
        """What it is found by, once each."""
        named = f"{self.release} {self.sae_id} {self.model} {self.repo}"
        return " ".join(dict.fromkeys(words.cut(named)))


_COLUMNS = [catalog.c[name] for name in CatalogEntry.__dataclass_fields__]


def source(shelf: Shelf) -> str | None:
    """What the catalog was made from; None when it is not there yet."""
    with shelf.read() as connection:
        return _source(connection)


def replace(shelf: Shelf, made_from: str, entries: Iterable[CatalogEntry]) -> None:
    """Put a catalog on the shelf, in one transaction, unless it is there."""
    rows = [
        {"number": number, "words": entry.words, **asdict(entry)}
        for number, entry in enumerate(entries)
    ]
    with shelf.write() as connection:
        if not shelf.is_sqlite:  # two workers may come at the same moment; readers go on
            connection.execute(text("LOCK TABLE catalog IN EXCLUSIVE MODE"))
        if _source(connection) == made_from:
            return
        for table in (catalog, catalog_source):
            connection.execute(delete(table))
        connection.execute(insert(catalog), rows)
        connection.execute(insert(catalog_source), {"source": made_from})
        index(connection)


def index(connection: Connection) -> None:
    """Make the full-text index anew, on SQLite; Postgres keeps it by itself."""
    if connection.dialect.name == "sqlite":
        connection.execute(_INDEX)


def entries(
    shelf: Shelf,
    q: str | None = None,
    model: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[CatalogEntry]:
    """A page of the entries that have all words of `q`, by release. Of each name in `q` (`res-jb`) the
    last word may be a beginning, but for numbers: layer 1 is not layer 11.

    Unavailable when the catalog is not on the shelf yet.
    """
    pages.check_limit(limit)
    with shelf.snapshot() as connection:
        made_from = _source(connection)
        if made_from is None:
            raise Unavailable(
                "The catalog is not on the shelf yet; a jobs worker puts it there within seconds of "
                "its start."
            )
        key = ["catalog", made_from, q, model]
        query = _listed(_place(cursor, key)).where(*_conditions(shelf, q, model))
        rows = connection.execute(query.limit(limit + 1)).all()
    more = pages.encode(key, [rows[limit - 1].number]) if len(rows) > limit else None
    return Page([CatalogEntry(*row[1:]) for row in rows[:limit]], more)


def _source(connection: Connection) -> str | None:
    return connection.execute(select(catalog_source.c.source)).scalar()


def _place(cursor: str | None, key: list[str | None]) -> int:
    """Number of the last entry that was seen."""
    if cursor is None:
        return -1
    (number,) = pages.decode(cursor, key, (int,))
    if not 0 <= number <= _NUMBER_MAX:
        raise pages.refused()
    return number


def _listed(after: int) -> Select:
    return select(catalog.c.number, *_COLUMNS).where(catalog.c.number > after).order_by("number")


def _conditions(shelf: Shelf, q: str | None, model: str | None) -> list[ColumnElement[bool]]:
    conditions = [] if model is None else [catalog.c.model == model]
    found = _words(q or "")
    if not found:
        return conditions
    if shelf.is_sqlite:
        hits = " AND ".join(f'"{word}"' + "*" * begins for word, begins in found.items())
        return [*conditions, catalog.c.number.in_(_HITS.bindparams(q=hits))]
    query = " & ".join(f"'{word}'" + ":*" * begins for word, begins in found.items())
    return [*conditions, literal_column(_VECTOR).op("@@")(cast(query, TSQUERY))]


def _words(q: str) -> dict[str, bool]:
    """The words to find, and whether the beginning of one suffices."""
    found: dict[str, bool] = {}
    for name in q.split():
        *whole, last = words.cut(name) or [""]
        found |= dict.fromkeys(whole, False)
        if last:
            found[last] = not last.isdigit() and found.get(last, True)
    return found
