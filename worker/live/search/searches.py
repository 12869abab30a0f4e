"""A search, from the request to the answer."""

from functools import partial

import numpy as np
from jaxtyping import Float

from app.contract.search import SearchRequest, Side
from app.store.activity import Activity
from worker.live.desk import Desk
from worker.live.resident import Held
from worker.live.search.answer import search_answer
from worker.live.search.captured import rank_captured
from worker.live.search.ranking import Ranking
from worker.live.search.texts import check_unchanged, prepare_search
from worker.live.search.vector import blocks, cosines, rank_by_cosine, side_of, unit
from worker.saes import Dictionary


async def search(desk: Desk, request: SearchRequest) -> bytes:
    """JSON of a `SearchAnswer`."""
    sources = await desk.at_desk(lambda: desk.sources.choose(request))
    held = await desk.hold(request.model, [*sources])
    check_unchanged(held, sources)
    if request.vector is None:
        tokens, rankings = await _rank_texts(desk, request, held, sources)
    else:
        tokens, rankings = [], await _rank_weights(desk, request, held)
    shelf = desk.library.shelf
    return await desk.at_desk(lambda: search_answer(shelf, request, tokens, rankings, sources))


async def all_cosines(
    desk: Desk, dictionary: Dictionary, side: Side, direction: Float[np.ndarray, " w"]
) -> Float[np.ndarray, " f"]:
    """Of a unit vector with every feature's direction: block by block, so that others come to the
    model thread in between."""
    parts = []
    for block in blocks(dictionary, len(direction)):
        parts.append(await desk.on_model(partial(cosines, dictionary, side, direction, block)))
    return np.concatenate(parts)


async def _rank_texts(
    desk: Desk, request: SearchRequest, held: Held, sources: dict[str, Activity]
) -> tuple[list[list[str]], dict[str, Ranking]]:
    """Tokens of the texts, and the ranking of every SAE by what is active on them."""
    settings = desk.settings
    texts, job = await desk.at_desk(lambda: prepare_search(request, held, sources, settings))
    rankings: dict[str, Ranking] = {}
    async with desk.captured(held, job) as values:
        for sae, activity in sources.items():
            own = [found[sae] for found in values]
            rankings[sae] = await desk.aside(partial(rank_captured, request, texts, own, activity))
    return texts.tokens, rankings


async def _rank_weights(desk: Desk, request: SearchRequest, held: Held) -> dict[str, Ranking]:
    side, direction = side_of(request), unit(request.vector or [])
    return {
        sae: rank_by_cosine(await all_cosines(desk, dictionary, side, direction), side)
        for sae, dictionary in held.dictionaries.items()
    }
