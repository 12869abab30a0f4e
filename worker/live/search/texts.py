"""The texts of a search: tokenised and checked, and read by everybody's captures."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from app.contract.search import SearchRequest
from app.errors import Gone, Invalid, TooLarge
from app.settings import Settings
from app.store.activity import Activity
from worker.live.capture import CaptureJob
from worker.live.kinds import OfSae
from worker.live.prepare import encode_texts
from worker.live.resident import Held
from worker.saes import common_bos

MOST_ACTIVE = 2**22
"""Active features that one search may find, all tokens and SAEs together: they are kept until the
last text is read, and then sorted."""


class Place(NamedTuple):
    """A token of the request."""

    text: int
    position: int
    token: str


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts laid end to end, of a contrast the positive ones first. T tokens."""

    tokens: list[list[str]]
    """Display strings."""
    special: Bool[np.ndarray, " T"]
    """BOS and the like."""
    n_positive: int
    """Positive texts."""

    @cached_property
    def starts(self) -> Int[np.ndarray, " texts_plus_1"]:
        """Where each text begins."""
        return np.cumsum([0, *map(len, self.tokens)])

    def place(self, at: int) -> Place:
        """Text and position of the token at a place of the line."""
        text = int(np.searchsorted(self.starts, at, side="right")) - 1
        position = at - int(self.starts[text])
        return Place(text, position, self.tokens[text][position])


def prepare_search(
    request: SearchRequest, held: Held, sources: dict[str, Activity], settings: Settings
) -> tuple[Texts, CaptureJob]:
    """The texts, and the job that finds everything that is active on them.

    BOS is put in front as the SAEs were trained, or as the model says when they do not.
    """
    model, dictionaries = held.resident.model, held.dictionaries
    prepend_bos = common_bos(d.prepend_bos for d in dictionaries.values())
    named = _named(request)
    line = encode_texts(named, prepend_bos, model, settings.max_request_tokens)
    special = [model.is_special[own] for own in line]
    for where, own in zip(named, special, strict=True):
        if own.all():
            raise Invalid(f"{where} has no tokens but special ones; give some text.")
    _check_active(sum(map(len, line)), sources)
    shown = held.resident.vocabulary.display
    tokens = [[shown[token] for token in own] for own in line]
    n_positive = len(request.contrast.positive) if request.contrast else 1
    readings = [OfSae(sae, d, None, d.d_sae) for sae, d in dictionaries.items()]
    return Texts(tokens, np.concatenate(special), n_positive), CaptureJob(line, readings)


def check_unchanged(held: Held, sources: dict[str, Activity]) -> None:
    """Refuse to rank an SAE by the evidence of another one, whose id it took in this moment."""
    for sae, dictionary in held.dictionaries.items():
        if dictionary.fingerprint != sources[sae].sae_fingerprint:
            raise Gone(f"SAE {sae} was replaced meanwhile; ask again.")


def _named(request: SearchRequest) -> dict[str, str]:
    """Texts by where the request has them."""
    if request.contrast is None:
        return {"text": request.text or ""}
    return {
        f"contrast.{side}[{i}]": text
        for side, texts in (
            ("positive", request.contrast.positive),
            ("negative", request.contrast.negative),
        )
        for i, text in enumerate(texts)
    }


def _check_active(tokens: int, sources: dict[str, Activity]) -> None:
    """By how many features are active on a token of the corpus."""
    on_a_token = sum(float(one.density.sum()) for one in sources.values())
    if tokens * on_a_token > MOST_ACTIVE:
        raise TooLarge(
            f"The texts have {tokens} tokens together, and about {on_a_token:.0f} features of these "
            f"SAEs are active on each; one search may find {MOST_ACTIVE}. Search fewer SAEs, or "
            "less text."
        )
