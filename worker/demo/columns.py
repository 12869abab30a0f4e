"""Numbers of which a rule may look at one: features, neurons and random directions.

Each kind comes in blocks of columns, a row for each column and a number for every token that is not
special, in the order of the text.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float

from worker.activations import capture
from worker.dictionary import Dictionary
from worker.models import LanguageModel
from worker.tokens import Sequences, batches

Blocks = Iterator[Float[np.ndarray, "columns tokens"]]

_BATCH_TOKENS = 8_192
_BLOCK_ELEMENTS = 2**25


def states(
    model: LanguageModel, sequences: Sequences, hook_name: str
) -> Float[torch.Tensor, "tokens width"]:
    """What the model computes at a hook, in float32 on the CPU."""
    plain = ~model.is_special[sequences.flat]
    row = np.cumsum(plain) - 1
    found = torch.empty(int(plain.sum()), model.site(hook_name).width)
    for batch in batches(sequences, _BATCH_TOKENS):
        state = capture(model, batch.ids, [hook_name])[hook_name].float().cpu()
        mask = batch.mask.numpy()
        place = np.where(mask, sequences.offsets[batch.rows][:, None] + np.arange(mask.shape[1]), 0)
        kept = mask & plain[place]
        found[torch.from_numpy(row[place[kept]])] = state[torch.from_numpy(kept)]
    return found


def features(dictionary: Dictionary, x: Float[torch.Tensor, "tokens d_in"]) -> Blocks:
    """Activations of all features."""
    device = dictionary.scale.device
    for part in torch.arange(dictionary.d_sae, device=device).split(_columns(x)):
        yield dictionary.encode_columns(x.to(device), part).T.cpu().contiguous().numpy()


def neurons(model: LanguageModel, sequences: Sequences) -> Blocks:
    """Activations of the neurons of every layer."""
    for layer in range(model.n_layers):
        yield states(model, sequences, f"blocks.{layer}.mlp.hook_post").T.contiguous().numpy()


def directions(x: Float[torch.Tensor, "tokens d_in"], count: int, seed: int = 0) -> Blocks:
    """How far `x` goes along random unit directions."""
    random = torch.randn(count, x.shape[1], generator=torch.Generator().manual_seed(seed))
    unit = torch.nn.functional.normalize(random, dim=1)
    for part in unit.split(_columns(x)):
        yield (part @ x.T).numpy()


def _columns(x: Float[torch.Tensor, "tokens d_in"]) -> int:
    return max(1, _BLOCK_ELEMENTS // max(1, len(x)))
