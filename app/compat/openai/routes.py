"""The two routes."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example

from app.api import sse
from app.api.disconnect import unless_disconnected
from app.api.opening import first_event
from app.api.state import Services, Use
from app.compat.openai.answer import Answer, Form
from app.compat.openai.chat import ChatForm
from app.compat.openai.errors import DOCUMENTED
from app.compat.openai.requests import Asked, ChatRequest, CompletionRequest
from app.compat.openai.shapes import ChatAnswer, CompletionAnswer
from app.compat.openai.text import TextForm
from app.compat.openai.wanted import find_model, wanted_chat, wanted_text
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.complete import CompleteRequest
from app.observe import KEY
from app.store.records import ModelRecord

router = APIRouter(tags=["openai"])

_STEERING = [{"sae": BUNDLED_SAES[0], "feature": 12, "strength": 1.5}]
_PROMPT = {"model": BUNDLED_MODEL, "prompt": "The old sailor", "max_tokens": 24}
_STREAM_OPTIONS = {"include_usage": True}
TEXT_EXAMPLES: dict[str, Example] = {
    "steered": {
        "summary": "A text, steered by one feature",
        "value": {**_PROMPT, "temperature": 0, "steering": _STEERING},
    },
    "choices": {
        "summary": "Three choices, with log probabilities",
        "value": {**_PROMPT, "n": 3, "seed": 7, "temperature": 0.8, "logprobs": 2},
    },
    "streamed": {
        "summary": "As server-sent events, with the usage at the end",
        "value": {**_PROMPT, "seed": 7, "stream": True, "stream_options": _STREAM_OPTIONS},
    },
}
CHAT_EXAMPLES: dict[str, Example] = {
    "yours": {
        "summary": "For a model of yours: the bundled one has no chat template",
        "value": {
            "model": "my-chat-model",
            "messages": [{"role": "user", "content": "Who lives by the sea?"}],
            "max_completion_tokens": 24,
        },
    }
}


def _responses(example: str) -> dict[int | str, dict[str, Any]]:
    """With `example` a frame of the stream."""
    stream = {"schema": {"type": "string"}, "example": f"{example}\n\ndata: [DONE]\n\n"}
    said = "The answer; with `stream` its chunks."
    return {200: {"content": {sse.MEDIA_TYPE: stream}, "description": said}, **DOCUMENTED}


@router.post(
    "/v1/completions",
    summary="Complete texts, as OpenAI's clients ask",
    response_model=CompletionAnswer,
    responses=_responses(
        'data: {"object":"text_completion","choices":[{"text":" was", ...}], ...}'
    ),
)
async def create_completion(
    request: Request,
    services: Use,
    body: Annotated[CompletionRequest, Body(openapi_examples=TEXT_EXAMPLES)],
) -> Response:
    """Let the model go on with one prompt or several, with `n` choices for each.

    OpenAI's own clients work unchanged, with this service's `/v1` as their base URL and any key. The
    text is that of `/v1/steer` with the same parameters; `steering` takes the same entries. Fields of
    OpenAI's that would change the answer and are not served, such as `echo`, are refused (400).
    Closing the connection stops the generation.
    """
    return await _answered(request, services, body, wanted_text, TextForm())


@router.post(
    "/v1/chat/completions",
    summary="Go on with a conversation, as OpenAI's clients ask",
    response_model=ChatAnswer,
    responses=_responses(
        'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":" was"}, ...}], ...}'
    ),
)
async def create_chat_completion(
    request: Request,
    services: Use,
    body: Annotated[ChatRequest, Body(openapi_examples=CHAT_EXAMPLES)],
) -> Response:
    """Let a model that has a chat template go on with a conversation, with `n` choices.

    As on `/v1/completions`; fields such as `tools` or another `response_format` than text are refused
    (400), and so are models without a chat template, among them the bundled one.
    """
    return await _answered(request, services, body, wanted_chat, ChatForm())


async def _answered(
    request: Request,
    services: Services,
    body: Any,
    wanted_of: Callable[..., CompleteRequest],
    form: Form,
) -> Response:
    model, wanted = await asyncio.to_thread(_prepared, services, body, wanted_of)
    answer = Answer(form, model)
    if not wanted.stream:
        told = await unless_disconnected(request, services.live.complete(wanted))
        # On a thread: log probabilities can be many.
        whole = await asyncio.to_thread(answer.whole, told)
        return Response(whole, media_type="application/json")
    events = services.live.complete_events(wanted)
    first = await first_event(request, services.streams, events)
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    frames = answer.frames(first, events, with_usage)
    return sse.event_stream(frames, services.streams, request.scope.get(KEY))


def _prepared(
    services: Services, body: Asked, wanted_of: Callable[..., CompleteRequest]
) -> tuple[ModelRecord, CompleteRequest]:
    model = find_model(services.shelf, body.model)
    return model, wanted_of(services.shelf, services.settings, body)
