"""What the benches of precompute run on: a random model, random SAEs, sequences.

The fixed shape: d_model 256, 4 layers, hook on block 2, vocabulary 5,000, sequences of 128, L0 32.
"""

import numpy as np
import torch
from sae_lens import SAE

from bench.models import CONTEXT, HOOK, VOCABULARY
from worker.activations import capture
from worker.models import LanguageModel
from worker.tokens import Sequences

ACTIVE = 32
"""Active features a token."""


def make_sequences(tokens: int) -> Sequences:
    """Sequences of 128 tokens with Zipf's frequencies, BOS first."""
    frequency = 1 / np.arange(1, VOCABULARY)
    n = tokens // CONTEXT
    ids = np.random.default_rng(0).choice(
        np.arange(1, VOCABULARY, dtype=np.uint16), size=(n, CONTEXT), p=frequency / frequency.sum()
    )
    ids[:, 0] = 0
    return Sequences(ids.reshape(-1), np.arange(n + 1) * CONTEXT)


@torch.no_grad()
def make_sae(kind: str, width: int, model: LanguageModel, seed: int = 1) -> SAE:
    """A random SAE with about 32 active features a token, some frequent and some rare."""
    torch.manual_seed(seed)
    config = {"architecture": kind, "d_in": model.d_model, "d_sae": width,
              "metadata": {"hook_name": HOOK, "model_name": "bench"}}  # fmt: skip
    sae = SAE.from_dict(config | ({"k": ACTIVE} if kind == "topk" else {}))
    sae.W_dec.data = torch.nn.functional.normalize(torch.randn(width, model.d_model), dim=1)
    sae.W_enc.data = sae.W_dec.data.T.contiguous()
    if kind == "standard":
        sae.b_enc.data = _biases(sae.W_enc, model)
    return sae.requires_grad_(False)


def _biases(weight: torch.Tensor, model: LanguageModel) -> torch.Tensor:
    """Biases, spread over features, at which 32 features a token are active on a sample."""
    ids = torch.from_numpy(make_sequences(4_096).flat.astype(np.int64)).reshape(-1, CONTEXT)
    pre = capture(model, ids, [HOOK])[HOOK][:, 1:].flatten(0, 1)[::4] @ weight
    spread = torch.randn(weight.shape[1]) * 0.25 * pre.std()
    pre += spread
    return spread - pre.flatten().topk(ACTIVE * len(pre)).values[-1]
