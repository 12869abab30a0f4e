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

import numpy as np
import torch
from jaxtyping import Float

from app.contract.evaluation import DensityHistogram, Evaluation, MeasuredOn
from worker.models import LanguageModel
from worker.predict import Counted, Visit, counted, cross_entropy, divergence, predict
from worker.progress import Progress, silent
from worker.resid_mid import is_replaceable
from worker.saes import Dictionary
from worker.sites import Site
from worker.tokens import Sequences, batches

_BLOCK_ELEMENTS = 2**24
"""Numbers in one block of dense activations."""

_EDGES = [float(f"{edge:.4g}") for edge in np.geomspace(1e-6, 1, 25)]


@torch.inference_mode()
def evaluate(
    model: LanguageModel,
    dictionary: Dictionary,
    sequences: Sequences,
    source: str,
    *,
    batch_tokens: int = 2048,
    progress: Progress = silent,
) -> Evaluation:
    """The numbers of the module's formulas; None where one is undefined (no variance, zeros
    cost nothing, or a resid_mid at which the stream cannot be replaced). `source` says what text
    the sequences are. Three forwards a batch; reports phase `evaluate` in tokens."""
    replaceable = is_replaceable(model, dictionary.hook_out)
    reconstruction = _Reconstruction(dictionary, model.site(dictionary.hook_out).width)
    losses = torch.zeros(5, dtype=torch.float64)
    done = 0
    for batch in batches(sequences, batch_tokens):
        losses += _losses(model, reconstruction, counted(model, batch))
        done += int(batch.mask.sum())
        progress("evaluate", float(done), float(len(sequences.flat)))
    original, replaced, zeroed, divergence, most = losses.tolist()
    gain = zeroed - original
    return Evaluation(
        l0=reconstruction.l0,
        explained_variance=reconstruction.explained_variance,
        ce_loss_score=_share(zeroed - replaced, gain) if replaceable else None,
        kl_div_score=_share(most - divergence, most) if replaceable else None,
        dead_features=reconstruction.dead_features,
        measured_on=MeasuredOn(source=source, tokens=reconstruction.tokens),
        density_histogram=reconstruction.density_histogram,
    )


def _share(part: float, whole: float) -> float | None:
    share = part / whole if whole else math.nan
    return share if math.isfinite(share) else None


class _Reconstruction:
    """Reconstructs tokens, and sums up in float64 what the metrics need."""

    def __init__(self, dictionary: Dictionary, width: int) -> None:
        self.dictionary = dictionary
        self.tokens = 0
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
        self.tokens += len(x)
        self._active += encoded.count_nonzero(dim=0).cpu()
        self._sum += wide.sum(dim=0)
        self._squares += wide.square().sum()
        self._error += (wide - decoded.cpu()).square().sum()
        return decoded.to(target.dtype)

    @property
    def l0(self) -> float:
        return float(self._active.sum()) / max(self.tokens, 1)

    @property
    def dead_features(self) -> float:
        return float((self._active == 0).sum())

    @property
    def explained_variance(self) -> float | None:
        variance = float(self._squares - self._sum.square().sum() / max(self.tokens, 1))
        return 1 - float(self._error) / variance if variance > 0 else None

    @property
    def density_histogram(self) -> DensityHistogram:
        alive = self._active[self._active > 0].double() / max(self.tokens, 1)
        counts, _ = np.histogram(alive.clamp(min=_EDGES[0]).numpy(), _EDGES)
        return DensityHistogram(edges=_EDGES, counts=counts.tolist())


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
