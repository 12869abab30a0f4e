"""How well a dictionary stands for its hook point, on some text.

Over all tokens that are not special (BOS, EOS, padding are skipped), x being what the model
computes at the dictionary's output hook and y the reconstruction:

    l0                   mean number of features that are not zero
    dead_features        number of features that are zero at every token
    explained_variance   1 - Σ|x - y|² / Σ|x - mean(x)|²
    ce_loss_score        (H_zero - H_sae) / (H_zero - H_orig)
    kl_div_score         (K_zero - K_sae) / K_zero

H is the mean cross-entropy of the next token after each of these tokens: of the model as it is,
with y in place of x at tokens that are not special, and with zeros in place of x everywhere. K is
the mean KL(p orig || p) of the next token's distributions, in the latter two. These are SAELens'
`ce_loss_score` and `kl_div_score` (sae_lens/evals.py, special tokens ignored), but that its K also
counts the last token of a sequence; its `explained_variance` is the same formula too. Sums are in
float64 on the CPU: not every device has it.

`density_histogram` counts features by the share of tokens at which they are not zero, a quarter of a
decade a bin from 1e-6 to 1.
"""

import math
from collections.abc import Callable
from contextlib import closing
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from app.contract.evaluation import DensityHistogram, Evaluation, MeasuredOn
from worker.cluster.crew import Crew
from worker.materials import Opened
from worker.models import LanguageModel
from worker.precompute.plan import Shard, plan_shards
from worker.precompute.report import Meter
from worker.predict import Counted, Visit, counted, cross_entropy, divergence, predict
from worker.progress import Progress, silent
from worker.resid_mid import is_replaceable
from worker.saes import Dictionary
from worker.sites import Site
from worker.tokens import Sequences, batches

SHARD_TOKENS = 2**14
"""Tokens whose sums are added up apart: what a process of a crew measures at a time."""
_BLOCK_ELEMENTS = 2**24
"""Numbers in one block of dense activations."""

_EDGES = [float(f"{edge:.4g}") for edge in np.geomspace(1e-6, 1, 25)]


def evaluate(
    model: LanguageModel,
    dictionary: Dictionary,
    sequences: Sequences,
    source: str,
    *,
    batch_tokens: int = 2048,
    progress: Progress = silent,
    crew: Crew | None = None,
) -> Evaluation:
    """The numbers of the module's formulas; None where one is undefined (no variance, zeros
    cost nothing, or a resid_mid at which the stream cannot be replaced). `source` says what text
    the sequences are, which are the first of a `crew`'s materials. Three forwards a batch; reports
    phase `evaluate` in tokens."""
    offsets = sequences.offsets
    meter = Meter(progress, "evaluate", int(offsets[-1]), int(offsets[-1]))
    shards = plan_shards(offsets, SHARD_TOKENS, 0)
    if crew is None:
        opened = Opened(model, [dictionary], sequences)
        sums = [_measure(opened, batch_tokens, shard, meter.add) for shard in shards]
    else:
        units, found = ((shard,) for shard in shards), {}
        measuring = partial(_measuring, batch_tokens)
        with closing(crew.run(measuring, units, len(shards), partial(meter.add, 0))) as done:
            for (shard,), of_shard in done:
                meter.add(int(offsets[shard.stop] - offsets[shard.first]))
                found[shard.index] = of_shard
        sums = [found[shard.index] for shard in shards]
    return _numbers(model, dictionary, reduce(Sums.plus, sums), source)


def _numbers(model: LanguageModel, dictionary: Dictionary, sums: "Sums", source: str) -> Evaluation:
    replaceable = is_replaceable(model, dictionary.hook_out)
    original, replaced, zeroed, divergence, most = sums.losses.tolist()
    gain = zeroed - original
    return Evaluation(
        l0=sums.l0,
        explained_variance=sums.explained_variance,
        ce_loss_score=_share(zeroed - replaced, gain) if replaceable else None,
        kl_div_score=_share(most - divergence, most) if replaceable else None,
        dead_features=sums.dead_features,
        measured_on=MeasuredOn(source=source, tokens=sums.tokens),
        density_histogram=sums.density_histogram,
    )


def _share(part: float, whole: float) -> float | None:
    share = part / whole if whole else math.nan
    return share if math.isfinite(share) else None


class Sums(NamedTuple):
    """What the metrics need of some tokens."""

    tokens: int
    active: Int[torch.Tensor, " d_sae"]
    """Tokens at which each feature is not zero."""
    total: Float[torch.Tensor, " d_out"]
    squares: Float[torch.Tensor, ""]
    error: Float[torch.Tensor, ""]
    losses: Float[torch.Tensor, "5"]

    def plus(self, other: "Sums") -> "Sums":
        """Of both."""
        return Sums(
            self.tokens + other.tokens,
            self.active + other.active,
            self.total + other.total,
            self.squares + other.squares,
            self.error + other.error,
            self.losses + other.losses,
        )

    @property
    def l0(self) -> float:
        return float(self.active.sum()) / max(self.tokens, 1)

    @property
    def dead_features(self) -> float:
        return float((self.active == 0).sum())

    @property
    def explained_variance(self) -> float | None:
        variance = float(self.squares - self.total.square().sum() / max(self.tokens, 1))
        return 1 - float(self.error) / variance if variance > 0 else None

    @property
    def density_histogram(self) -> DensityHistogram:
        alive = self.active[self.active > 0].double() / max(self.tokens, 1)
        counts, _ = np.histogram(alive.clamp(min=_EDGES[0]).numpy(), _EDGES)
        return DensityHistogram(edges=_EDGES, counts=counts.tolist())


def _measuring(batch_tokens: int, opened: Opened) -> Callable[[Shard], Sums]:
    """What a crew's processes do a shard with."""
    return partial(_measure, opened, batch_tokens)


@torch.inference_mode()
def _measure(
    opened: Opened,
    batch_tokens: int,
    shard: Shard,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Sums:
    """The sums over one shard."""
    model, [dictionary], sequences = opened
    reconstruction = _Reconstruction(dictionary, model.site(dictionary.hook_out).width)
    losses = torch.zeros(5, dtype=torch.float64)
    for batch in batches(sequences, batch_tokens, shard.first, shard.stop):
        losses += _losses(model, reconstruction, counted(model, batch))
        on_batch(int(batch.mask.sum()))
    return reconstruction.sums(losses)


class _Reconstruction:
    """Reconstructs tokens, and sums up in float64 what the metrics need."""

    def __init__(self, dictionary: Dictionary, width: int) -> None:
        self.dictionary = dictionary
        self._tokens = 0
        self._active = torch.zeros(dictionary.d_sae, dtype=torch.long)
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)
        self._error = torch.zeros((), dtype=torch.float64)

    def __call__(
        self, x: Float[torch.Tensor, "n d_in"], target: Float[torch.Tensor, "n d_out"]
    ) -> Float[torch.Tensor, "n d_out"]:
        """Reconstruct `target` from the inputs `x` of the same tokens."""
        rows = max(1, _BLOCK_ELEMENTS // self.dictionary.d_sae)
        blocks = zip(x.split(rows), target.split(rows), strict=True)
        parts = [self._block(*block) for block in blocks]
        return torch.cat(parts) if parts else target

    def _block(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        encoded = self.dictionary.encode(x)
        decoded = self.dictionary.decode(encoded, x)
        wide = target.cpu().double()
        self._tokens += len(x)
        self._active += encoded.count_nonzero(dim=0).cpu()
        self._sum += wide.sum(dim=0)
        self._squares += wide.square().sum()
        self._error += (wide - decoded.cpu()).square().sum()
        return decoded.to(target.dtype)

    def sums(self, losses: Float[torch.Tensor, "5"]) -> Sums:
        """Of all that was reconstructed."""
        return Sums(self._tokens, self._active, self._sum, self._squares, self._error, losses)


def _losses(
    model: LanguageModel,
    reconstruct: _Reconstruction,
    of: Counted,
) -> Float[torch.Tensor, "5"]:
    """Sums over one batch: cross-entropy as it is, reconstructed, zeroed; divergence of the latter two
    from the first."""
    read = model.site(reconstruct.dictionary.hook_name)
    write = model.site(reconstruct.dictionary.hook_out)
    seen: dict[Site, torch.Tensor] = {}
    keep: dict[Site, Visit] = {
        site: lambda state, site=site: seen.update({site: state.reshape(*of.ids.shape, -1).clone()})
        for site in (read, write)
    }
    original = predict(model, of, keep)
    swapped = seen[write].clone()
    swapped[of.plain] = reconstruct(seen[read][of.plain], seen[write][of.plain])
    losses, divergences = [cross_entropy(original, of.following)], []
    for change in (swapped.view_as, torch.zeros_like):
        changed = predict(model, of, {write: change})
        losses.append(cross_entropy(changed, of.following))
        divergences.append(divergence(original, changed))
    return torch.stack([*losses, *divergences])
