"""Realistic records for tests and benches: a model, an SAE, a corpus, random evidence."""

from dataclasses import dataclass

import numpy as np

from app.store import write
from app.store.catalog import CatalogEntry
from app.store.engine import Shelf
from app.store.records import (
    BANDS,
    CorpusRecord,
    Examples,
    FeatureBatch,
    ModelRecord,
    SaeRecord,
    Vocabulary,
)

WINDOW = 32


def vocabulary(n: int = 5_000) -> Vocabulary:
    """Token strings `tok0`, ` tok1`, ..., with a special token first."""
    words = ["<bos>", *(f" tok{i}" for i in range(1, n))]
    return Vocabulary(words, [b"", *(word.encode() for word in words[1:])], [0])


def catalog_entry(**changes: object) -> CatalogEntry:
    """A pretrained SAE of which little is known."""
    entry = {
        "release": "gpt2-small-res-jb",
        "sae_id": "blocks.0.hook_resid_pre",
        "model": "gpt2-small",
        "repo": "jbloom/GPT2-Small-SAEs",
        "format": "sae_lens",
        "hook_name": "blocks.0.hook_resid_pre",
        "neuronpedia_id": None,
        "l0": 10.0,
        "explained_variance": None,
    }
    return CatalogEntry(**{**entry, **changes})  # type: ignore[arg-type]


def model_record(id: str = "tiny", fingerprint: str = "f" * 64, **changes: object) -> ModelRecord:
    """A small model."""
    record = {
        "source": "here",
        "path": f"/nowhere/models/{fingerprint[:16]}",
        "n_layers": 2,
        "d_model": 8,
        "d_mlp": 32,
        "vocab_size": 5_000,
        "context_size": 128,
        "prepend_bos": True,
        "hook_points": {"blocks.0.hook_resid_post": 8},
    }
    return ModelRecord(id=id, fingerprint=fingerprint, **(record | changes))


def sae_record(
    id: str = "0-res", d_sae: int = 64, model_id: str = "tiny", fingerprint: str = "a" * 64
) -> SaeRecord:
    """An SAE of that model."""
    return SaeRecord(
        model_id=model_id,
        id=id,
        fingerprint=fingerprint,
        path=f"/nowhere/saes/{fingerprint[:16]}",
        hook_name="blocks.0.hook_resid_post",
        layer=0,
        architecture="topk",
        d_in=8,
        d_sae=d_sae,
        steerable=True,
        steerable_reason=None,
    )


@dataclass(frozen=True)
class Tokens:
    """A corpus, in memory."""

    record: CorpusRecord
    flat: np.ndarray
    offsets: np.ndarray


def corpus(
    n_sequences: int = 40, longest: int = 128, vocab: int = 5_000, seed: int = 0, id: str = "c" * 64
) -> Tokens:
    """Ragged random sequences of at least one window; token frequencies follow Zipf's law."""
    random = np.random.default_rng(seed)
    lengths = random.integers(WINDOW, longest + 1, n_sequences)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    dtype = np.uint16 if vocab <= 2**16 else np.int32
    flat = np.exp(random.random(offsets[-1]) * np.log(vocab - 1)).astype(dtype)
    record = CorpusRecord(id, "tiny", "here", n_sequences, len(flat), longest, True)
    return Tokens(record, flat, offsets)


def batch(
    tokens: Tokens, first: int, n: int, *, seed: int = 0, per_band: int = 5, active: int = 5
) -> FeatureBatch:
    """Evidence as precompute makes it: 20 + 5 x `per_band` windows a feature, `active` values
    each, but every 50th feature dead."""
    random = np.random.default_rng([seed, first])
    alive = np.arange(first, first + n) % 50 != 49
    maximum = (random.lognormal(0.5, 0.6, n) * alive).astype(np.float32)
    count = (random.lognormal(7, 1.5, n) * alive).astype(np.int64)
    return FeatureBatch(
        first=first,
        count=count,
        density=count / 1_000_000,
        max_activation=maximum,
        mean_activation=maximum * np.float32(0.3),
        min_activation=np.zeros(n, np.float32),
        histogram_edges=np.linspace(np.zeros(n), maximum, 51, axis=1).astype(np.float32),
        histogram_counts=random.integers(0, 1_000, (n, 50)) * alive[:, None],
        examples=_examples(random, tokens, maximum, np.flatnonzero(alive), per_band, active),
        top_logits=_pairs(random, n, 5_000),
        bottom_logits=_pairs(random, n, 5_000),
        logit_range=np.tile(np.array([-1.5, 2.5], np.float32), (n, 1)),
        logit_counts=random.integers(0, 500, (n, 32)).astype(np.int32),
        neighbors=_pairs(random, n, 65_536),
        neurons=(random.integers(0, 2, (n, 5)).astype(np.int32), *_pairs(random, n, 32, 5)),
        coactive=_coactive(random, alive),
        label_kind=(np.arange(n) % 4).astype(np.int8),
        label_score=np.where(alive, random.random(n), np.nan).astype(np.float32),
        labels=[f"fires on tok{i % 97}, promotes tok{i % 89}" for i in range(first, first + n)],
    )


def _coactive(
    random: np.random.Generator, alive: np.ndarray, wide: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Counts fall, and end with zeros in every third feature."""
    counts = np.sort(random.integers(1, 400, (len(alive), wide)), axis=1)[:, ::-1]
    counts = (
        counts
        * alive[:, None]
        * ~((np.arange(len(alive)) % 3 == 0)[:, None] & (np.arange(wide) > 6))
    )
    return _pairs(random, len(alive), 65_536, wide)[0], counts.astype(np.int32)


def _pairs(
    random: np.random.Generator, n: int, below: int, wide: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    ids = random.integers(0, below, (n, wide)).astype(np.int32)
    return ids, random.normal(size=(n, wide)).astype(np.float32)


def _examples(
    random: np.random.Generator,
    tokens: Tokens,
    maximum: np.ndarray,
    alive: np.ndarray,
    per_band: int,
    active: int,
) -> Examples:
    bands = np.repeat(np.arange(len(BANDS)), [20, *[per_band] * 5]).astype(np.int8)
    n = len(alive) * len(bands)
    feature = np.repeat(alive, len(bands)).astype(np.int32)
    sequence = random.integers(0, tokens.record.n_sequences, n)
    room = np.diff(tokens.offsets)[sequence] - WINDOW
    position = np.sort(random.random((n, WINDOW)).argsort(1)[:, :active], axis=1).astype(np.uint8)
    value = (random.random((n, active)) * maximum[feature][:, None]).astype(np.float32)
    return Examples(
        feature=feature,
        band=np.tile(bands, len(alive)),
        sequence=sequence.astype(np.int32),
        offset=(random.random(n) * (room + 1)).astype(np.int32),
        length=np.full(n, WINDOW, np.int16),
        peak=position[np.arange(n), value.argmax(1)].astype(np.int16),
        values_start=np.arange(0, n * active + 1, active),
        value_position=position.ravel(),
        value=value.ravel(),
    )


def fill(
    shelf: Shelf, *, d_sae: int = 64, run_id: str = "run-1", seed: int = 0, **model: object
) -> Tokens:
    """A shelf with one model, one SAE and its evidence."""
    tokens = corpus()
    write.put_model(shelf, model_record(**model), vocabulary())
    write.put_sae(shelf, sae_record(d_sae=d_sae))
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    put_run(shelf, tokens, run_id, d_sae=d_sae, seed=seed)
    return tokens


def put_run(
    shelf: Shelf,
    tokens: Tokens,
    run_id: str,
    *,
    d_sae: int = 64,
    seed: int = 0,
    step: int = 32,
) -> None:
    """A complete run of the SAE `0-res`."""
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {"seed": seed}, run_id)
    for first in range(0, d_sae, step):
        write.put_features(shelf, run_id, batch(tokens, first, min(step, d_sae - first), seed=seed))
    write.finish_runs(shelf, {run_id: {"n_tokens": tokens.record.n_tokens}})
