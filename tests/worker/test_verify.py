"""Stored values against computed ones, where rounding decides whether a feature is active."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from app.errors import Conflict
from tests.worker.tiny import save_model, save_sae
from worker import verify
from worker.activations import capture
from worker.encoders import ThresholdEncoder, TopKEncoder
from worker.models import LanguageModel, load_model
from worker.saes import Dictionary, load_sae
from worker.stored_example import StoredExample
from worker.verify import Comparison, compare

TOKENS = np.array([0, *range(100, 140)], dtype=np.uint16)
FEATURE = 5


class Scene(NamedTuple):
    model: LanguageModel
    dictionary: Dictionary
    x: torch.Tensor
    """[tokens, d_in]"""

    def example(self, feature: int = FEATURE) -> StoredExample:
        """What is stored of a feature: the whole sequence as its window, BOS as nothing."""
        values = self.dictionary.encode(self.x)[:, feature].numpy().copy()
        values[0] = 0
        return StoredExample(feature, float(values.max()), 3, 0, int(values.argmax()), values)

    def compare(self, *examples: StoredExample) -> Comparison:
        return compare(self.model, self.dictionary, examples, lambda n: [TOKENS for _ in n])


@pytest.fixture(params=["jumprelu", "topk"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    model = load_model("m", save_model(tmp_path / "model"))
    folder = save_sae(tmp_path / "sae", request.param, d_sae=24, k=8)
    dictionary = load_sae("1-a", folder, model=model)
    ids = torch.from_numpy(TOKENS.astype(np.int64))[None]
    x = capture(model, ids, [dictionary.hook_name])[dictionary.hook_name][0]
    return Scene(model, dictionary, x.clone())


def switch(scene: Scene, at: int, above: float) -> None:
    """Let the feature's value at a token be above what it must be to be active, by that share."""
    encoder, x = scene.dictionary.encoder, scene.dictionary._prepare(scene.x).x[at]
    assert isinstance(encoder, ThresholdEncoder | TopKEncoder)
    pre = encoder._linear.whole(x[None], None)[0]
    with torch.inference_mode(False):
        if isinstance(encoder, ThresholdEncoder):
            assert encoder._threshold is not None
            encoder._threshold[FEATURE] = float(pre[FEATURE]) * (1 - above)
        else:
            # A loser rises to the last winner's place.
            encoder._k = int((pre >= pre[FEATURE]).sum())
            loser = int(pre.argmin())
            encoder._linear.bias[loser] += float(pre[FEATURE] * (1 - above) - pre[loser])


@pytest.mark.parametrize("above", [1e-7, -1e-7, 1e-3, -1e-3])
def test_only_what_rounding_decides_does_not_count(scene: Scene, above: float) -> None:
    before = scene.example()
    at = int(np.where(before.values > 0, before.values, np.inf).argmin())
    switch(scene, at, above)
    stored = scene.example()
    assert (stored.values[at] > 0) == (above > 0) or abs(above) < 1e-6
    stored.values[at] = 0 if stored.values[at] else before.values[at]
    found = scene.compare(stored)
    if abs(above) < 1e-6:
        assert (found.at_edge, found.largest_relative < 1e-5) == (1, True)
        return
    assert found.at_edge == 0
    assert found.worst and found.worst.position == at
    difference = float(before.values[at])
    assert found.largest_difference == pytest.approx(difference, rel=1e-4)


def test_special_tokens_count_as_nothing(scene: Scene) -> None:
    encoded = scene.dictionary.encode(scene.x)
    weaker = (encoded[0] > 0) & (encoded[0] < encoded[1:].max(dim=0).values)
    feature = int(weaker.nonzero()[0])
    at_bos, stored = float(encoded[0, feature]), scene.example(feature)
    assert scene.compare(stored).largest_relative < 1e-5
    stored.values[0] = at_bos
    found = scene.compare(stored)
    assert (found.worst, found.at_edge) == ((feature, 3, 0, pytest.approx(at_bos), 0.0), 0)


def test_a_stronger_token_outside_of_the_window_is_found(scene: Scene) -> None:
    whole = scene.example()
    peak = whole.peak
    assert peak < 30
    window = whole.values[peak + 1 :]
    example = StoredExample(FEATURE, whole.largest, 3, peak + 1, int(window.argmax()), window)
    found = scene.compare(example)
    assert found.worst is not None
    assert found.worst.position == peak
    assert found.largest_difference == pytest.approx(whole.largest - window.max(), rel=1e-4)


def test_memory_is_bounded_by_blocks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, read = scene.example(), []
    monkeypatch.setattr(verify, "_SEQUENCES", 2)
    monkeypatch.setattr(verify, "_ACTIVATIONS", 3 * len(TOKENS))
    examples = [replace(stored, sequence=n % 5) for n in range(40)]

    def some(numbers: np.ndarray) -> list[np.ndarray]:
        read.append(numbers.tolist())
        return [TOKENS for _ in numbers]

    found = compare(scene.model, scene.dictionary, examples, some)
    assert read == [[0, 1], [2, 3], [4]]
    assert (found.examples, found.values) == (40, 40 * len(TOKENS))
    assert found.largest_relative < 1e-5


def test_a_window_outside_of_its_sequence_is_refused(scene: Scene) -> None:
    with pytest.raises(Conflict, match="outside of its corpus"):
        scene.compare(replace(scene.example(), offset=1))
