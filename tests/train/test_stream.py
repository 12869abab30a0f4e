"""Windows hold exactly the activations of the tokens they stand for."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import Invalid
from tests.train.planted import HOOK, Planted, spec
from worker.tokens import Sequences
from worker.train.settings import Settings, resolve
from worker.train.stream import Activations


def nothing() -> None: ...


def embedded(planted: Planted, activations: torch.Tensor) -> list[int]:
    """The token whose embedding each activation is."""
    embeddings = planted.model.hf.get_input_embeddings().weight
    distances = torch.cdist(activations, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(dim=1).values.max() < 1e-5
    return distances.argmin(dim=1).tolist()


def setting(planted: Planted, **changes: object) -> Settings:
    return resolve(spec(**changes), planted.model)


@pytest.mark.parametrize("windows", [1, 3])
def test_an_epoch_of_windows_is_the_corpus_without_special_and_held_out_tokens(
    planted: Planted, windows: int
) -> None:
    probe = Activations(planted.model, planted.sequences, [setting(planted)])
    epoch = probe._order.epoch_tokens
    whole = setting(planted, train_batch_tokens=epoch // 3, training_tokens=epoch)
    whole = replace(whole, window_batches=3 // windows)
    assert whole.windows == windows
    stream = Activations(planted.model, planted.sequences, [whole])
    seen = Counter[int]()
    for batch in stream.batches(0, nothing):
        seen.update(embedded(planted, batch[HOOK]))
    training = Counter(planted.sequences.flat.tolist())
    training.subtract(stream.held_out.flat.tolist())
    del training[0]
    assert seen.total() == whole.tokens > epoch - 3
    missing = +(training - seen)
    assert missing.total() == epoch - whole.tokens and not seen - training


def test_batches_from_any_step_are_the_same(planted: Planted) -> None:
    settings = setting(planted, training_tokens=150 * 256)
    assert settings.steps > 2 * settings.window_batches
    stream = Activations(planted.model, planted.sequences, [settings])
    whole = [batch[HOOK].clone() for batch in stream.batches(0, nothing)]
    assert len(whole) == settings.steps and whole[-1].shape == (256, settings.d_in)
    for first in (149, 70, 64, 63, 1):
        fresh = Activations(planted.model, planted.sequences, [settings])
        for step, batch in enumerate(fresh.batches(first, nothing), first):
            assert torch.equal(batch[HOOK], whole[step])


def test_a_batch_mixes_many_sequences(planted: Planted) -> None:
    """Each sequence here repeats a token of its own. Unmixed, a batch would hold about eight."""
    offsets = planted.sequences.offsets
    owner = np.repeat(np.arange(2, len(offsets) + 1), np.diff(offsets)).astype(np.uint16)
    stream = Activations(planted.model, Sequences(owner, offsets), [setting(planted)])
    assert len(set(embedded(planted, next(stream.batches(0, nothing))[HOOK]))) > 100


def test_too_little_text_is_refused(planted: Planted) -> None:
    few = Sequences(planted.sequences.flat[:6], np.array([0, 3, 6]))
    with pytest.raises(Invalid, match=r"has 2 tokens to train on, less than one batch of 256"):
        Activations(planted.model, few, [setting(planted)])


def test_a_tick_may_stop_it(planted: Planted) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    stream = Activations(planted.model, planted.sequences, [setting(planted)])
    with pytest.raises(KeyboardInterrupt):
        next(stream.batches(0, stop))
    assert torch.isfinite(stream.window(0, nothing)[HOOK]).all()
