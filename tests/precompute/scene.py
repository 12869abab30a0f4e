"""A small scene that holds every case: ties, BOS, dead, dense, rare and signed features.

A tiny random GPT-2, 60 documents of 3 to 64 tokens of which 12 are written three times, and
dictionaries on two hook points: a ReLU SAE with planted features, a TopK SAE, one on
`mlp.hook_post`, an abstopk SAE (signed), and the neurons of a layer.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.worker.tiny import D_MLP, D_MODEL, save_model, save_sae
from worker.activations import capture
from worker.models import LanguageModel, load_model
from worker.saes import Dictionary, load_sae, neuron_dictionary
from worker.tokens import Sequences

HOOK = "blocks.1.hook_resid_post"
DEAD, ALWAYS, ONLY_BOS, ONCE = 3, 5, 7, 11
"""Planted features of `1-relu`."""


@dataclass(frozen=True)
class Scene:
    model: LanguageModel
    sequences: Sequences
    dictionaries: list[Dictionary]


def build(folder: Path) -> Scene:
    """Build the scene, the same for the same folder content; files are reused."""
    model = load_model("tiny", _once(folder / "tiny", lambda at: save_model(at)))
    sequences = corpus(model)
    saes = {
        "1-relu": lambda at: plant(save_sae(at, "standard", d_sae=96), model, sequences),
        "1-topk": lambda at: save_sae(at, "topk", d_sae=80, k=6, seed=1),
        "0-hook-post": lambda at: save_sae(
            at, "topk", hook_name="blocks.0.mlp.hook_post", d_in=D_MLP, d_sae=64, k=4, seed=2
        ),
        "1-signed": lambda at: save_sae(at, "abstopk", d_sae=40, k=5, seed=3),
    }
    loaded = [
        load_sae(name, _once(folder / name, make), model=model) for name, make in saes.items()
    ]
    return Scene(model, sequences, [*loaded, neuron_dictionary(model, 2)])


def _once(path: Path, make) -> Path:
    return path if path.exists() else make(path)


def corpus(model: LanguageModel, documents: int = 60, repeated: int = 12) -> Sequences:
    """Random documents behind BOS, some with a special token inside, some three times."""
    random = np.random.default_rng(0)
    words = [i for i in range(model.vocab_size) if i not in model.special_ids]
    texts = [random.choice(words, size=random.integers(2, 64)).tolist() for _ in range(documents)]
    for text in texts[::7]:
        text[len(text) // 2] = max(model.special_ids)
    texts = [*texts, *texts[:repeated], *texts[:repeated]]
    order = random.permutation(len(texts))
    cut = [[model.bos_id, *texts[i]] for i in order]
    return Sequences(
        np.concatenate(cut).astype(np.uint16), np.cumsum([0, *map(len, cut)], dtype=np.int64)
    )


def plant(folder: Path, model: LanguageModel, sequences: Sequences) -> Path:
    """Make features of a ReLU SAE that never fire, always fire, fire on BOS only, fire once."""
    file = folder / "sae_weights.safetensors"
    weights = load_file(file)
    weights["b_dec"].zero_()
    bos, x = _activations(model, sequences)
    dots = x @ x.T
    others = dots.clone().fill_diagonal_(-torch.inf).max(dim=1).values
    once = int((dots.diagonal() / others).argmax())
    weights["b_enc"][DEAD], weights["b_enc"][ALWAYS] = -1e4, 1e4
    _fire_alone(weights, ONLY_BOS, bos, (x @ bos).max())
    _fire_alone(weights, ONCE, x[once], others[once])
    save_file(weights, file)
    return folder


def _fire_alone(
    weights: dict[str, torch.Tensor], feature: int, x: torch.Tensor, second: torch.Tensor
) -> None:
    """Let a feature read `x` with a bias between its own dot product and the second largest."""
    weights["W_enc"][:, feature] = x
    weights["b_enc"][feature] = -(x @ x + second) / 2


def _activations(model: LanguageModel, sequences: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations at BOS, and at all tokens that count."""
    parts = [torch.from_numpy(part.astype(np.int64)) for part in
             np.split(sequences.flat, sequences.offsets[1:-1])]  # fmt: skip
    found = [capture(model, ids[None], [HOOK])[HOOK][0] for ids in parts]
    special = torch.tensor(sorted(model.special_ids))
    x = torch.cat([one[~torch.isin(ids, special)] for one, ids in zip(found, parts, strict=True)])
    assert x.shape[1] == D_MODEL
    return found[0][0].clone(), x
