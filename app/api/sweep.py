"""Dose and response: one prompt under several strengths of the same steering, in one batch."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example
from pydantic import Field

from app.api.disconnect import unless_disconnected
from app.api.interventions import check_strengths, resolve
from app.api.problems import documented, invalid
from app.api.prompted import Prompted, check_limits
from app.api.state import Use
from app.contract import live as wire
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.steering import SteeringEntry

router = APIRouter(tags=["live"])

MOST_STRENGTHS = 32
EXAMPLES: dict[str, Example] = {
    "one feature": {
        "summary": "From nothing to four times its own strongest activation",
        "value": {
            "model": BUNDLED_MODEL,
            "prompt": "The old sailor",
            "max_new_tokens": 24,
            "steering": [{"sae": BUNDLED_SAES[0], "feature": 12}],
            "strengths": [0, 0.5, 1, 2, 4],
        },
    }
}


class SweepRequest(Prompted):
    """A prompt, what to change, and how strongly."""

    steering: list[SteeringEntry] = Field(
        min_length=1,
        description="Applied in this order, each on the result of the one before; at most "
        "SAESCOPE_MAX_STEERING entries (32).",
    )
    strengths: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        min_length=1,
        max_length=MOST_STRENGTHS,
        description="An answer for each: every entry's own `strength` times this. At 0 `add` does "
        "nothing, `clamp` ablates, `orthogonal` takes the direction out (1 does nothing), and `cap` "
        "lets nothing through: it acts less, the higher it is. `ablate` is the same in all.",
    )


@router.post(
    "/v1/steer/sweep",
    summary="Steer with several strengths at once",
    response_model=wire.SweepAnswer,
    responses=documented(403, 404, 413, 415, 422, 503),
)
async def sweep(
    request: Request,
    services: Use,
    body: Annotated[SweepRequest, Body(openapi_examples=EXAMPLES)],
) -> Response:
    """The same prompt and seed under every strength, in one batch, as rows of a dose-response curve:
    the text, how far its distribution is from the unsteered model's, how likely the unsteered model
    finds the text, and what the steered features read."""
    check_limits(services.settings, body)
    if all(entry.method == "ablate" for entry in body.steering):
        raise invalid("body.steering", "has no strength to vary", "an entry that does not ablate")
    interventions = await asyncio.to_thread(resolve, services.shelf, body.model, body.steering)
    check_strengths(interventions, body.strengths)
    wanted = wire.SweepRequest(**body.model_dump(exclude={"steering"}), interventions=interventions)
    answer = await unless_disconnected(request, services.live.sweep(wanted))
    return Response(answer, media_type="application/json")
