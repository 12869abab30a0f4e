"""A real shelf for precompute to commit to. Runs have the names of their dictionaries."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from sqlalchemy import select

from app.store.engine import Shelf, open_shelf
from app.store.records import CorpusRecord, ModelRecord, SaeRecord
from app.store.tables import UtcTime, metadata
from app.store.write import begin_run, put_corpus, put_model, put_sae
from worker.models import LanguageModel, vocabulary
from worker.precompute.settings import Settings
from worker.saes import Dictionary
from worker.tokens import Sequences


def open_for(url: str, model: LanguageModel, dictionaries: Iterable[Dictionary]) -> Shelf:
    """A shelf with tables, and in them a model and its dictionaries."""
    shelf = open_shelf(url)
    put_model(shelf, _model_record(model), vocabulary(model))
    for one in dictionaries:
        put_sae(shelf, SaeRecord(
            model_id=model.id, id=one.id, fingerprint=one.fingerprint, path="",
            hook_name=one.hook_name, layer=one.layer, architecture=one.architecture,
            d_in=one.d_in, d_sae=one.d_sae, steerable=one.steerable,
            steerable_reason=one.steerable_reason,
        ))  # fmt: skip
    return shelf


def begin_runs(
    shelf: Shelf,
    model: LanguageModel,
    dictionaries: Iterable[Dictionary],
    sequences: Sequences,
    settings: Settings,
) -> None:
    """Put a corpus there, and begin a run on it for each dictionary."""
    put_corpus(shelf, CorpusRecord(
        id="corpus", model_id=model.id, source="here", n_sequences=len(sequences),
        n_tokens=len(sequences.flat), context_size=model.context_size, prepend_bos=True,
    ), sequences.flat, sequences.offsets)  # fmt: skip
    for one in dictionaries:
        begin_run(shelf, model.id, one.id, "corpus", asdict(settings), one.id)


def _model_record(model: LanguageModel) -> ModelRecord:
    return ModelRecord(
        id=model.id, fingerprint=model.fingerprint, source="here", path=str(model.path),
        n_layers=model.n_layers, d_model=model.d_model, d_mlp=model.d_mlp,
        vocab_size=model.vocab_size, context_size=model.context_size,
        prepend_bos=model.prepend_bos, hook_points=model.hook_points,
    )  # fmt: skip


def rows(shelf: Shelf) -> dict[str, Sequence[tuple]]:
    """All that a shelf holds, by table, but for times."""
    found = {}
    with shelf.read() as connection:
        for table in metadata.sorted_tables:
            columns = [one for one in table.columns if not isinstance(one.type, UtcTime)]
            query = select(*columns).order_by(*table.primary_key)
            found[table.name] = [tuple(row) for row in connection.execute(query)]
    return found


def check_index(shelf: Shelf) -> None:
    """Raises when a SQLite shelf's full-text index is not that of its rows, or its file damaged."""
    with shelf.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO search_features(search_features, rank) VALUES ('integrity-check', 1)"
        )
        told = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
        assert told == "ok", told
