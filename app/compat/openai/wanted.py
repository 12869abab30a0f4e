"""Requests checked and turned into what the live worker does."""

import random
import re
from hashlib import blake2b
from typing import Any

from app.api.interventions import resolve
from app.api.limits import at_most, check_text
from app.api.problems import invalid
from app.compat.openai.requests import (
    DEFAULT_TOKENS,
    MOST_CHOICES,
    Asked,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
)
from app.compat.openai.unserved import refuse_unserved
from app.contract.complete import CompleteRequest
from app.contract.ids import ID_PATTERN
from app.contract.live import Message
from app.errors import NotFound
from app.settings import Settings
from app.store import read
from app.store.engine import Shelf
from app.store.records import ModelRecord

MOST_LOGPROBS = 2**17
"""In one answer, which is in memory as a whole."""


def find_model(shelf: Shelf, model_id: str) -> ModelRecord:
    """The model; `NotFound` as OpenAI's clients know it, also for what can be no id here."""
    try:
        if not re.fullmatch(ID_PATTERN, model_id):
            raise NotFound(f"There is no model {model_id[:128]!r}; GET /v1/models lists them.")
        return read.model(shelf, model_id)
    except NotFound as error:
        raise NotFound(error.detail, param="model", code="model_not_found") from None


def wanted_text(shelf: Shelf, settings: Settings, body: CompletionRequest) -> CompleteRequest:
    """The live worker's request for completions. Looks into the shelf, so not on the event loop."""
    refuse_unserved(body.model_extra or {}, CompletionRequest.model_fields)
    prompts, new = body.prompts, body.max_tokens or DEFAULT_TOKENS
    for prompt in prompts:
        if isinstance(prompt, str):
            check_text(settings, "body.prompt", prompt)
    _check_new(settings, "max_tokens", new)
    return _wanted(
        shelf,
        settings,
        body,
        len(prompts),
        prompts=prompts,
        max_new_tokens=new,
        logprobs=body.logprobs,
    )


def wanted_chat(shelf: Shelf, settings: Settings, body: ChatRequest) -> CompleteRequest:
    """The live worker's request for a chat. Looks into the shelf, so not on the event loop."""
    refuse_unserved(body.model_extra or {}, ChatRequest.model_fields)
    messages = [_message(place, one) for place, one in enumerate(body.messages)]
    check_text(settings, "body.messages", "".join(one.content for one in messages))
    asked = body.max_completion_tokens or body.max_tokens
    _check_new(settings, "max_completion_tokens", asked or 1)
    return _wanted(
        shelf,
        settings,
        body,
        1,
        messages=messages,
        max_new_tokens=asked or settings.max_new_tokens,
        fit=asked is None,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _message(place: int, given: ChatMessage) -> Message:
    for name, value in (given.model_extra or {}).items():
        if value:  # an answer that is handed back has many fields, all of them empty
            raise invalid(f"body.messages.{place}.{name}", "is not read here", "role, content")
    role = "system" if given.role == "developer" else given.role
    return Message(role=role, content=given.content)


def _check_new(settings: Settings, name: str, count: int) -> None:
    at_most(f"body.{name}", count, "tokens", settings.max_new_tokens, "SAESCOPE_MAX_NEW_TOKENS")


def _wanted(
    shelf: Shelf, settings: Settings, body: Asked, n_prompts: int, **own: Any
) -> CompleteRequest:
    """What both kinds of request have in common, and what is a kind's own."""
    n, entries = body.n or 1, body.steering or []
    if n * n_prompts > MOST_CHOICES:
        raise invalid(
            "body.n",
            f"times {n_prompts} prompts makes {n * n_prompts} choices",
            f"{MOST_CHOICES} in all",
        )
    told = own["logprobs"]
    values = n * n_prompts * own["max_new_tokens"] * (1 + (told or 0))
    if told is not None and values > MOST_LOGPROBS:
        raise invalid(
            "body.logprobs",
            f"of all choices and tokens would be {values} log probabilities",
            f"{MOST_LOGPROBS} in all",
        )
    limit = settings.max_steering
    at_most("body.steering", len(entries), "entries", limit, "SAESCOPE_MAX_STEERING")
    return CompleteRequest(
        model=body.model,
        seeds=_seeds(body.seed, n),
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p or 1.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        stop=body.stop,
        stream=bool(body.stream),
        interventions=resolve(shelf, body.model, entries),
        **own,
    )


def _seeds(seed: int | None, n: int) -> list[int]:
    """Of n choices. The first has the seed itself, and so the text that `/v1/steer` gives; the others
    are hashed, so that the choices of neighbouring seeds have nothing in common."""
    first = random.getrandbits(63) if seed is None else seed
    return [first, *(_hashed(first, place) for place in range(1, n))]


def _hashed(seed: int, place: int) -> int:
    return int.from_bytes(blake2b(f"{seed} {place}".encode(), digest_size=7).digest())
