"""Choices of `/v1/completions`: plain text, with log probabilities in four parallel lists."""

import codecs
from collections import defaultdict
from typing import Any


class TextForm:
    """One request's choices; a stream gives each of them in pieces, in order."""

    prefix = "cmpl"
    whole = part = "text_completion"

    def __init__(self) -> None:
        self._offsets: defaultdict[int, _Offsets] = defaultdict(_Offsets)

    def choice(self, place: int, told: dict[str, Any]) -> dict[str, Any]:
        """A choice from what the live worker says of it."""
        logprobs = told.get("logprobs")
        return {
            "index": place,
            "text": told["text"],
            "logprobs": logprobs if logprobs is None else self._logprobs(place, logprobs),
            "finish_reason": told["finish_reason"],
        }

    def delta(self, event: dict[str, Any]) -> dict[str, Any]:
        """What is new of a choice."""
        return self.choice(event["choice"], event)

    def _logprobs(self, place: int, drawn: list[dict[str, Any]]) -> dict[str, Any]:
        offsets = self._offsets[place]
        return {
            "tokens": [one["token"] for one in drawn],
            "token_logprobs": [one["logprob"] for one in drawn],
            "top_logprobs": [_top(one) for one in drawn],
            "text_offset": [offsets.next(bytes(one["bytes"])) for one in drawn],
        }


def _top(drawn: dict[str, Any]) -> dict[str, float]:
    """By token; the drawn one is always among them."""
    return {one["token"]: one["logprob"] for one in [*reversed(drawn["top"]), drawn]}


class _Offsets:
    """Where each token begins in the text of the answer, in characters; one that goes on with a
    character begins where that character does."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at = 0

    def next(self, piece: bytes) -> int:
        begin = self._at
        self._at += len(self._decoder.decode(piece))
        return begin
