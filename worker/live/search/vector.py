"""Features that point where a vector points.

A feature has two directions: the one that it writes, its decoder row, and the one that it reads, its
column of the encoder. A neuron's are the same, an axis of its layer. Score: the cosine.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from app.contract.search import SearchRequest, Side
from app.errors import Invalid
from app.store.records import SaeRecord
from worker.live.search.ranking import Ranking
from worker.sae_folder import check_sae_folder
from worker.saes import Dictionary

BLOCK_ELEMENTS = 2**22
"""Numbers of a dictionary's weights that are looked at in one go of the model thread."""


def fitting(request: SearchRequest, saes: list[SaeRecord]) -> list[SaeRecord]:
    """The SAEs with directions as wide as the vector. Invalid when one that was named has none, or
    nothing has."""
    vector, side = unit(request.vector or []), side_of(request)
    named = request.saes is not None
    there = [one for one in saes if side == "decoder" or _has_encoder(one, named)]
    widths = {one.id: _width(one, side) for one in there}
    fit = [one for one in there if widths[one.id] == len(vector)]
    if not fit or (named and len(fit) < len(there)):
        own = ", ".join(f"{width} of {sae}" for sae, width in widths.items())
        raise Invalid(
            f"vector has {len(vector)} numbers; on the {side} side the widths are "
            f"{own or 'none, as no SAE has directions there'}."
        )
    return fit


def side_of(request: SearchRequest) -> Side:
    """The side that is compared."""
    return request.side or "decoder"


def unit(vector: list[float]) -> Float[np.ndarray, " w"]:
    """The vector at length 1, as float32. Invalid when it has no direction."""
    wide = np.array(vector, np.float64)
    largest = np.abs(wide).max(initial=0.0)
    if not (np.isfinite(largest) and largest > 0):
        raise Invalid(
            "vector has no direction: it is zero, or holds numbers that are not finite; give finite "
            "numbers, one of them not 0."
        )
    wide /= largest  # squares of very large or small numbers would not be finite, or 0
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def _has_encoder(sae: SaeRecord, named: bool) -> bool:
    if sae.architecture != "matching_pursuit":
        return True
    if named:
        raise Invalid(
            f"{sae.id} has no encoder directions: matching pursuit takes features one after another, "
            "each from what those before it left over; compare with its decoder side."
        )
    return False


def _width(sae: SaeRecord, side: Side) -> int:
    if side == "decoder" and "transcoder" in sae.architecture:
        return check_sae_folder(Path(sae.path)).d_out
    return sae.d_in


def blocks(dictionary: Dictionary, width: int) -> list[slice]:
    """The features in parts that the model thread has time for between two turns."""
    step = max(1, BLOCK_ELEMENTS // width)
    return [slice(first, first + step) for first in range(0, dictionary.d_sae, step)]


@torch.inference_mode()
def cosines(
    dictionary: Dictionary, side: Side, unit: Float[np.ndarray, " w"], features: slice
) -> Float[np.ndarray, " f"]:
    """Of a unit vector with some features' directions; 0 for a feature without one, whose weights
    are zero."""
    rows, weight = dictionary.decoder.rows, dictionary.encoder.weight
    if rows is None:
        return unit[features]
    vector = torch.from_numpy(unit).to(rows.device)
    if side == "decoder":
        found = rows[features] @ vector
    else:
        assert weight is not None, "`fitting` leaves these out"
        columns = weight[:, features]
        # torch takes eight times as long to add along columns itself.
        lengths = (torch.ones_like(vector) @ columns.square()).sqrt()
        found = vector @ columns / lengths.clamp(min=1e-12)
    return found.clamp(-1, 1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class Cosines(Ranking):
    """Features by their cosine."""

    side: Side

    def why(self, row: int) -> dict[str, Any]:
        return {"kind": "vector", "side": self.side, "cosine": self.score[row]}


def rank_by_cosine(cosine: Float[np.ndarray, " f"], side: Side) -> Cosines:
    """All features of an SAE by their cosines."""
    return Cosines(np.arange(len(cosine)), cosine, np.zeros_like(cosine), side)
