"""The texts of a search, before anything is captured."""

from typing import Any

import numpy as np
import pytest

from app.contract.search import SearchRequest
from app.errors import Gone, Invalid, TooLarge
from app.settings import Settings
from app.store.activity import Activity
from tests.live.world import TEXTS, World
from worker.live.capture import CaptureJob
from worker.live.search.texts import MOST_ACTIVE, Texts, check_unchanged, prepare_search
from worker.tokens import encode_text

CONTRAST = {"positive": [TEXTS[0], TEXTS[3]], "negative": [TEXTS[2]]}


def activity(active: float, fingerprint: str = "f") -> Activity:
    """Of an SAE that has so many active features a token."""
    return Activity("run", 1, fingerprint, 1_000, np.full(96, active / 96), np.ones(96))


def prepared(world: World, active: float = 6, **request: Any) -> tuple[Texts, CaptureJob]:
    body = SearchRequest.model_validate({"model": world.id, **request})
    saes = ("1-topk", "1-standard")
    sources = {sae: activity(active) for sae in saes}
    return prepare_search(body, world.held(*saes), sources, Settings())


def test_texts_lie_end_to_end_the_positive_ones_first(world: World) -> None:
    texts, job = prepared(world, contrast=CONTRAST)
    ids = [encode_text(world.model, TEXTS[i]) for i in (0, 3, 2)]
    assert (job.texts, texts.n_positive) == (ids, 2)
    assert [r.top_k for r in job.readings] == [96, 96]
    starts = np.cumsum([0, *map(len, ids)])
    assert np.flatnonzero(texts.special).tolist() == starts[:-1].tolist()
    for text, own in enumerate(texts.tokens):
        assert own[0] == "<s>" and len(own) == len(ids[text])
        for position, token in enumerate(own):
            assert texts.place(int(starts[text]) + position) == (text, position, token)


def test_one_text_is_the_whole_line(world: World) -> None:
    texts, job = prepared(world, text=TEXTS[1])
    assert (len(job.texts), texts.n_positive) == (1, 1)


def test_what_would_be_too_much_to_sort_is_refused_before_it_is_found(world: World) -> None:
    text = "salt " * 30
    tokens = len(encode_text(world.model, text))
    allowed = MOST_ACTIVE / tokens / 2
    assert prepared(world, active=allowed * 0.999, text=text)
    with pytest.raises(TooLarge, match=f"have {tokens} tokens together, and about .* one search"):
        prepared(world, active=allowed * 1.001, text=text)


def test_texts_are_refused_by_their_place(world: World) -> None:
    for broken, sentence in (
        ({"positive": ["x", ""]}, r"contrast.positive\[1\] has no tokens but special ones"),
        ({"negative": ["salt " * 80]}, r"contrast.negative\[0\] has \d+ tokens; .* reads 64"),
    ):
        with pytest.raises(Invalid, match=sentence):
            prepared(world, contrast=CONTRAST | broken)


def test_an_sae_that_was_replaced_meanwhile_is_not_ranked_by_the_old_evidence(
    world: World,
) -> None:
    held = world.held("1-topk")
    check_unchanged(held, {"1-topk": activity(6, world.dictionary("1-topk").fingerprint)})
    with pytest.raises(Gone, match="1-topk was replaced meanwhile; ask again"):
        check_unchanged(held, {"1-topk": activity(6, "another")})
