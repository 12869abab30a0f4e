"""Statistics of whole runs, against the batches that they were put with."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from app.errors import Gone, NotFound
from app.store import activity, write
from app.store.engine import Shelf
from app.store.garbage import collect_garbage
from tests.store import builders


def test_a_served_run_comes_in_columns_by_index(shelf: Shelf) -> None:
    tokens = builders.fill(shelf, d_sae=150)
    batches = [builders.batch(tokens, first, min(32, 150 - first)) for first in range(0, 150, 32)]
    found = activity.served(shelf, "tiny", "0-res")
    assert (found.run_id, found.sae_fingerprint) == ("run-1", "a" * 64)
    assert found.corpus_tokens == len(tokens.flat)
    assert np.array_equal(found.density, np.concatenate([b.density for b in batches]))
    maxima = np.concatenate([b.max_activation for b in batches])
    assert np.array_equal(found.max_activation, maxima.astype(np.float64))
    assert found.n_bytes == 150 * 16
    names = [label for batch in batches for label in batch.labels]
    assert activity.labels(shelf, found, [149, 3, 3]) == {149: names[149], 3: names[3]}


def test_what_is_missing_is_named(shelf: Shelf) -> None:
    builders.fill(shelf)
    write.put_sae(shelf, builders.sae_record("1-res"))
    for sae, sentence in (("1-res", "no evidence yet"), ("x", "has no SAE 'x'")):
        with pytest.raises(NotFound, match=sentence):
            activity.served(shelf, "tiny", sae)


def test_a_superseded_run_keeps_its_labels_until_it_is_collected(
    shelf: Shelf, tmp_path: Path
) -> None:
    tokens = builders.fill(shelf)
    old = activity.served(shelf, "tiny", "0-res")
    builders.put_run(shelf, tokens, "run-2", seed=1)
    new = activity.served(shelf, "tiny", "0-res")
    assert (new.run_id, new.density.tolist()) != (old.run_id, old.density.tolist())
    assert activity.labels(shelf, old, [5]) == activity.labels(shelf, new, [5])
    collect_garbage(shelf, tmp_path, timedelta(0))
    assert activity.labels(shelf, new, [5])
    with pytest.raises(Gone, match="ask again"):
        activity.labels(shelf, old, [5])
