"""Steered generation, whole or as a stream."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Self

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api import sse
from app.api.disconnect import unless_disconnected
from app.api.interventions import resolve
from app.api.limits import at_most, check_text
from app.api.problems import documented
from app.api.state import Services, Use
from app.contract import live as wire
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import Id
from app.contract.steering import SteeringEntry
from app.errors import Problem, Unavailable, from_body
from app.settings import Settings

router = APIRouter(tags=["live"])

_ENTRY = {"sae": BUNDLED_SAES[0], "feature": 12, "strength": 1.5}
_PROMPT = {"model": BUNDLED_MODEL, "prompt": "The old sailor", "max_new_tokens": 24}
EXAMPLES: dict[str, Example] = {
    "one feature": {
        "summary": "Baseline beside steered",
        "value": {**_PROMPT, "steering": [_ENTRY]},
    },
    "streamed": {
        "summary": "The same as server-sent events",
        "value": {**_PROMPT, "steering": [_ENTRY], "stream": True},
    },
    "on a condition": {
        "summary": "Only at tokens where another feature is active",
        "value": {
            **_PROMPT,
            "steering": [{**_ENTRY, "when": {"sae": BUNDLED_SAES[0], "feature": 40}}],
        },
    },
    "with a report": {
        "summary": "What steering did, token by token",
        "value": {**_PROMPT, "steering": [_ENTRY], "baseline": False, "report": True},
    },
    "sampled": {
        "summary": "One feature up and another one out, sampled",
        "value": {
            **_PROMPT,
            "steering": [_ENTRY, {"sae": BUNDLED_SAES[0], "feature": 40, "method": "ablate"}],
            "temperature": 0.8,
            "top_p": 0.95,
            "seed": 7,
            "baseline": False,
        },
    },
}
_STREAM = {
    sse.MEDIA_TYPE: {
        "schema": {"type": "string"},
        "example": 'event: delta\ndata: {"answer":"steered","text":" was","tokens":[" was"]}\n\n'
        'event: done\ndata: {"steered":{"text":" was ...","tokens":[" was"],"finish_reason":'
        '"length"},"baseline":null,"usage":{},"timings":{}}\n\n',
    }
}


class SteerRequest(BaseModel):
    """A prompt, and what to change in the model while it goes on with it."""

    model_config = ConfigDict(extra="forbid")

    model: Id
    prompt: str | None = Field(default=None, description="Text to go on with.")
    messages: list[wire.Message] | None = Field(
        default=None,
        min_length=1,
        description="A conversation instead of `prompt`, for models with a chat template.",
    )
    steering: list[SteeringEntry] = Field(
        default_factory=list,
        description="Applied in this order, each on the result of the one before; at most "
        "SAESCOPE_MAX_STEERING entries (32).",
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="At most SAESCOPE_MAX_NEW_TOKENS (1,024)."
    )
    temperature: float = Field(
        default=0.0, ge=0, le=10, allow_inf_nan=False, description="0 is greedy."
    )
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Same seed, same text.")
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default_factory=list, max_length=16, description="The text ends before any of these."
    )
    stream: bool = Field(default=False, description="Answer with server-sent events.")
    baseline: bool = Field(default=True, description="Answer with the unsteered text as well.")
    exact: bool = Field(
        default=False,
        description="Run in a batch of one. In bfloat16 the text otherwise depends on what else "
        "runs at the same time.",
    )
    report: bool = Field(
        default=False,
        description="Tell what steering did, token by token: activations of the steered features, "
        "norms and angles at the sites, divergence from the unsteered model. Costs another pass "
        "over the text.",
    )

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        return self


@router.post(
    "/v1/steer",
    summary="Generate text with steered features",
    response_model=wire.SteerAnswer,
    responses={
        200: {"content": _STREAM, "description": "The answer; with `stream` its events."},
        **documented(400, 403, 404, 413, 415, 422, 503),
    },
)
async def steer(
    request: Request,
    services: Use,
    body: Annotated[SteerRequest, Body(openapi_examples=EXAMPLES)],
) -> Response:
    """Let the model go on with a prompt while features are added, clamped, ablated, turned or
    capped, with the text that it would have written otherwise beside it.

    With d the feature's unit decoder row, a its activation here, h the vector at the site and
    c = `strength` x `unit`:

    | method | effect |
    |---|---|
    | `add` | h + c d |
    | `clamp` | h + (c − a) d |
    | `ablate` | clamp to 0 |
    | `orthogonal` | h + (strength − 1)(h·d) d, no unit |
    | `cap` | h − max(0, h·d − c) d |

    The unit `max_activation` counts in the feature's own strongest activation on the corpus, so
    that a strength means the same for every feature. Instead of a feature, an entry can name a
    `hook` and a `vector`; its unit is `raw`. `when` makes an entry act only at tokens where a
    feature is active enough, `positions` only in the prompt or only behind it.

    With `stream: true` the answer is a stream of `delta` events (`answer`, `text`, `tokens`) and
    ends with one `done` event, whose data is the whole answer, or with an `error` event, whose
    data is a problem. What fails before the first event is an ordinary problem. Closing the
    connection stops the generation.
    """
    _check_limits(services.settings, body)
    interventions = await asyncio.to_thread(resolve, services.shelf, body.model, body.steering)
    wanted = wire.SteerRequest(**body.model_dump(exclude={"steering"}), interventions=interventions)
    if body.stream:
        return await _stream(request, services, wanted)
    answer = await unless_disconnected(request, services.live.steer(wanted))
    return Response(answer, media_type="application/json")


async def _stream(request: Request, services: Services, wanted: wire.SteerRequest) -> Response:
    events = services.live.steer_events(wanted)
    first = await unless_disconnected(request, anext(events, None))
    if first and first.event == "error":
        raise from_body(first.problem or {})
    return sse.event_stream(_frames(first, events), services.stopping)


async def _frames(
    event: wire.SteerEvent | None, events: AsyncGenerator[wire.SteerEvent, None]
) -> AsyncGenerator[bytes, None]:
    try:
        while event and event.event == "delta":
            yield sse.frame(
                "delta", {"answer": event.answer, "text": event.text, "tokens": event.tokens}
            )
            event = await anext(events, None)
        if event is None:
            raise Unavailable("The live worker ended its answer in the middle; try again.")
        yield sse.frame(
            event.event, (event.done and event.done.model_dump(exclude_unset=True)) or event.problem
        )
    except Problem as problem:
        yield sse.frame("error", problem.body())
    finally:
        await events.aclose()


def _check_limits(settings: Settings, body: SteerRequest) -> None:
    limit = settings.max_new_tokens
    at_most("body.max_new_tokens", body.max_new_tokens, "tokens", limit, "SAESCOPE_MAX_NEW_TOKENS")
    limit = settings.max_steering
    at_most("body.steering", len(body.steering), "entries", limit, "SAESCOPE_MAX_STEERING")
    where = "body.prompt" if body.prompt is not None else "body.messages"
    text = body.prompt or "".join(message.content for message in body.messages or [])
    check_text(settings, where, text)
