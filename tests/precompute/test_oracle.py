"""Every statistic and every example of every feature equals brute force."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.errors import Invalid
from app.store.records import LABEL_KINDS, FeatureBatch
from tests.precompute.committed import contents
from tests.precompute.oracle import Expected, dense_activations, expect, found
from tests.precompute.oracle_labels import Labels, Told
from tests.precompute.scene import ALWAYS, DEAD, HOOK, ONCE, ONLY_BOS, Scene, build
from worker.activations import capture
from worker.models import vocabulary
from worker.precompute import coactive
from worker.precompute.labels import quote
from worker.precompute.plan import plan_shards, position_bits
from worker.precompute.run import precompute
from worker.precompute.settings import Settings

ONE_PIECE = Settings(batch_tokens=512)
MANY_PIECES = Settings(
    batch_tokens=300, shard_tokens=700, segment_entries=700, range_entries=500,
    range_features=17, seed=2**64 + 5,
)  # fmt: skip

Batches = dict[str, list[FeatureBatch]]


def run(scene: Scene, folder: Path, settings: Settings, only: list[str] | None = None) -> Batches:
    chosen = [d for d in scene.dictionaries if only is None or d.id in only]
    batches: Batches = {d.id: [] for d in chosen}
    report = precompute(
        scene.model, chosen, scene.sequences, spill_dir=folder, settings=settings,
        on_range=lambda name, batch: batches[name].append(batch),
    )  # fmt: skip
    assert report.tokens == sum(
        int(token) not in scene.model.special_ids for token in scene.sequences.flat
    )
    assert report.entries == {
        name: sum(int(batch.count.sum()) for batch in made) for name, made in batches.items()
    }
    return batches


@pytest.fixture(scope="module", params=[ONE_PIECE, MANY_PIECES], ids=["one piece", "many pieces"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return request.param


@pytest.fixture(scope="module")
def batches(scene: Scene, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    return run(scene, tmp_path_factory.mktemp("spill"), settings)


@pytest.mark.parametrize("index", range(5))
def test_everything_equals_brute_force(
    scene: Scene, settings: Settings, batches: Batches, index: int
) -> None:
    dictionary = scene.dictionaries[index]
    bits = position_bits(scene.model.context_size)
    shards = plan_shards(scene.sequences.offsets, settings.shard_tokens, bits)
    dense = dense_activations(
        scene.model, dictionary, scene.sequences, shards, settings.batch_tokens
    )
    labels = Labels(dense, scene.sequences, quote(vocabulary(scene.model).display), settings.seed)
    covered = 0
    for batch in batches[dictionary.id]:
        assert batch.first == covered
        for row in range(len(batch.labels)):
            feature = batch.first + row
            expected = expect(dense, scene.sequences, feature, settings.seed)
            assert found(batch, row) == expected
            promoted = _pairs(batch.top_logits, row)
            assert told(batch, row) == labels.tell(
                feature, expected.examples, promoted, dictionary.decoder.rows is not None
            )
        covered += len(batch.labels)
    assert covered == dictionary.d_sae
    assert (len(batches[dictionary.id]) > 1) == (settings == MANY_PIECES)


def told(batch: FeatureBatch, row: int) -> Told:
    score = float(batch.label_score[row])
    return Told(
        batch.labels[row],
        LABEL_KINDS[batch.label_kind[row]],
        None if np.isnan(score) else pytest.approx(score, rel=1e-6),
        [(feature, count) for feature, count in _pairs(batch.coactive, row) if count],
    )


def _pairs(columns: tuple[np.ndarray, np.ndarray], row: int) -> list[tuple[int, float]]:
    return list(zip(*(column[row].tolist() for column in columns), strict=True))


def test_the_scene_holds_labels_that_tell_and_labels_that_do_not(batches: Batches) -> None:
    made = [batch for several in batches.values() for batch in several]
    kinds = np.unique(np.concatenate([batch.label_kind for batch in made]))
    assert {0, 1} <= set(kinds.tolist())
    scores = np.concatenate([batch.label_score for batch in made])
    assert np.isnan(scores).any() and (scores < 0.5).any() and (scores > 0.9).any()
    ties = [batch.coactive[1][:, :2] for batch in batches["1-topk"]]
    assert (np.diff(np.concatenate(ties), axis=1) == 0).any()


def test_some_features_do_not_fit_in_memory_at_once(batches: Batches) -> None:
    largest = max(int(batch.count.max()) for several in batches.values() for batch in several)
    assert largest > 3 * MANY_PIECES.range_entries


def test_a_smaller_sample_is_counted_alike(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coactive, "COACTIVE_TOKENS", 700)
    (batch,) = run(scene, tmp_path, ONE_PIECE, ["1-topk"])["1-topk"]
    counted = int(batch.count.sum() / 6)
    share = coactive.share_of(counted, int(batch.count.sum()))
    special = np.isin(np.arange(scene.model.vocab_size), list(scene.model.special_ids))
    tokens = coactive.sampled_tokens(scene.sequences, special, share, ONE_PIECE.seed)
    assert share == 700 / counted and 600 < tokens < 800
    assert 0 < batch.coactive[1].max() < tokens


def test_the_scene_holds_the_hard_cases(scene: Scene, batches: Batches) -> None:
    of = {
        batch.first + row: found(batch, row)
        for batch in batches["1-relu"]
        for row in range(len(batch.labels))
    }
    counted = sum(int(token) not in scene.model.special_ids for token in scene.sequences.flat)
    assert of[DEAD] == of[ONLY_BOS] == Expected(edges=[0.0] * 33, histogram=[0] * 32)
    assert of[ALWAYS].count == counted and of[ALWAYS].density == 1
    assert of[ONCE].count == 1 and len(of[ONCE].examples) == 2
    assert _fires_on_bos(scene)
    assert any(_ties(one) for one in of.values())
    for name in ("1-signed", "2-mlp"):
        assert any((batch.min_activation < 0).any() for batch in batches[name])
    assert all((batch.min_activation == 0).all() for batch in batches["1-topk"])


def _fires_on_bos(scene: Scene) -> bool:
    bos = capture(scene.model, torch.tensor([[scene.model.bos_id]]), [HOOK])[HOOK][0]
    return bool(scene.dictionaries[0].encode(bos)[0, ONLY_BOS] > 0)


def _ties(one: Expected) -> bool:
    maxima = [max(values.values()) for band, *_, values in one.examples if band == 0]
    return len(set(maxima)) < len(maxima)


def test_activations_do_not_depend_on_batches(scene: Scene, batches: Batches) -> None:
    """Stored values are those of the sequence run alone, without padding, to 1e-5."""
    dictionary = scene.dictionaries[0]
    examples = batches[dictionary.id][0].examples
    flat, offsets = scene.sequences.flat, scene.sequences.offsets
    for e in range(0, len(examples.feature), 97):
        sequence = examples.sequence[e]
        ids = torch.from_numpy(flat[offsets[sequence] : offsets[sequence + 1]].astype(np.int64))
        x = capture(scene.model, ids[None], [dictionary.hook_name])[dictionary.hook_name][0]
        window = dictionary.encode(x)[examples.offset[e] :, examples.feature[e]].numpy()
        span = slice(examples.values_start[e], examples.values_start[e + 1])
        expected = window[examples.value_position[span]]
        np.testing.assert_allclose(examples.value[span], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["1-topk", "2-mlp"])
def test_one_of_many_dictionaries_equals_it_alone(
    scene: Scene, settings: Settings, batches: Batches, name: str, tmp_path: Path
) -> None:
    alone = run(scene, tmp_path, settings, [name])[name]
    assert [contents(batch) for batch in alone] == [contents(batch) for batch in batches[name]]


def test_where_features_are_cut_changes_nothing(
    scene: Scene, batches: Batches, settings: Settings, tmp_path: Path
) -> None:
    cut = replace(settings, range_features=1)
    finer = {
        batch.first + row: found(batch, row)
        for batch in run(scene, tmp_path, cut, ["1-relu"])["1-relu"]
        for row in range(len(batch.labels))
    }
    for batch in batches["1-relu"]:
        for row in range(len(batch.labels)):
            assert found(batch, row) == finer[batch.first + row]


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    poisoned = build(tmp_path)
    next(poisoned.model.hf.parameters())[5] = torch.nan
    with pytest.raises(Invalid, match=r"not finite at blocks\.\d\..*SAESCOPE_DTYPE=float32"):
        run(poisoned, tmp_path / "spill", ONE_PIECE)
