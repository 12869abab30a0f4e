"""From what is active on the texts to a ranking, as the request asks."""

from app.contract.search import SearchRequest
from app.store.activity import Activity
from worker.live.kinds import Values
from worker.live.search.contrast import rank_by_difference
from worker.live.search.ranking import Ranking
from worker.live.search.text import rank_by_peak
from worker.live.search.texts import Texts
from worker.live.strongest import Strongest


def rank_captured(
    request: SearchRequest, texts: Texts, values: list[Values], activity: Activity
) -> Ranking:
    """The features of one SAE by its values on every text."""
    found = [one for one in values if isinstance(one, Strongest)]
    if request.contrast is None:
        return rank_by_peak(texts, found[0], activity)
    return rank_by_difference(texts, found, request.contrast.over)
