"""A run that was cancelled goes on from its units and hands over the same bytes."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from app.errors import Invalid
from app.store.records import FeatureBatch
from tests.precompute.committed import Committed, contents
from tests.precompute.killed import SETTINGS, dictionaries
from tests.precompute.scene import Scene
from tests.worker.tiny import save_model
from worker.models import load_model
from worker.precompute.kept import trim
from worker.precompute.plan import plan_shards, position_bits
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.progress import Cancelled
from worker.saes import Dictionary
from worker.tokens import Sequences


class Stop:
    """Cancels at the n-th report of progress; remembers what was reported."""

    def __init__(self, reports: int = 0) -> None:
        self.left = reports
        self.seen: list[tuple[str, float, float]] = []

    def __call__(self, phase: str, done: float, total: float, *_: object) -> None:
        self.seen.append((phase, done, total))
        self.left -= 1
        if self.left == 0:
            raise Cancelled

    def first(self, phase: str) -> float:
        return next(done for name, done, _ in self.seen if name == phase)


def go(scene: Scene, folder: Path, stop: Stop, settings: Settings = SETTINGS) -> dict[str, bytes]:
    committed = Committed(folder / "committed")
    precompute(
        scene.model, dictionaries(scene), scene.sequences, spill_dir=folder / "spill",
        settings=settings, on_range=committed.commit, done_ranges=committed.ranges(),
        on_progress=stop,
    )  # fmt: skip
    return committed.all()


class Whole(NamedTuple):
    """An uninterrupted run."""

    folder: Path
    committed: dict[str, bytes]
    stop: Stop


@pytest.fixture(scope="module")
def whole(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, stop = tmp_path_factory.mktemp("whole"), Stop()
    return Whole(folder, go(scene, folder, stop), stop)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_cancelled_keeps_committed_units(
    scene: Scene, whole: Whole, tmp_path: Path, share: float
) -> None:
    expected, uninterrupted = whole.committed, whole.stop
    with pytest.raises(Cancelled):
        go(scene, tmp_path, first := Stop(int(share * len(uninterrupted.seen)) + 1))
    of_each = [_shards(folder) for folder in (tmp_path / "spill").glob("*/*/")]
    shards = min(map(len, of_each), default=0)
    ranges = len(Committed(tmp_path / "committed").all())
    assert go(scene, tmp_path, second := Stop()) == expected
    bits = position_bits(scene.model.context_size)
    begun = plan_shards(scene.sequences.offsets, SETTINGS.shard_tokens, bits)[shards - 1].stop
    kept = int(scene.sequences.offsets[begun]) if shards else 0
    assert second.first("tokens") == kept
    assert (second.first("features") > 0) == (ranges > 0)
    assert first.seen == uninterrupted.seen[: len(first.seen)]


def test_progress_is_in_tokens_then_features(scene: Scene, whole: Whole) -> None:
    seen = whole.stop.seen
    phases = [phase for phase, *_ in seen]
    assert phases == sorted(phases, reverse=True) and set(phases) == {"tokens", "features"}
    for phase, total in (
        ("tokens", len(scene.sequences.flat)),
        ("features", sum(one.d_sae for one in dictionaries(scene))),
    ):
        done = [value for name, value, _ in seen if name == phase]
        assert done == sorted(done) and done[0] == 0 and done[-1] == total
        assert {of for name, _, of in seen if name == phase} == {total}


def test_nothing_is_left_to_do_when_all_is_committed(scene: Scene, whole: Whole) -> None:
    assert go(scene, whole.folder, again := Stop()) == whole.committed
    assert [phase for phase, *_ in again.seen] == ["tokens", "features"]
    assert all(done == total for _, done, total in again.seen)


def _shards(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def spilled(
    scene: Scene, folder: Path, only: list[Dictionary], sequences: Sequences, settings: Settings
) -> tuple[list[bytes], float]:
    """A run's evidence, and how many tokens it found done."""
    found: list[bytes] = []
    precompute(
        scene.model, only, sequences, spill_dir=folder, settings=settings, on_progress=(stop := Stop()),
        on_range=lambda _, batch: found.append(contents(batch)),
    )  # fmt: skip
    return found, stop.first("tokens")


def test_a_longer_corpus_spills_only_what_is_new(scene: Scene, tmp_path: Path) -> None:
    """And its evidence is that of a run on the whole."""
    one, settings, whole = [scene.dictionaries[0]], Settings(shard_tokens=300), scene.sequences
    part = Sequences(whole.flat[: whole.offsets[50]], whole.offsets[:51])
    shards = plan_shards(part.offsets, 300, position_bits(scene.model.context_size))
    assert len(shards) > 3
    assert spilled(scene, tmp_path / "merged", one, part, settings)[1] == 0
    merged, begun = spilled(scene, tmp_path / "merged", one, whole, settings)
    assert begun == whole.offsets[shards[-1].first]
    assert merged == spilled(scene, tmp_path / "fresh", one, whole, settings)[0]


def test_what_one_dictionary_spilled_is_not_done_again(scene: Scene, tmp_path: Path) -> None:
    first, second = scene.dictionaries[:2]
    settings, all_tokens = Settings(shard_tokens=300), len(scene.sequences.flat)
    spilled(scene, tmp_path, [first], scene.sequences, settings)
    assert spilled(scene, tmp_path, [first, second], scene.sequences, settings)[1] == 0
    assert spilled(scene, tmp_path, [second], scene.sequences, settings)[1] == all_tokens


def test_what_was_spilled_from_other_batches_is_not_used(scene: Scene, tmp_path: Path) -> None:
    one, settings = [scene.dictionaries[0]], Settings(shard_tokens=300)
    spilled(scene, tmp_path, one, scene.sequences, settings)
    changed = replace(settings, batch_tokens=64)
    assert spilled(scene, tmp_path, one, scene.sequences, changed)[1] == 0


def test_what_was_spilled_in_other_segments_gives_the_same(scene: Scene, tmp_path: Path) -> None:
    one, settings = [scene.dictionaries[0]], Settings(shard_tokens=300, batch_tokens=64)
    first, _ = spilled(scene, tmp_path, one, scene.sequences, settings)
    size = sum(file.stat().st_size for file in tmp_path.rglob("starts"))
    other = replace(settings, segment_entries=100)
    again, begun = spilled(scene, tmp_path, one, scene.sequences, other)
    assert begun == len(scene.sequences.flat) and again == first
    assert spilled(scene, tmp_path / "fresh", one, scene.sequences, other)[0] == first
    assert sum(file.stat().st_size for file in (tmp_path / "fresh").rglob("starts")) > size


def test_what_another_model_spilled_is_not_used(scene: Scene, tmp_path: Path) -> None:
    """Of the same shape and with the same tokens and SAE, it gives other entries."""
    one, settings = [scene.dictionaries[0]], Settings(shard_tokens=300)
    other = replace(scene, model=load_model("tiny", save_model(tmp_path / "other", seed=1)))
    of_first, _ = spilled(scene, tmp_path / "spill", one, scene.sequences, settings)
    of_other, begun = spilled(other, tmp_path / "spill", one, scene.sequences, settings)
    assert begun == 0 and of_other != of_first
    assert of_other == spilled(other, tmp_path / "fresh", one, scene.sequences, settings)[0]


def test_what_a_run_works_on_is_not_removed_under_it(
    scene: Scene, whole: Whole, tmp_path: Path
) -> None:
    """Whoever needs the disk meanwhile takes the spills of others only."""
    spills, committed = tmp_path / "spill", Committed(tmp_path / "committed")
    other = spills / "an-sae" / "a-run"
    other.mkdir(parents=True)
    (other / "value").write_bytes(b"x")

    def trim_and_commit(name: str, batch: FeatureBatch) -> None:
        trim(spills, 0)
        committed.commit(name, batch)

    precompute(
        scene.model, dictionaries(scene), scene.sequences, spill_dir=spills, settings=SETTINGS,
        on_range=trim_and_commit, on_progress=lambda *_: trim(spills, 0),
    )  # fmt: skip
    assert committed.all() == whole.committed
    assert not other.exists() and any(spills.rglob("shard.json"))
    trim(spills, 0)
    assert not any(spills.rglob("shard.json"))


def test_dictionaries_of_one_id_are_refused(scene: Scene, tmp_path: Path) -> None:
    """They would write to the same files."""
    both = [scene.dictionaries[0], replace(scene.dictionaries[1], id=scene.dictionaries[0].id)]
    with pytest.raises(Invalid, match="Two dictionaries have the id 1-relu"):
        precompute(scene.model, both, scene.sequences, spill_dir=tmp_path, on_range=lambda *_: None)
    assert not any(tmp_path.iterdir())
