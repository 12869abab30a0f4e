"""Steered generation, whole or as a stream."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example
from pydantic import Field

from app.api import sse
from app.api.disconnect import unless_disconnected
from app.api.interventions import resolve
from app.api.opening import first_event
from app.api.problems import documented
from app.api.prompted import Prompted, check_limits
from app.api.state import Services, Use
from app.contract import live as wire
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.errors import Problem, Unavailable
from app.observe import KEY

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


class SteerRequest(Prompted):
    """A prompt, and what to change in the model while it goes on with it."""

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


@router.post(
    "/v1/steer",
    summary="Generate text with steered features",
    response_model=wire.SteerAnswer,
    responses={
        200: {"content": _STREAM, "description": "The answer; with `stream` its events."},
        **documented(403, 404, 413, 415, 422, 503),
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
    check_limits(services.settings, body)
    interventions = await asyncio.to_thread(resolve, services.shelf, body.model, body.steering)
    wanted = wire.SteerRequest(**body.model_dump(exclude={"steering"}), interventions=interventions)
    if body.stream:
        return await _stream(request, services, wanted)
    answer = await unless_disconnected(request, services.live.steer(wanted))
    return Response(answer, media_type="application/json")


async def _stream(request: Request, services: Services, wanted: wire.SteerRequest) -> Response:
    events = services.live.steer_events(wanted)
    first = await first_event(request, services.streams, events)
    return sse.event_stream(_frames(first, events), services.streams, request.scope.get(KEY))


async def _frames(
    event: dict[str, Any] | None, events: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[bytes, None]:
    """The worker's events under their names, as they are: a stream is the hot path of steering."""
    try:
        while event and event.pop("event") == "delta":
            yield sse.frame("delta", event)
            event = await anext(events, None)
        if event is None:
            raise Unavailable("The live worker ended its answer in the middle; try again.")
        done = event.get("done")
        yield sse.frame("done" if done else "error", done or event.get("problem"))
    except Problem as problem:
        yield sse.frame("error", problem.body())
    finally:
        await events.aclose()
