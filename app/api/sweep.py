"""Dose and response: one prompt under several strengths of the same steering, in one batch."""

import asyncio
from statistics import fmean
from typing import Annotated

from fastapi import APIRouter, Body, Request
from fastapi.openapi.models import Example
from pydantic import BaseModel, Field

from app.api.disconnect import unless_disconnected
from app.api.interventions import resolve, times
from app.api.problems import documented, invalid
from app.api.prompted import Prompted, check_limits
from app.api.state import Use
from app.contract import live as wire
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.steering import Intervention

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

    strengths: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        min_length=1,
        max_length=MOST_STRENGTHS,
        description="An answer for each: every entry's own `strength` times this. An `ablate` entry "
        "has no strength and is the same in all.",
    )


class FeatureResponse(BaseModel):
    """What a steered feature read, on average over the tokens of the answer."""

    entry: int = Field(description="Place of the entry in `steering`.")
    sae: str
    feature: int
    before: float = Field(description="Activation in front of the entries at its site.")
    after: float


class SweepRow(BaseModel):
    """One strength, and what it did."""

    strength: float
    text: str
    tokens: list[str]
    finish_reason: wire.FinishReason
    kl: float = Field(
        description="KL(steered || unsteered) of the next token's distribution in nats, mean over "
        "the tokens of the answer, at temperature 1."
    )
    perplexity: float = Field(description="Of the answer under the steered model.")
    unsteered_perplexity: float = Field(
        description="Of the same answer under the unsteered model: how far from its own text it is."
    )
    features: list[FeatureResponse]


class SweepAnswer(BaseModel):
    """The responses, in the order of `strengths`."""

    rows: list[SweepRow]
    usage: wire.Usage
    timings: wire.Timings


@router.post(
    "/v1/steer/sweep",
    summary="Steer with several strengths at once",
    responses=documented(400, 403, 404, 413, 415, 422, 503),
)
async def sweep(
    request: Request,
    services: Use,
    body: Annotated[SweepRequest, Body(openapi_examples=EXAMPLES)],
) -> SweepAnswer:
    """The same prompt and seed under every strength, in one batch, as rows of a dose-response curve:
    the text, how far its distribution is from the unsteered model's, how likely the unsteered model
    finds the text, and what the steered features read."""
    check_limits(services.settings, body)
    if not body.steering:
        raise invalid("body.steering", "is empty", "at least one entry")
    interventions = await asyncio.to_thread(resolve, services.shelf, body.model, body.steering)
    doses = [
        _dose(interventions, strength, f"body.strengths.{place}")
        for place, strength in enumerate(body.strengths)
    ]
    wanted = wire.SweepRequest(**body.model_dump(exclude={"steering", "strengths"}), doses=doses)
    answer = await unless_disconnected(request, services.live.sweep(wanted))
    rows = [
        _row(strength, completion)
        for strength, completion in zip(body.strengths, answer.answers, strict=True)
    ]
    return SweepAnswer(rows=rows, usage=answer.usage, timings=answer.timings)


def _dose(interventions: list[Intervention], strength: float, where: str) -> list[Intervention]:
    """Amounts are linear in the strength for every method but ablate, whose amount is 0."""
    return [
        one.model_copy(update={"amount": times(strength, one.amount, where)})
        for one in interventions
    ]


def _row(strength: float, completion: wire.Completion) -> SweepRow:
    report = completion.report
    assert report is not None, "a sweep asks for reports"
    return SweepRow(
        strength=strength,
        text=completion.text,
        tokens=completion.tokens,
        finish_reason=completion.finish_reason,
        kl=fmean(report.kl),
        perplexity=report.perplexity,
        unsteered_perplexity=report.unsteered_perplexity,
        features=[
            FeatureResponse(
                entry=one.entry,
                sae=one.sae,
                feature=one.feature,
                before=fmean(one.before[-len(completion.tokens) :]),
                after=fmean(one.after[-len(completion.tokens) :]),
            )
            for one in report.features
        ],
    )
