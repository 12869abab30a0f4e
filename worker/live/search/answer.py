"""The answer to a search: the best features with their labels, and why each was found."""

from typing import Any

import orjson

from app.contract.search import SearchRequest
from app.store import activity
from app.store.activity import Activity
from app.store.engine import Shelf
from worker.live.search.ranking import Hit, Ranking, best


def search_answer(
    shelf: Shelf,
    request: SearchRequest,
    tokens: list[list[str]],
    rankings: dict[str, Ranking],
    sources: dict[str, Activity],
) -> bytes:
    """JSON of a `SearchAnswer`. Gone when evidence that it was ranked by is not there any more."""
    hits = best(rankings, sources, request)
    indices: dict[str, list[int]] = {}
    for hit in hits:
        indices.setdefault(hit.sae, []).append(_index(hit, rankings))
    labels = {sae: activity.labels(shelf, sources[sae], own) for sae, own in indices.items()}
    features = [
        _found(rankings[hit.sae], hit, sources[hit.sae], labels[hit.sae][_index(hit, rankings)])
        for hit in hits
    ]
    return orjson.dumps({"tokens": tokens, "features": features}, option=orjson.OPT_SERIALIZE_NUMPY)


def _index(hit: Hit, rankings: dict[str, Ranking]) -> int:
    return int(rankings[hit.sae].feature[hit.row])


def _found(ranking: Ranking, hit: Hit, source: Activity, label: str) -> dict[str, Any]:
    index = ranking.feature[hit.row]
    return {
        "sae": hit.sae,
        "index": index,
        "label": label,
        "density": source.density[index],
        "max_activation": source.max_activation[index],
        "score": ranking.score[hit.row],
        "why": ranking.why(hit.row),
    }
