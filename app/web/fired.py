"""Which features fire on a text, in several SAEs: from the live worker's numbers, with the labels and maxima
of the evidence."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.api.state import Services
from app.contract.live import ActivationsAnswer, ActivationsRequest, TextActivations
from app.store import read
from app.store.records import FeatureSummary

A_TOKEN = 8
"""Features of an SAE that are looked at for each token."""
SHOWN = 12
"""Features of an SAE that a whole text is shown for."""


@dataclass(frozen=True)
class Fired:
    """One feature on the text."""

    sae: str
    feature: FeatureSummary
    values: list[float]
    """By token, in folded units."""

    def value(self, token: int | None) -> float:
        """At a token, or the strongest on this text."""
        return max(self.values) if token is None else self.values[token]

    def share(self, token: int | None) -> float:
        """That as a share of the feature's maximum on the corpus: what compares across features."""
        return _share(self.value(token), self.feature)


@dataclass(frozen=True)
class Read:
    """A text with what fires on it."""

    tokens: list[str]
    strongest: list[float]
    """By token, the largest share of its own maximum that any of the features reaches there."""
    fired: list[Fired]
    """Of the token that was asked for, or of the whole text; by falling share."""


async def read_text(
    services: Services,
    model: str,
    saes: Sequence[str],
    text: str,
    token: int | None,
    skip_first: bool,
) -> Read:
    """The features that fire on a text, or at one of its tokens; at BOS none counts, as in the evidence.

    `skip_first`: whether the first token is BOS. Two questions to the live worker: which are strongest at each token, then how those behave on the
    whole text.
    """
    ranked = await _ask(services, ActivationsRequest(
        model=model, saes=list(saes), texts=[text], top_k=A_TOKEN
    ))  # fmt: skip
    if skip_first:
        for one in ranked.saes.values():
            one.top = [[], *(one.top or [])[1:]]
    known = {
        sae: await asyncio.to_thread(read.summaries, services.shelf, model, sae, _seen(ranked, sae))
        for sae in saes
    }
    wanted = {sae: _strongest(ranked, sae, known[sae], token) for sae in saes}
    some = [sae for sae in saes if wanted[sae]]
    whole = ranked
    if some:
        request = ActivationsRequest(model=model, saes=some, texts=[text], features=wanted)
        whole = await _ask(services, request)
    fired = [
        Fired(sae, known[sae][index], [0.0, *values[1:]] if skip_first else values)
        for sae in some
        for index, values in (whole.saes[sae].features or {}).items()
    ]
    fired.sort(key=lambda one: one.share(token), reverse=True)
    return Read(ranked.tokens, _heights(ranked, known), fired)


async def _ask(services: Services, request: ActivationsRequest) -> TextActivations:
    answer = ActivationsAnswer.model_validate_json(await services.live.activations(request))
    return answer.results[0]


def _seen(ranked: TextActivations, sae: str) -> list[int]:
    top = ranked.saes[sae].top or []
    return sorted({one.feature for at_token in top for one in at_token})


def _strongest(
    ranked: TextActivations, sae: str, known: dict[int, FeatureSummary], token: int | None
) -> list[int]:
    """Features of an SAE, by the largest share of their maximum, at the token or anywhere."""
    top = ranked.saes[sae].top or []
    shares: dict[int, float] = {}
    for at_token in top if token is None else top[token : token + 1]:
        for one in at_token:
            share = _share(one.value, known[one.feature])
            shares[one.feature] = max(shares.get(one.feature, 0.0), share)
    return sorted(shares, key=shares.__getitem__, reverse=True)[:SHOWN]


def _heights(ranked: TextActivations, known: dict[str, dict[int, FeatureSummary]]) -> list[float]:
    heights = [0.0] * len(ranked.tokens)
    for sae, features in known.items():
        for place, at_token in enumerate(ranked.saes[sae].top or []):
            shares = [_share(one.value, features[one.feature]) for one in at_token]
            heights[place] = max(heights[place], *shares, 0.0)
    return heights


def _share(value: float, feature: FeatureSummary) -> float:
    return value / feature.max_activation if feature.max_activation else 0.0
