"""What a first start still has to do, by what is on the shelf."""

from dataclasses import replace

import pytest

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SOURCES
from app.store import write
from app.store.engine import Shelf
from app.supervisor.first_start import _missing_loads, _without_evidence
from tests.store import builders


@pytest.mark.parametrize(
    ("without", "computed"),
    [
        ([], []),
        (["2-res-topk"], ["2-res-topk"]),
        (["2-mlp"], ["2-mlp-topk", "2-mlp"]),
        (["2-mlp-topk"], ["2-mlp-topk", "2-mlp"]),
        ([*BUNDLED_SOURCES], [*BUNDLED_SOURCES]),
    ],
)
def test_neurons_and_their_sae_are_computed_together(
    sqlite_shelf: Shelf, without: list[str], computed: list[str]
) -> None:
    tokens = builders.corpus()
    write.put_model(sqlite_shelf, builders.model_record(BUNDLED_MODEL), builders.vocabulary())
    record = replace(tokens.record, model_id=BUNDLED_MODEL)
    write.put_corpus(sqlite_shelf, record, tokens.flat, tokens.offsets)
    for number, name in enumerate(BUNDLED_SOURCES):
        sae = builders.sae_record(name, 4, BUNDLED_MODEL, str(number) * 64)
        write.put_sae(sqlite_shelf, sae)
        if name not in without:
            write.begin_run(sqlite_shelf, BUNDLED_MODEL, name, record.id, {}, name)
            write.put_features(sqlite_shelf, name, builders.batch(tokens, 0, 4))
            write.finish_runs(sqlite_shelf, {name: {}})
    assert list(_missing_loads(sqlite_shelf)) == []
    assert _without_evidence(sqlite_shelf) == computed
