"""How strongly a feature can be steered: strengths over fixed prompts, until the text falls apart."""

import asyncio
import math
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from statistics import fmean
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Body, Request
from fastapi.openapi.models import Example
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.calibration import Calibration, CalibrationRow
from app.api.disconnect import unless_disconnected
from app.api.interventions import resolve, times
from app.api.problems import documented, invalid
from app.api.state import Services, Use
from app.contract import live as wire
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import INDEX_MAX, Id
from app.contract.steering import Intervention, Positions, SteeringEntry
from app.store import calibration as store

router = APIRouter(tags=["live"])

GRID = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
MOST_STRENGTHS = 32
NEW_TOKENS = 32
EXAMPLES: dict[str, Example] = {
    "one feature": {
        "summary": "The strengths that keep the text's perplexity within twice its own",
        "value": {"model": BUNDLED_MODEL, "sae": BUNDLED_SAES[0], "feature": 12},
    }
}


class CalibrateRequest(BaseModel):
    """A feature, and how much worse the text may become."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Id
    sae: Id
    feature: int = Field(ge=0, le=INDEX_MAX)
    method: Literal["add", "clamp"] = Field(default="add", description="As in `/v1/steer`.")
    positions: Positions = Field(default="all", description="Tokens at which it is done.")
    skip_special_tokens: bool = Field(default=False, description="As in `/v1/steer`.")
    perplexity_budget: float = Field(
        default=2.0,
        gt=1,
        le=1_000,
        description="How many times the perplexity of unsteered answers that of steered ones may "
        "be, both under the unsteered model.",
    )
    strengths: list[float] = Field(
        default=list(GRID),
        min_length=1,
        max_length=MOST_STRENGTHS,
        description="Away from 0, upwards or downwards, in units of the feature's `max_activation`.",
    )

    @model_validator(mode="after")
    def _away_from_zero(self) -> Self:
        side = math.copysign(1, self.strengths[0])
        if any(side * after <= side * before for before, after in pairwise([0, *self.strengths])):
            raise ValueError("`strengths` must go away from 0, each farther than the one before")
        return self

    @property
    def entry(self) -> SteeringEntry:
        """The steering entry of strength 1."""
        return SteeringEntry(**self.model_dump(include=set(SteeringEntry.model_fields)))


@router.post(
    "/v1/steer/calibrate",
    summary="Find the strength that a feature's steering can have",
    responses=documented(400, 403, 404, 410, 413, 415, 422, 503),
)
async def calibrate(
    request: Request,
    services: Use,
    body: Annotated[CalibrateRequest, Body(openapi_examples=EXAMPLES)],
) -> Calibration:
    """Steer by a feature with every strength, over the same prompts and seeds for all features of an
    SAE, and find the largest strength up to which every one keeps the text's perplexity within the
    budget. The prompts are beginnings of texts of the SAE's corpus; answers have 32 tokens, drawn at
    temperature 1, since greedy answers fall into loops, which the unsteered model finds likely.

    The result is kept with the feature, in place of the one before, until its evidence is computed
    anew."""
    shelf, asked = services.shelf, (body.model, body.sae)
    [steered] = await asyncio.to_thread(resolve, shelf, body.model, [body.entry])
    run_id, prompts = await asyncio.to_thread(store.prompts, shelf, *asked)
    if not prompts:
        raise invalid("body.sae", f"is {body.sae}, whose corpus has no text", "another SAE")
    tokens = min(NEW_TOKENS, services.settings.max_new_tokens)
    work = _answers(services, body, prompts, steered, tokens)
    found = _calibration(body, prompts, tokens, await unless_disconnected(request, work))
    kept = found.model_dump(mode="json")
    await asyncio.to_thread(store.put, shelf, *asked, body.feature, run_id, kept)
    return found


async def _answers(
    services: Services,
    body: CalibrateRequest,
    prompts: list[str],
    steered: Intervention,
    tokens: int,
) -> list[list[wire.Completion]]:
    """By dose, the unsteered one first, the answers to all prompts. All run in one batch."""
    amounts = [
        times(strength, steered.amount, f"body.strengths.{place}")
        for place, strength in enumerate(body.strengths)
    ]
    doses = [[], *([steered.model_copy(update={"amount": amount})] for amount in amounts)]
    wanted = [
        wire.SweepRequest(
            model=body.model,
            prompt=prompt,
            doses=doses,
            max_new_tokens=tokens,
            temperature=1.0,
            seed=seed,
        )
        for seed, prompt in enumerate(prompts)
    ]
    try:
        async with asyncio.TaskGroup() as group:
            sweeps = [group.create_task(services.live.sweep(one)) for one in wanted]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    by_prompt = [sweep.result().answers for sweep in sweeps]
    return [list(dose) for dose in zip(*by_prompt, strict=True)]


def _calibration(
    body: CalibrateRequest,
    prompts: list[str],
    tokens: int,
    answers: list[list[wire.Completion]],
) -> Calibration:
    unsteered = _perplexity(answers[0])
    rows = [
        _row(strength, dose, unsteered)
        for strength, dose in zip(body.strengths, answers[1:], strict=True)
    ]
    within = list(takewhile(lambda row: row.ratio <= body.perplexity_budget, rows))
    return Calibration(
        strength=within[-1].strength if within else None,
        method=body.method,
        positions=body.positions,
        skip_special_tokens=body.skip_special_tokens,
        perplexity_budget=body.perplexity_budget,
        unsteered_perplexity=unsteered,
        rows=rows,
        prompts=prompts,
        max_new_tokens=tokens,
        created_at=datetime.now(UTC),
    )


def _row(strength: float, dose: list[wire.Completion], unsteered: float) -> CalibrationRow:
    perplexity = _perplexity(dose)
    return CalibrationRow(
        strength=strength,
        perplexity=perplexity,
        ratio=perplexity / unsteered,
        kl=fmean(kl for report in _reports(dose) for kl in report.kl),
        activation=fmean(
            value
            for report in _reports(dose)
            for value in report.features[0].after[-len(report.kl) :]
        ),
        text=dose[0].text,
    )


def _perplexity(dose: list[wire.Completion]) -> float:
    """Of all tokens of the answers, under the unsteered model."""
    reports = _reports(dose)
    nats = sum(len(one.kl) * math.log(one.unsteered_perplexity) for one in reports)
    return math.exp(min(nats / sum(len(one.kl) for one in reports), 700.0))


def _reports(dose: list[wire.Completion]) -> list[wire.Report]:
    return [one.report for one in dose if one.report]
