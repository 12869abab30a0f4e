"""Features that a text is about.

    score = closeness x surprise = min(1, peak / maximum) x log2(1 / density)

`peak` is the feature's strongest activation on the text, `maximum` its strongest on the corpus: how
close to its own best it comes. `density` is the share of the corpus' tokens on which it is active:
that it is active at all is so many bits of surprise. So what fires everywhere does not win, and
neither does what rarely fires and hardly does so here; in the same way tf-idf weighs a term's
frequency in a document by log(1 / its frequency in all of them).

Special tokens are no peak: models keep activations at BOS that have nothing to do with the text.
A feature that never fired on the corpus has a density of less than one token of it, and counts as
if it were one; it has no maximum, and is compared with the median maximum of its SAE.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from app.store.activity import Activity
from worker.live.search.ranking import Ranking
from worker.live.search.texts import Texts
from worker.live.strongest import Strongest


@dataclass(frozen=True, eq=False)
class Peaks(Ranking):
    """Features by where they fire strongest. `second` is the value there."""

    position: Int[np.ndarray, "_"]
    active: Strongest
    tokens: list[str]

    def why(self, row: int) -> dict[str, Any]:
        own = self.active.feature == self.feature[row]
        values = np.zeros(len(self.tokens), np.float32)
        values[self.active.token[own]] = self.active.value[own]
        position = int(self.position[row])
        return {
            "kind": "text",
            "value": values[position],
            "position": position,
            "token": self.tokens[position],
            "values": values,
        }


def rank_by_peak(texts: Texts, active: Strongest, activity: Activity) -> Peaks:
    """The features that are active on the one text, at tokens that are not special."""
    counted = np.flatnonzero(~texts.special[active.token])
    keys = active.token[counted], -active.value[counted], active.feature[counted]
    order = counted[np.lexsort(keys)]
    feature, first = np.unique(active.feature[order], return_index=True)
    top = order[first]
    peak = active.value[top].astype(np.float64)
    score = _closeness(peak, feature, activity) * _surprise(feature, activity)
    return Peaks(feature, score, peak, active.token[top], active, texts.tokens[0])


def _closeness(
    peak: Float[np.ndarray, " f"], feature: Int[np.ndarray, " f"], activity: Activity
) -> Float[np.ndarray, " f"]:
    maximum = activity.max_activation[feature]
    fired = activity.max_activation[activity.max_activation > 0]
    typical = np.median(fired) if len(fired) else peak
    return np.minimum(1.0, peak / np.where(maximum > 0, maximum, typical))


def _surprise(feature: Int[np.ndarray, " f"], activity: Activity) -> Float[np.ndarray, " f"]:
    """In bits."""
    return -np.log2(np.maximum(activity.density[feature], 1 / activity.corpus_tokens))
