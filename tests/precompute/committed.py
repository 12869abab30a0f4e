"""A shelf in miniature: one file for each committed range, written whole or not at all."""

from pathlib import Path

import numpy as np

from app.store.records import FeatureBatch


def contents(batch: FeatureBatch) -> bytes:
    """All of a batch: every array with its type and shape, and the labels."""
    arrays = [
        batch.count, batch.density, batch.max_activation, batch.mean_activation,
        batch.min_activation, batch.histogram_edges, batch.histogram_counts,
        *batch.top_logits, *batch.bottom_logits, *batch.neighbors, *batch.neurons,
        batch.logit_range, batch.logit_counts, *batch.coactive, batch.label_kind, batch.label_score,
        *vars(batch.examples).values(),
    ]  # fmt: skip
    described = [f"{batch.first} {batch.labels}".encode()]
    for array in arrays:
        described += [
            f"{array.dtype} {array.shape}".encode(),
            np.ascontiguousarray(array).tobytes(),
        ]
    return b"\n".join(described)


class Committed:
    """Ranges in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def commit(self, sae_id: str, batch: FeatureBatch) -> None:
        file = self.folder / f"{sae_id}@{batch.first}@{batch.first + len(batch.labels)}"
        assert not file.exists(), f"{file.name} was computed twice"
        draft = self.folder / "draft"
        draft.write_bytes(contents(batch))
        draft.rename(file)

    def ranges(self) -> dict[str, list[tuple[int, int]]]:
        found: dict[str, list[tuple[int, int]]] = {}
        for name in self._names():
            sae_id, first, stop = name.split("@")
            found.setdefault(sae_id, []).append((int(first), int(stop)))
        return found

    def all(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in self._names()}

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name != "draft")
