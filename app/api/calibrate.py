"""How strongly a feature can be steered: strengths over fixed prompts, until the text falls apart."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Body, Request
from fastapi.openapi.models import Example
from pydantic import Field, model_validator

from app.api.calibration import Calibration, CalibrationRow
from app.api.disconnect import unless_disconnected
from app.api.interventions import check_strengths, resolve
from app.api.problems import documented, invalid
from app.api.state import Services, Use
from app.contract import live as wire
from app.contract.body import JsonBody
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


class CalibrateRequest(JsonBody):
    """A feature, and how much worse the text may become."""

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
    responses=documented(403, 404, 410, 413, 415, 422, 503),
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
    check_strengths([steered], body.strengths)
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
) -> tuple[list[wire.SweepRow], list[list[wire.SweepRow]]]:
    """Answers to all prompts, unsteered, and by strength. All run in one batch."""

    async def ask(
        seed: int, prompt: str, interventions: list[Intervention], strengths: list[float]
    ) -> list[wire.SweepRow]:
        wanted = wire.SweepRequest(
            model=body.model,
            prompt=prompt,
            interventions=interventions,
            strengths=strengths,
            max_new_tokens=tokens,
            temperature=1.0,
            seed=seed,
        )
        return wire.SweepAnswer.model_validate_json(await services.live.sweep(wanted)).rows

    try:
        async with asyncio.TaskGroup() as group:
            plain = [
                group.create_task(ask(seed, prompt, [], [1.0]))
                for seed, prompt in enumerate(prompts)
            ]
            sweeps = [
                group.create_task(ask(seed, prompt, [steered], body.strengths))
                for seed, prompt in enumerate(prompts)
            ]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    by_strength = zip(*(sweep.result() for sweep in sweeps), strict=True)
    return [one.result()[0] for one in plain], [list(rows) for rows in by_strength]


def _calibration(
    body: CalibrateRequest,
    prompts: list[str],
    tokens: int,
    answers: tuple[list[wire.SweepRow], list[list[wire.SweepRow]]],
) -> Calibration:
    unsteered = _perplexity(answers[0])
    rows = [_row(steered, unsteered) for steered in answers[1]]
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


def _row(answers: list[wire.SweepRow], unsteered: float) -> CalibrationRow:
    perplexity = _perplexity(answers)
    return CalibrationRow(
        strength=answers[0].strength,
        perplexity=perplexity,
        ratio=perplexity / unsteered,
        kl=_mean(answers, lambda one: one.kl),
        activation=_mean(answers, lambda one: one.features[0].after),
        text=answers[0].text,
    )


def _perplexity(answers: list[wire.SweepRow]) -> float:
    """Of all tokens of the answers, under the unsteered model."""
    return math.exp(_mean(answers, lambda one: math.log(one.unsteered_perplexity)))


def _mean(answers: list[wire.SweepRow], of: Callable[[wire.SweepRow], float]) -> float:
    """Over the tokens of all answers."""
    return sum(len(one.tokens) * of(one) for one in answers) / sum(
        len(one.tokens) for one in answers
    )
