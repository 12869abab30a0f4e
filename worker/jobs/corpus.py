"""The tokens that a job works on: made once, kept in the data folder, the same at every start.

A job notes which corpus it made before it uses it. When it goes on after a crash it takes that
one, also when the text file has changed meanwhile, so that its units still fit each other.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from app.contract.jobs import HUB, Corpus, CorpusBundled
from app.errors import Forbidden
from app.settings import Settings
from worker.demo.generator import CORPUS_START, documents
from worker.jobs.job import Job
from worker.jobs.paths import allowed_path, check_inside
from worker.models import LanguageModel
from worker.text.read import read_hub_texts, read_texts
from worker.tokens import (
    Sequences,
    begins_with_bos,
    corpus_fingerprint,
    load_corpus,
    save_corpus,
    tokenize_corpus,
)


class StoredCorpus(NamedTuple):
    """Tokens in the data folder."""

    id: str
    source: str
    """Where the text came from, as the user wrote it."""
    context_size: int
    prepend_bos: bool
    """Whether each sequence begins with BOS."""
    sequences: Sequences
    folder: Path


class _Bundled:
    """Texts of the bundled generator; their number is known before they are made."""

    def __init__(self, corpus: CorpusBundled) -> None:
        self._corpus = corpus

    def __iter__(self) -> Iterator[str]:
        made = documents(self._corpus.seed, CORPUS_START, self._corpus.documents)
        return (document.text for document in made)

    def __len__(self) -> int:
        return self._corpus.documents


def check_corpus(settings: Settings, corpus: Corpus) -> None:
    """Raise the reason why no text can be read, if there is one; reads one document."""
    next(iter(_texts(settings, corpus)))


def open_corpus(
    job: Job[Any], corpus: Corpus, model: LanguageModel, prepend_bos: bool | None = None
) -> StoredCorpus:
    """The job's tokens, made at its first start, with BOS as `prepend_bos` or else the model says.
    Reports phase `tokenize`."""
    settings = job.bench.settings
    context = job.spec.context_size or model.context_size
    note = job.checkpoints / "corpus.json"
    corpora = settings.data_dir / "corpora"
    bos = begins_with_bos(model, prepend_bos)
    corpus_id = _noted(note, bos)
    if not corpus_id or not (corpora / corpus_id[:16]).is_dir():
        texts = _texts(settings, corpus)
        corpora.mkdir(exist_ok=True)
        made = tokenize_corpus(model, texts, context, job.report, prepend_bos=bos, scratch=corpora)
        corpus_id = corpus_fingerprint(made, context, bos)
        _write(note, {"id": corpus_id, "prepend_bos": bos})  # first: gc keeps what is noted
        save_corpus(corpora, corpus_id, made)
    folder = corpora / corpus_id[:16]
    return StoredCorpus(corpus_id, source_of(corpus), context, bos, load_corpus(folder), folder)


def source_of(corpus: Corpus) -> str:
    """Where a corpus' text comes from, in one line."""
    if isinstance(corpus, CorpusBundled):
        return f"bundled:{corpus.bundled} documents={corpus.documents} seed={corpus.seed}"
    return corpus.path


def _texts(settings: Settings, corpus: Corpus) -> Any:
    if isinstance(corpus, CorpusBundled):
        return _Bundled(corpus)
    if corpus.path.startswith(HUB):
        if not settings.hub:
            raise Forbidden(
                f"{corpus.path} would be downloaded, which is not allowed here; set SAESCOPE_HUB=true "
                "and start again, or give a file.",
                path=corpus.path,
            )
        return read_hub_texts(corpus.path.removeprefix(HUB), corpus.text_field)
    path = allowed_path(settings, corpus.path)
    check_inside(settings, path)
    return read_texts(path, corpus.text_field)


def _noted(note: Path, prepend_bos: bool) -> str:
    """The corpus of an earlier start, unless an SAE that wants other tokens has taken the place
    of the one that it was made for."""
    noted = json.loads(note.read_text()) if note.is_file() else {}
    return noted["id"] if noted.get("prepend_bos") == prepend_bos else ""


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(content))
    draft.replace(path)
