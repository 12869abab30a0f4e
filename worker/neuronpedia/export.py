"""Features on the shelf → files in Neuronpedia's layout, batch by batch.

Files of a kind are numbered without gaps, so a batch without explanations takes no number of theirs.
What `State` says is on disk: whoever goes on from it writes the files of the next batch again.
"""

import gzip
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from app.errors import Conflict
from app.rows import render
from app.rows.page import Names
from app.rows.render import Written, dump
from app.rows.shelved import page_of
from app.store import imports, lookup
from app.store.engine import Shelf
from worker.durable import scratch_name, sync
from worker.neuronpedia.values import Row

BATCH_FEATURES = 1_024
GZIP_LEVEL = 5
KINDS = ("features", "activations", "explanations")


@dataclass
class State:
    """How far an export is."""

    run: str
    after: int = -1
    """The last feature that is written."""
    features: int = 0
    files: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Files by kind."""
    whole: bool = False
    """Whether all is written, and only the folder's name is missing."""

    def save(self, path: Path) -> None:
        """Bring it to disk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = scratch_name(path)
        scratch.write_bytes(orjson.dumps(asdict(self)))
        sync(scratch)
        scratch.replace(path)
        sync(path.parent)


def load(path: Path) -> State | None:
    """What was saved."""
    return State(**orjson.loads(path.read_bytes())) if path.exists() else None


def write_batch(
    shelf: Shelf, names: Names, folder: Path, state: State, tick: Callable[[], None]
) -> bool:
    """Write the next features and note them in `state`; False when there are no more.

    Raises:
        Conflict: the evidence was computed anew meanwhile.
    """
    indices = imports.served_indices(shelf, state.run, state.after, BATCH_FEATURES)
    if not indices:
        return False
    kept = imports.kept(shelf, state.run, indices)
    with ExitStack() as stack:
        files = {kind: _File(stack, folder, kind, state.files[kind]) for kind in KINDS}
        for index in indices:
            written = _rows(shelf, names, state.run, index)
            if index in kept:
                written = render.complete(written, kept[index])
            files["features"].write([written.neuron])
            files["activations"].write(written.activations)
            files["explanations"].write(written.explanations)
            tick()
        for kind, file in files.items():
            state.files[kind] += file.end()
    state.after, state.features = indices[-1], state.features + len(indices)
    return True


def write_about(folder: Path, about: dict[str, list[Row]]) -> None:
    """Write rows about the source as a whole."""
    for name, rows in about.items():
        path = folder / f"{name}.jsonl"
        scratch = scratch_name(path)
        scratch.write_bytes(_lines(rows))
        sync(scratch)
        scratch.replace(path)


def _rows(shelf: Shelf, names: Names, run: str, index: int) -> Written:
    feature, vocabulary = lookup.with_tokens(shelf, names.model, names.sae, index)
    if feature.run_id != run:
        raise Conflict(
            f"The evidence of SAE '{names.sae}' was computed anew meanwhile; retry to export that."
        )
    return render.write(names, page_of(feature, vocabulary))


def _lines(rows: Iterable[Row]) -> bytes:
    return b"".join(dump(row) + b"\n" for row in rows)


def clear(folder: Path) -> None:
    """Remove what was being written when something crashed."""
    for left in [*folder.glob(".*"), *folder.glob("*/.*")]:
        left.unlink(missing_ok=True)


class _File:
    """One file, made when there is something to write. It has its name when it is whole: a job that was
    taken over may still be writing the same elsewhere."""

    def __init__(self, stack: ExitStack, folder: Path, kind: str, number: int) -> None:
        self._stack = stack
        self._path = folder / kind / f"batch-{number}.jsonl.gz"
        self._scratch = scratch_name(self._path)
        self._file: gzip.GzipFile | None = None

    def write(self, rows: list[Row]) -> None:
        if not rows:
            return
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stack.callback(self._scratch.unlink, missing_ok=True)
            self._raw = self._stack.enter_context(self._scratch.open("wb"))
            name = self._path.name  # it stands in the file
            self._file = gzip.GzipFile(name, "wb", GZIP_LEVEL, self._raw, mtime=0)
            self._stack.enter_context(self._file)
        self._file.write(_lines(rows))

    def end(self) -> int:
        """Bring it to disk; how many files it is."""
        if self._file is None:
            # Of a start that wrote more here, before other evidence took its place.
            self._path.unlink(missing_ok=True)
            return 0
        self._file.close()
        self._raw.close()
        sync(self._scratch)
        self._scratch.replace(self._path)
        return 1
