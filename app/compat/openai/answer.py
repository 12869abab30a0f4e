"""Answers put together, whole or as the frames of a stream."""

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import orjson

from app.api import sse
from app.compat.openai.errors import error_of
from app.errors import Problem, Unavailable, from_body
from app.store.records import ModelRecord

_DONE = b"data: [DONE]\n\n"


class Form(Protocol):
    """How choices look on a route."""

    prefix: str
    """Of an answer's id."""
    whole: str
    """`object` of an answer, and `part` of a chunk."""
    part: str

    def choice(self, place: int, told: dict[str, Any]) -> dict[str, Any]:
        """A choice from what the live worker says of it."""
        ...

    def delta(self, event: dict[str, Any]) -> dict[str, Any]:
        """What is new of a choice."""
        ...


class Answer:
    """One answer: its id and its time are the same in all chunks."""

    def __init__(self, form: Form, model: ModelRecord) -> None:
        self._form = form
        self._head = {
            "id": f"{form.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model.id,
            "system_fingerprint": f"fp_{model.fingerprint[:12]}",
        }

    def whole(self, told: bytes) -> bytes:
        """JSON of the answer, from that of a `CompleteAnswer`."""
        answer = orjson.loads(told)
        choices = [self._form.choice(place, one) for place, one in enumerate(answer["choices"])]
        body = {"object": self._form.whole, "choices": choices, "usage": _usage(answer["usage"])}
        return orjson.dumps(self._head | body)

    async def frames(
        self,
        event: dict[str, Any] | None,
        events: AsyncGenerator[dict[str, Any], None],
        with_usage: bool,
    ) -> AsyncGenerator[bytes, None]:
        """A stream from `CompleteEvent`s, the first of which has come; `events` is closed at its
        end. An error in the middle is a frame like any other."""
        try:
            while event and event["event"] == "delta":
                if _shows(event):
                    yield self._chunk([self._form.delta(event)], with_usage)
                event = await anext(events, None)
            if event is None:
                raise Unavailable("The live worker ended its answer in the middle; try again.")
            if event["event"] == "error":
                raise from_body(event.get("problem") or {})
            if with_usage:
                yield self._chunk([], with_usage, _usage(event["usage"]))
            yield _DONE
        except Problem as problem:
            yield sse.data_frame({"error": error_of(problem.body())})
        finally:
            await events.aclose()

    def _chunk(
        self, choices: list[dict[str, Any]], with_usage: bool, usage: dict[str, int] | None = None
    ) -> bytes:
        body = {"object": self._form.part, "choices": choices}
        return sse.data_frame(self._head | body | ({"usage": usage} if with_usage else {}))


def _shows(event: dict[str, Any]) -> bool:
    """Whether there is anything in it: text may be held back that could begin a stop string."""
    return bool(event["text"] or event.get("logprobs") or event["finish_reason"])


def _usage(told: dict[str, int]) -> dict[str, int]:
    return {**told, "total_tokens": told["prompt_tokens"] + told["completion_tokens"]}
