"""What goes onto the shelf and what comes back. Plain records; imports nothing of ours."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

T = TypeVar("T", list[Any], np.ndarray)
IMPORTED = "imported"
"""Architecture of SAEs of which only evidence is here."""
SaeStatus = Literal["registered", "ready"]
"""`ready` once a run is complete and its evidence is served."""


@dataclass(frozen=True)
class Vocabulary:
    """Token strings of a model, indexed by token id."""

    display: list[str]
    """What a person is shown, one string a token."""
    raw: list[bytes]
    """Exact bytes that the token stands for; empty for special tokens."""
    special: list[int]
    """Ids of special tokens (BOS, EOS, padding)."""

    @cached_property
    def shown(self) -> np.ndarray:
        """object [tokens]: `display`, to be indexed by an array of ids at once."""
        return np.array(self.display, dtype=object)

    @cached_property
    def is_exact(self) -> np.ndarray:
        """bool [tokens]: whether `display` is the text that `raw` stands for, so that displays of
        such tokens, joined, are their exact text."""
        pairs = zip(self.display, self.raw, strict=True)
        return np.array([display.encode() == raw for display, raw in pairs], dtype=bool)


@dataclass(frozen=True)
class ModelRecord:
    """A registered language model. All the API needs to know of it without loading it."""

    id: str
    fingerprint: str
    """sha256 over weights, configuration and tokenizer."""
    source: str
    """Where it came from, as the user wrote it."""
    path: str
    """Folder of its files, absolute."""
    n_layers: int
    d_model: int
    d_mlp: int
    vocab_size: int
    context_size: int
    prepend_bos: bool
    hook_points: dict[str, int]
    """Hook points that can be captured, with their widths."""
    has_chat_template: bool = False
    license: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class SaeRecord:
    """A registered SAE (or neuron source) of a model."""

    model_id: str
    id: str
    fingerprint: str
    path: str
    """SAELens folder, absolute; empty for neuron sources."""
    hook_name: str
    layer: int
    architecture: str
    d_in: int
    d_sae: int
    steerable: bool
    steerable_reason: str | None
    """Why it cannot be steered, in one sentence."""
    status: SaeStatus = "registered"
    run_id: str | None = None
    """The complete run whose evidence is served."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """A `FullEvaluation` of `app.contract.evaluation`."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Fingerprints of model, SAE and corpus, settings, training, run id."""
    created_at: datetime | None = None


@dataclass(frozen=True)
class CorpusRecord:
    """Tokens of a corpus as one model's tokenizer cuts it, ragged: one document a sequence, or
    several when it is longer than the context."""

    id: str
    """Fingerprint: sha256 over the tokens, the context size and the BOS setting."""
    model_id: str
    source: str
    n_sequences: int
    n_tokens: int
    context_size: int
    prepend_bos: bool
    """Whether each sequence begins with BOS."""


@dataclass(frozen=True)
class RunRecord:
    """One precompute pass for one SAE."""

    id: str
    model_id: str
    sae_id: str
    corpus_id: str
    state: Literal["building", "complete", "superseded"]
    settings: dict[str, Any]
    created_at: datetime | None = None


@dataclass(frozen=True)
class Examples:
    """Example windows of many features, flat. E examples, V active values in all."""

    feature: np.ndarray
    """int32 [E]: row in the batch (0 .. F-1), non-decreasing."""
    band: np.ndarray
    """int8 [E]: index into `BANDS`, non-decreasing within a feature."""
    sequence: np.ndarray
    """int32 [E]: sequence in the corpus."""
    offset: np.ndarray
    """int32 [E]: position of the window's first token in its sequence."""
    length: np.ndarray
    """int16 [E]: tokens in the window."""
    peak: np.ndarray
    """int16 [E]: position of the maximum, counted from `offset`."""
    values_start: np.ndarray
    """int64 [E + 1]: where the active values of each example begin in the next two arrays."""
    value_position: np.ndarray
    """uint8 or uint16 [V]: position in the window, counted from `offset`."""
    value: np.ndarray
    """float32 [V]: activation there, folded units; positions not listed are 0."""


BANDS = ("top", "q5", "q4", "q3", "q2", "q1")
"""Example bands: exact top 20 by per-sequence maximum, then five evenly spaced quantile bands of
the active sequences, strongest first, five examples each."""


@dataclass(frozen=True)
class FeatureBatch:
    """Evidence of a contiguous range of features, columnar. F features, B histogram bins."""

    first: int
    """Index of the first feature; row i is feature `first + i`."""
    count: np.ndarray
    """int64 [F]: tokens on which the feature is active (> 0)."""
    density: np.ndarray
    """float64 [F]: count / tokens of the corpus (BOS and special tokens not counted)."""
    max_activation: np.ndarray
    """float32 [F]: 0 when it is dead."""
    mean_activation: np.ndarray
    """float32 [F]: mean over active tokens; 0 when it is dead."""
    min_activation: np.ndarray
    """float32 [F]: most negative value of a signed source, else 0."""
    histogram_edges: np.ndarray
    """float32 [F, B + 1]: linear from 0 to the feature's maximum."""
    histogram_counts: np.ndarray
    """int64 [F, B]: active tokens per bin."""
    examples: Examples
    top_logits: tuple[np.ndarray, np.ndarray]
    """(int32 [F, n] token ids, float32 [F, n] values), most promoted first; n may be 0."""
    bottom_logits: tuple[np.ndarray, np.ndarray]
    """The same, most suppressed first."""
    logit_range: np.ndarray
    """float32 [F, 2]: the lowest and the highest logit of the vocabulary."""
    logit_counts: np.ndarray
    """int32 [F, B']: tokens by logit, in bins of equal width over that range; B' may be 0."""
    neighbors: tuple[np.ndarray, np.ndarray]
    """(int32 [F, n] feature indices, float32 [F, n] decoder cosines), nearest first."""
    neurons: tuple[np.ndarray, np.ndarray, np.ndarray]
    """(int32 [F, n] layers, int32 [F, n] neuron indices, float32 [F, n] weights)."""
    coactive: tuple[np.ndarray, np.ndarray]
    """(int32 [F, n] feature indices, int32 [F, n] tokens of a sample on which both are active),
    most often first; entries that count 0 are none."""
    labels: list[str]
    """[F] a first label without a language model: what it fires on, what it promotes."""
    label_kind: np.ndarray
    """int8 [F]: index into `LABEL_KINDS`."""
    label_score: np.ndarray
    """float32 [F]: balanced accuracy of the label on held-out text; NaN where unknown."""


LABEL_KINDS = ("neither", "input", "output", "both")
"""Which part of its label tells where a feature is active: what it fires on, what it promotes."""


@dataclass(slots=True)
class Example:
    """One window, as it is served."""

    band: str
    sequence: int
    offset: int
    peak: int
    max: float
    token_ids: list[int]
    values: list[float]


@dataclass(frozen=True, eq=False)
class Windows:
    """The example windows of one feature by column, E of them: what a lookup is answered from,
    since 45 objects would cost it as much as all the rest."""

    band: list[str]
    """[E], strongest first."""
    sequence: list[int]
    """[E]"""
    offset: list[int]
    """[E]"""
    length: list[int]
    """[E]"""
    peak: list[int]
    """[E]: position of the maximum, counted from the window's first token."""
    token_ids: np.ndarray
    """int [E, L], L the largest length; a shorter window's last token is repeated behind it."""
    values: np.ndarray
    """float32 [E, L], zeros behind a shorter window."""

    def __len__(self) -> int:
        return len(self.band)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Windows) and all(
            np.array_equal(mine, theirs)
            for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
        )

    def cut(self, columns: list[T]) -> list[T]:
        """Rows of L things, each without what is behind its window's end."""
        return [
            row if len(row) == length else row[:length]
            for row, length in zip(columns, self.length, strict=True)
        ]


@dataclass(frozen=True)
class Feature:
    """One feature's evidence, as it is served."""

    index: int
    run_id: str
    """The run that it comes from."""
    label: str
    label_kind: str
    label_score: float | None
    density: float
    max_activation: float
    mean_activation: float
    min_activation: float
    histogram_edges: tuple[float, ...]
    histogram_counts: tuple[int, ...]
    top_logits: list[tuple[int, float]]
    bottom_logits: list[tuple[int, float]]
    logit_edges: list[float]
    logit_counts: tuple[int, ...]
    windows: Windows
    neighbors: list[tuple[int, float]]
    neurons: list[tuple[int, int, float]]
    coactive: list[tuple[int, int]]
    calibration: str | None
    """JSON, where the feature was calibrated."""

    @property
    def examples(self) -> list[Example]:
        """The windows one by one."""
        w = self.windows
        tokens, values = w.cut(w.token_ids.tolist()), w.cut(w.values.tolist())
        columns = zip(w.band, w.sequence, w.offset, w.peak, tokens, values, strict=True)
        return [
            Example(band, sequence, offset, peak, its_values[peak], its_tokens, its_values)
            for band, sequence, offset, peak, its_tokens, its_values in columns
        ]


@dataclass(slots=True)
class FeatureSummary:
    """One row of a feature list."""

    index: int
    label: str
    density: float
    max_activation: float
