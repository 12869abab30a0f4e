"""What the searches have in common: candidates with their scores, and the best of several SAEs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from app.contract.search import SearchRequest
from app.store.activity import Activity


@dataclass(frozen=True, eq=False)
class Ranking(ABC):
    """Candidates of one SAE. `_` of them."""

    feature: Int[np.ndarray, "_"]
    score: Float[np.ndarray, "_"]
    second: Float[np.ndarray, "_"]
    """Decides between equal scores."""

    @abstractmethod
    def why(self, row: int) -> dict[str, Any]:
        """Of one candidate, the `why` of a `FoundFeature`."""


class Hit(NamedTuple):
    """A candidate: a row of an SAE's ranking."""

    sae: str
    row: int


def best(
    rankings: dict[str, Ranking], sources: dict[str, Activity], request: SearchRequest
) -> list[Hit]:
    """The best of all SAEs within the bounds on density, ties by SAE, then by index."""
    found = []
    for sae, ranking in rankings.items():
        allowed = _within(sources[sae].density[ranking.feature], request)
        for row in _first(ranking, allowed, request.limit).tolist():
            keys = -ranking.score[row], -ranking.second[row], sae, ranking.feature[row]
            found.append((keys, Hit(sae, row)))
    return [hit for _, hit in sorted(found)[: request.limit]]


def _within(density: np.ndarray, request: SearchRequest) -> np.ndarray:
    low = 0.0 if request.density_min is None else request.density_min
    high = np.inf if request.density_max is None else request.density_max
    return (low <= density) & (density <= high)


def _first(ranking: Ranking, allowed: np.ndarray, limit: int) -> np.ndarray:
    """Rows of the best that are allowed."""
    rows = np.flatnonzero(allowed)
    if len(rows) > limit:  # a search through a million features need not sort them
        least = np.partition(ranking.score[rows], -limit)[-limit]
        rows = rows[ranking.score[rows] >= least]
    keys = ranking.feature[rows], -ranking.second[rows], -ranking.score[rows]
    return rows[np.lexsort(keys)[:limit]]
