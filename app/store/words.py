"""The words that features and queries are found by.

Words are lower-case runs of letters and digits. They are cut here and nowhere else, so that both
databases agree. A feature is found by the words of its label, of the tokens that it promotes most,
and of the tokens on which it fires most.
"""

import re
from itertools import islice

import numpy as np
from sqlalchemy import Connection, Row

from app.store import find, vocabulary
from app.store.corpus import Corpus
from app.store.engine import Shelf
from app.store.records import FeatureBatch

PROMOTED = 10
"""Most promoted tokens that a feature is found by."""

PEAKS = 5
"""Strongest examples whose peak tokens a feature is found by."""

LONGEST = 200
"""Characters by which a word of an imported feature is found; queries are no longer."""

MOST = 500
"""Words of an imported feature."""

_AT_ONCE = 1_000
"""Sequences asked for at once: a corpus of long ones must not be kept whole."""

_WORD = re.compile(r"[^\W_]+")


def cut(string: str) -> list[str]:
    """Lower-case runs of letters and digits, in order."""
    return _WORD.findall(string.lower())


def of_strings(label: str, tokens: list[str]) -> str:
    """The words of a feature whose tokens are at hand: those promoted most, then those it fires on.
    Anybody may have written them: Postgres indexes no endless words, nor endlessly many."""
    found = (word[:LONGEST] for string in [label, *tokens] for word in cut(string))
    return " ".join(islice(dict.fromkeys(found), MOST))


def of_features(shelf: Shelf, connection: Connection, run: Row, batch: FeatureBatch) -> list[str]:
    """Each feature's words, once each, separated by spaces."""
    by_token = _of_tokens(shelf, connection, run.model_id)
    promoted = batch.top_logits[0][:, :PROMOTED].tolist()
    corpus = shelf.corpus(find.corpus_of(connection, run))
    peaks = _peak_tokens(shelf, corpus, batch)
    return [
        " ".join(
            dict.fromkeys(cut(label) + [word for token in up + fired for word in by_token[token]])
        )
        for label, up, fired in zip(batch.labels, promoted, peaks, strict=True)
    ]


def _of_tokens(shelf: Shelf, connection: Connection, model_id: str) -> list[list[str]]:
    """The words of each token's display string, by token id."""
    fingerprint = find.model(connection, model_id).fingerprint
    if fingerprint not in shelf.token_words:
        shelf.token_words.clear()
        tokens = vocabulary.of_model(shelf, shelf.read, model_id, fingerprint)
        shelf.token_words[fingerprint] = [cut(string) for string in tokens.display]
    return shelf.token_words[fingerprint]


def _peak_tokens(shelf: Shelf, corpus: Corpus, batch: FeatureBatch) -> list[list[int]]:
    """Per feature, the tokens at the peaks of its first `PEAKS` top examples."""
    examples = batch.examples
    rank = np.arange(len(examples.feature)) - np.searchsorted(examples.feature, examples.feature)
    chosen = np.flatnonzero((rank < PEAKS) & (examples.band == 0))
    found: list[list[int]] = [[] for _ in batch.labels]
    for first in range(0, len(chosen), _AT_ONCE):
        some = chosen[first : first + _AT_ONCE]
        places = examples.offset[some] + examples.peak[some]
        ones = np.ones(len(some), np.int64)
        tokens = corpus.windows(shelf.read, examples.sequence[some], places, ones)
        for feature, token in zip(
            examples.feature[some].tolist(), tokens[:, 0].tolist(), strict=True
        ):
            found[feature].append(token)
    return found
