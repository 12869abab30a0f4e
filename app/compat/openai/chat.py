"""Choices of `/v1/chat/completions`: messages, with log probabilities token by token."""

from typing import Any


class ChatForm:
    """One request's choices; a stream gives each of them in pieces, in order."""

    prefix = "chatcmpl"
    whole, part = "chat.completion", "chat.completion.chunk"

    def __init__(self) -> None:
        self._begun: set[int] = set()

    def choice(self, place: int, told: dict[str, Any]) -> dict[str, Any]:
        """A choice from what the live worker says of it."""
        message = {"role": "assistant", "content": told["text"], "refusal": None}
        return {"index": place, "message": message, **_rest(told)}

    def delta(self, event: dict[str, Any]) -> dict[str, Any]:
        """What is new of a choice; the first one names the role."""
        place, delta = event["choice"], {"content": event["text"]}
        if place not in self._begun:
            self._begun.add(place)
            delta = {"role": "assistant", **delta}
        return {"index": place, "delta": delta, **_rest(event)}


def _rest(told: dict[str, Any]) -> dict[str, Any]:
    drawn = told.get("logprobs")
    content = None if drawn is None else {"content": list(map(_drawn, drawn)), "refusal": None}
    return {"logprobs": content, "finish_reason": told["finish_reason"]}


def _drawn(one: dict[str, Any]) -> dict[str, Any]:
    return {**_likely(one), "top_logprobs": list(map(_likely, one["top"]))}


def _likely(one: dict[str, Any]) -> dict[str, Any]:
    """Special tokens stand for no bytes."""
    return {"token": one["token"], "logprob": one["logprob"], "bytes": one["bytes"] or None}
