"""Neurons as sums over features: exact by SAELens' own decode, by planted directions, by ablation."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from app.store.codec import Evidence, pack, unpack
from app.store.split_records import NeuronSplit
from tests.precompute.scene import corpus
from tests.worker.tiny import D_MLP, save_model, save_sae
from worker.activations import capture
from worker.models import LanguageModel, load_model
from worker.precompute.run import precompute
from worker.progress import silent
from worker.saes import load_sae, neuron_dictionary
from worker.sites import add_hook
from worker.split import contributions
from worker.split.contributions import take_apart
from worker.split.peaks import Peaks, find_peaks
from worker.split.run import split_block
from worker.split.shares import NAMED, sum_up
from worker.tokens import Sequences

HOOK, WIDTH = "blocks.1.mlp.hook_post", 32
KINDS = [
    ("topk", {}),
    ("topk", {"normalize_activations": "layer_norm"}),
    ("standard", {"normalize_activations": "constant_norm_rescale"}),
    ("jumprelu", {"apply_b_dec_to_input": False}),
    ("abstopk", {}),
    ("gated", {}),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model("tiny", save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def sequences(model: LanguageModel) -> Sequences:
    return corpus(model)


@pytest.fixture(scope="module")
def evidence(
    model: LanguageModel, sequences: Sequences, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Evidence]:
    """Of the layer's neurons, computed and packed as jobs do."""
    found: dict[int, Evidence] = {}
    precompute(
        model,
        [neuron_dictionary(model, 1)],
        sequences,
        spill_dir=tmp_path_factory.mktemp("spill"),
        on_range=lambda _, batch: found.update(enumerate(map(unpack, pack(batch)), batch.first)),
    )
    return found


Edit = Callable[[torch.Tensor], torch.Tensor]


def at_peaks(
    model: LanguageModel, sequences: Sequences, peaks: Peaks, edit: Edit | None = None
) -> torch.Tensor:
    """[peaks, neurons]: the hook point's vectors, with the hook point edited, all in one forward."""
    texts, row = np.unique(peaks.sequence, return_inverse=True)
    bounds = [(sequences.offsets[text], sequences.offsets[text + 1]) for text in texts]
    ids = [torch.from_numpy(sequences.flat[a:b].astype(np.int64)) for a, b in bounds]
    site = model.site(HOOK)
    handles = []
    if edit:
        handles = [add_hook(model.hf.get_submodule(site.module), site.side, edit)]
    try:
        found = capture(model, torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), [HOOK])
    finally:
        for handle in handles:
            handle.remove()
    return found[HOOK][torch.from_numpy(row), torch.from_numpy(peaks.position)]


def sae_lens(folder: Path) -> SAE[Any]:
    with warnings.catch_warnings(action="ignore"):
        return SAE.load_from_disk(folder)


@pytest.mark.parametrize(("kind", "config"), KINDS)
def test_the_sum_is_what_saelens_reconstructs(
    model: LanguageModel,
    sequences: Sequences,
    evidence: dict[int, Evidence],
    tmp_path: Path,
    kind: str,
    config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contributions, "_SEQUENCES", 20)
    folder = save_sae(tmp_path, kind, hook_name=HOOK, d_in=D_MLP, d_sae=64, **config)
    dictionary = load_sae("s", folder, model=model)
    peaks = find_peaks(evidence.items())
    parts = take_apart(model, dictionary, sequences, peaks, 300, lambda *_: None)
    x, neuron = at_peaks(model, sequences, peaks), torch.from_numpy(peaks.neuron)
    value = x[torch.arange(len(x)), neuron].double().numpy()
    sae = sae_lens(folder)
    with torch.inference_mode():
        decoded = sae.decode(sae.encode(x))[torch.arange(len(x)), neuron].double().numpy()
    scale = np.abs(value).max()
    assert np.abs(parts.value - value).max() < 1e-5 * scale
    added = np.bincount(parts.peak, parts.contribution, len(value))
    assert np.abs(parts.offset + added - decoded).max() < 1e-5 * scale
    for one, of in zip(
        sum_up(peaks, parts, 0, D_MLP), _by_neuron(peaks, value, decoded), strict=True
    ):
        features = sum(part.share for part in one.features) + one.others
        assert abs(features + one.bias + one.rest - 1) < 1e-5
        assert abs(one.rest - (of[0] - of[1]).sum() / of[0].sum()) < 1e-5
        unexplained = (of[0] - of[1]).var() / of[0].var()
        assert one.unexplained_variance == pytest.approx(unexplained, rel=1e-3)


def _by_neuron(
    peaks: Peaks, value: np.ndarray, decoded: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    own = [peaks.neuron == neuron for neuron in range(D_MLP)]
    return [(value[mask], decoded[mask]) for mask in own]


def test_peaks_are_those_of_the_examples_and_a_text_counts_once(
    evidence: dict[int, Evidence],
) -> None:
    peaks = find_peaks(evidence.items())
    twice = 0
    for neuron, of in evidence.items():
        own = peaks.neuron == neuron
        assert sorted(peaks.sequence[own].tolist()) == sorted(set(of.sequence.tolist()))
        assert (np.diff(peaks.window[own]) > 0).all()
        twice += len(of.sequence) - own.sum()
        for window, position in zip(peaks.window[own], peaks.position[own], strict=True):
            assert position == of.offset[window] + of.peak[window]
    assert twice > 0


@pytest.fixture(scope="module")
def split(
    model: LanguageModel,
    sequences: Sequences,
    evidence: dict[int, Evidence],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[NeuronSplit]]:
    """A TopK SAE, and the layer's neurons split by it."""
    folder = tmp_path_factory.mktemp("sae")
    save_sae(folder, hook_name=HOOK, d_in=D_MLP, d_sae=WIDTH, k=3)
    dictionary = load_sae("s", folder, model=model)
    block = (0, D_MLP)
    return folder, split_block(model, dictionary, sequences, evidence.items(), block, silent)


def ablated(
    sae: SAE[Any], model: LanguageModel, sequences: Sequences, peaks: Peaks, feature: int
) -> torch.Tensor:
    """[peaks, neurons]: the vectors, with a feature's own part, by SAELens, taken out in the model."""

    def take_out(h: torch.Tensor) -> torch.Tensor:
        return h - sae.encode(h)[..., feature, None] * sae.W_dec[feature]

    return at_peaks(model, sequences, peaks, take_out)


def test_ablating_a_feature_takes_its_contribution_from_the_neuron(
    model: LanguageModel,
    sequences: Sequences,
    evidence: dict[int, Evidence],
    split: tuple[Path, list[NeuronSplit]],
) -> None:
    sae, splits = sae_lens(split[0]), split[1]
    for one in sorted(splits, key=lambda one: -one.polysemanticity)[:2]:
        peaks = find_peaks([(one.neuron, evidence[one.neuron])])
        before = at_peaks(model, sequences, peaks)
        scale = before[:, one.neuron].max()
        for group in one.groups:
            assert group.part
            fall = before - ablated(sae, model, sequences, peaks, group.part.feature)
            at = np.searchsorted(peaks.window, [example.window for example in group.examples])
            stored = torch.tensor([example.contribution for example in group.examples])
            assert (fall[at, one.neuron] - stored).abs().max() < 1e-5 * scale
        with torch.inference_mode():
            silent_one = int((sae.encode(before) == 0).all(dim=0).nonzero()[0])
        assert torch.equal(ablated(sae, model, sequences, peaks, silent_one), before)


def test_ablating_features_changes_the_sum_over_the_peaks_by_their_shares(
    model: LanguageModel,
    sequences: Sequences,
    evidence: dict[int, Evidence],
    split: tuple[Path, list[NeuronSplit]],
) -> None:
    sae, one = sae_lens(split[0]), max(split[1], key=lambda one: one.polysemanticity)
    peaks = find_peaks([(one.neuron, evidence[one.neuron])])
    assert len(one.features) == NAMED and one.n_others > 0
    before = at_peaks(model, sequences, peaks)[:, one.neuron].double()
    after = [ablated(sae, model, sequences, peaks, i)[:, one.neuron].double() for i in range(WIDTH)]
    changes = {i: float((before - of).sum() / before.sum()) for i, of in enumerate(after)}
    named = {part.feature: part.share for part in one.features}
    for feature, share in named.items():
        assert changes.pop(feature) == pytest.approx(share, abs=1e-5)
    assert max(map(abs, changes.values())) <= min(map(abs, named.values())) + 1e-5
    assert sum(changes.values()) == pytest.approx(one.others, abs=1e-4)


def plant(folder: Path, x: torch.Tensor, neuron: int, adds: torch.Tensor) -> Path:
    """A ReLU SAE whose feature i adds `adds[i]` [peaks] to a neuron where that is positive, on the
    vectors `x` [peaks, neurons], and nothing where it is negative."""
    save_sae(folder, "standard", hook_name=HOOK, d_in=D_MLP, d_sae=8)
    weights = load_file(folder / "sae_weights.safetensors")
    for name in ("b_enc", "b_dec", "W_enc", "W_dec"):
        weights[name].zero_()
    weights["b_enc"][len(adds) :] = -1.0
    weights["W_dec"][:, neuron] = 0.6
    weights["W_dec"][:, neuron - 1] = 0.8
    reads = torch.linalg.lstsq(x.double(), adds.double().T / 0.6, driver="gelsd").solution
    weights["W_enc"][:, : len(adds)] = reads.float()
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


@pytest.mark.parametrize("things", [1, 2])
def test_a_neuron_does_as_many_things_as_were_planted(
    model: LanguageModel,
    sequences: Sequences,
    evidence: dict[int, Evidence],
    tmp_path: Path,
    things: int,
) -> None:
    """Each thing adds the same to the neuron, at peaks of its own."""
    neuron = 5
    peaks = find_peaks([(neuron, evidence[neuron])])
    x = at_peaks(model, sequences, peaks)
    value = x[:, neuron]
    own = (value > value.mean()) * (things - 1) == torch.arange(things)[:, None]
    adds = torch.where(own, value * value.sum() / things / (own * value).sum(1, True), -0.1)
    dictionary = load_sae("s", plant(tmp_path, x, neuron, adds), model=model)
    (split,) = split_block(
        model, dictionary, sequences, [(neuron, evidence[neuron])], (neuron, neuron + 1), silent
    )
    assert split.polysemanticity == pytest.approx(things, abs=1e-3)
    shares = {part.feature: part.share for part in split.features}
    assert shares == pytest.approx(dict.fromkeys(range(things), 1 / things), abs=1e-3)
    assert [part.weight for part in split.features] == pytest.approx([0.6] * things)
    found = {group.part and group.part.feature: group.examples for group in split.groups}
    assert found.keys() == set(range(things))
    for feature, examples in found.items():
        assert [one.window for one in examples] == peaks.window[own[feature].numpy()].tolist()
        added = adds[feature][own[feature]].tolist()
        assert [one.contribution for one in examples] == pytest.approx(added, rel=1e-2)


def test_a_neuron_without_examples_does_nothing() -> None:
    none = Peaks(*np.zeros((4, 0), np.int64))
    parts = contributions.Parts(*np.zeros((2, 0)), *np.zeros((2, 0), np.int64), *np.zeros((2, 0)))
    assert sum_up(none, parts, 7, 8) == [NeuronSplit(7, 0.0, [], 0.0, 0, 0.0, 0.0, None, [])]
