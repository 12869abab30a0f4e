"""Steered text beside the default one: after a prompt, or in a conversation."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Request, Response

from app.api import sse
from app.api.disconnect import unless_disconnected
from app.api.opening import first_event
from app.api.problems import invalid
from app.api.state import Services, Use
from app.compat.neuronpedia.answer import json
from app.compat.neuronpedia.errors import ASKS, error_of
from app.compat.neuronpedia.steer_bodies import (
    MOST_PROMPT,
    NpChatMessage,
    NpSteered,
    NpSteeredChat,
    SteerAsked,
    SteerBody,
    SteerChatBody,
)
from app.compat.neuronpedia.steered import (
    DEFAULT,
    STEERED,
    Answers,
    Prompts,
    answers_of,
    wanted_of,
)
from app.compat.told import frames
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.reading import RenderedMessage, RenderRequest
from app.observe import KEY
from app.rows.page import Row

router = APIRouter(tags=["neuronpedia"])

_STREAM = {"content": {sse.MEDIA_TYPE: {"schema": {"type": "string"}}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {200: _STREAM, **ASKS}
_ROLES = {"model": "assistant", "developer": "system"}
_NOT_KEPT = {"id": None, "shareUrl": None, "limit": None}
_STEERING = {
    "modelId": BUNDLED_MODEL,
    "features": [{"modelId": BUNDLED_MODEL, "layer": BUNDLED_SAES[0], "index": 266, "strength": 3}],
    "temperature": 0.5,
    "n_tokens": 16,
    "freq_penalty": 0,
    "seed": 16,
    "strength_multiplier": 1,
}


@router.post(
    "/api/steer",
    summary="Steer a text, as Neuronpedia's clients ask",
    response_model=NpSteered,
    responses=_RESPONSES,
)
async def np_steer(
    request: Request,
    services: Use,
    body: Annotated[
        SteerBody,
        Body(
            openapi_examples={
                "steered": {
                    "summary": "A text, steered and not",
                    "value": {**_STEERING, "prompt": "It was dark and Mia was alone. She"},
                }
            }
        ),
    ],
) -> Response:
    """What the model goes on with when features are steered, beside what it goes on with without.

    With `stream` server-sent events, each with the whole of both answers so far.
    """
    prompts = dict.fromkeys(answers_of(body), body.prompt)
    return await _answered(request, services, body, prompts, _texts)


def _texts(answers: Answers) -> Row:
    return {
        STEERED: answers.texts.get(STEERED),
        DEFAULT: answers.texts[DEFAULT],
        "steeredLogProbs": answers.logprobs.get(STEERED),
        "defaultLogProbs": answers.logprobs[DEFAULT],
        **_NOT_KEPT,
    }


@router.post(
    "/api/steer-chat",
    summary="Steer a conversation, as Neuronpedia's clients ask",
    response_model=NpSteeredChat,
    responses=_RESPONSES,
)
async def np_steer_chat(
    request: Request,
    services: Use,
    body: Annotated[
        SteerChatBody,
        Body(
            openapi_examples={
                "yours": {
                    "summary": "For a model of yours: the bundled one has no chat template",
                    "value": {
                        **_STEERING,
                        "modelId": "my-chat-model",
                        "features": [],
                        "defaultChatMessages": [{"role": "user", "content": "Who is there?"}],
                        "steeredChatMessages": [{"role": "user", "content": "Who is there?"}],
                        "steer_special_tokens": False,
                    },
                }
            }
        ),
    ],
) -> Response:
    """The same for conversations, with models that have a chat template."""
    if body.isAssistantAxis:
        raise invalid("body.isAssistantAxis", "is not served here", "false")
    messages = {STEERED: body.steeredChatMessages, DEFAULT: body.defaultChatMessages}
    conversations = {name: messages[name] for name in answers_of(body)}
    for one in conversations.values():
        _check_length(one)
    rendered = {name: await _rendered(request, services, body, some)
                for name, some in conversations.items()}  # fmt: skip

    def shown(answers: Answers) -> Row:
        told = {
            name: {
                "raw": rendered[name]["text"] + answers.texts[name],
                "chatTemplate": [
                    *(message.model_dump() for message in some),
                    {"role": _answering(some), "content": answers.texts[name]},
                ],
                "logprobs": answers.logprobs[name],
            }
            for name, some in conversations.items()
        }
        return {STEERED: told.get(STEERED), DEFAULT: told[DEFAULT], **_NOT_KEPT, **_settings(body)}

    prompts = {name: one["ids"] for name, one in rendered.items()}
    return await _answered(request, services, body, prompts, shown, not body.steer_special_tokens)


def _check_length(messages: list[NpChatMessage]) -> None:
    length = sum(len(one.content) for one in messages)
    if length > MOST_PROMPT:
        raise invalid(
            "body.steeredChatMessages", f"has {length:,} characters", f"at most {MOST_PROMPT:,}"
        )


async def _rendered(
    request: Request, services: Services, body: SteerChatBody, messages: list[NpChatMessage]
) -> dict[str, Any]:
    """Text and token ids of a conversation that is to be gone on with."""
    told = [
        RenderedMessage(role=_ROLES.get(one.role, one.role), content=one.content)
        for one in messages
    ]
    wanted = RenderRequest(model=body.modelId, messages=told)
    return orjson.loads(await unless_disconnected(request, services.live.render(wanted)))


def _answering(messages: list[NpChatMessage]) -> str:
    """The role of the answer, as the conversation calls it."""
    return "model" if any(one.role == "model" for one in messages) else "assistant"


def _settings(body: SteerChatBody) -> Row:
    names = (
        "temperature", "n_tokens", "freq_penalty", "seed", "strength_multiplier",
        "steer_special_tokens", "steer_method",
    )  # fmt: skip
    return {"settings": {name: getattr(body, name) for name in names}}


async def _answered(
    request: Request,
    services: Services,
    body: SteerAsked,
    prompts: Prompts,
    shown: Callable[[Answers], Row],
    skips_special: bool = False,
) -> Response:
    wanted = await asyncio.to_thread(wanted_of, services, body, prompts, skips_special)
    answers = Answers(list(prompts))
    if body.stream:
        events = services.live.complete_events(wanted)
        first = await first_event(request, services.streams, events)
        sent = frames(first, events, answers.add, lambda: shown(answers), error_of)
        return sse.event_stream(sent, services.streams, request.scope.get(KEY))
    told = orjson.loads(await unless_disconnected(request, services.live.complete(wanted)))
    for place, choice in enumerate(told["choices"]):
        answers.add(place, choice)
    return json(shown(answers))
