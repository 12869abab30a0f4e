"""Choices of several prompts as the plain objects and bytes of `app.contract.complete`."""

from collections.abc import Iterator
from typing import Any

import orjson

from app.contract.complete import CompleteRequest
from worker.live.answer import Answer, Generation
from worker.live.logprobs import Logprob


def complete_answer(generation: Generation, request: CompleteRequest) -> Iterator[bytes]:
    """JSON of a `CompleteAnswer`, a choice at a time: log probabilities can be many."""
    yield b'{"choices":['
    for place, answer in enumerate(generation.answers):
        told = _told(answer, 0, None)
        choice = {"text": answer.text.text, "finish_reason": answer.reason, **told}
        yield (b"," if place else b"") + orjson.dumps(choice)
    yield b'],"usage":%b}' % orjson.dumps(_usage(generation, request))


def last_event(generation: Generation, request: CompleteRequest) -> dict[str, Any]:
    """The `CompleteEvent` that ends a stream."""
    if generation.problem is not None:
        return {"event": "error", "problem": generation.problem.body()}
    return {"event": "done", "usage": _usage(generation, request)}


class ChoiceCursor:
    """How much of a choice a stream has sent."""

    def __init__(self, place: int, answer: Answer) -> None:
        self._place = place
        self._answer = answer
        self._characters = 0
        self._tokens = 0
        self._ended = False

    def advance(self) -> dict[str, Any] | None:
        """A `CompleteEvent` with what is new, None when nothing is."""
        answer = self._answer
        # Read before the text: what has a reason now has its whole text already.
        reason = answer.reason if answer.reason != "cancelled" else None
        end = len(answer.tokens)
        text = answer.text.text[self._characters :]
        if self._ended or not (text or reason or self._tokens < end):
            return None
        told = _told(answer, self._tokens, end)
        self._characters += len(text)
        self._tokens, self._ended = end, reason is not None
        return {
            "event": "delta",
            "choice": self._place,
            "text": text,
            "finish_reason": reason,
            **told,
        }


def _told(answer: Answer, start: int, end: int | None) -> dict[str, Any]:
    """Log probabilities of some tokens, where they are asked for."""
    if answer.top_logprobs is None:
        return {}
    part = slice(start, end)
    drawn = zip(answer.tokens[part], answer.logprobs[part], strict=False)
    return {"logprobs": [_chosen(token, logprob, answer) for token, logprob in drawn]}


def _chosen(token: int, logprob: Logprob, answer: Answer) -> dict[str, Any]:
    top = [_likely(other, value, answer) for other, value in logprob.top]
    return {**_likely(token, logprob.value, answer), "top": top}


def _likely(token: int, value: float, answer: Answer) -> dict[str, Any]:
    vocabulary = answer.vocabulary
    return {
        "token": vocabulary.display[token],
        "bytes": list(vocabulary.raw[token]),
        "logprob": value,
    }


def _usage(generation: Generation, request: CompleteRequest) -> dict[str, int]:
    """A prompt counts once, however many choices it has."""
    own = generation.answers[:: len(request.seeds)]
    return {
        "prompt_tokens": sum(len(answer.prompt) for answer in own),
        "completion_tokens": sum(len(answer.tokens) for answer in generation.answers),
    }
