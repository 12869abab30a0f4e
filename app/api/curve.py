"""The curves of a training run as a picture."""

import asyncio
from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.params import JobId
from app.api.problems import documented
from app.api.state import Use
from app.contract.ids import Id
from app.contract.jobs import JobView
from app.errors import Conflict, NotFound

router = APIRouter(tags=["jobs"])

TITLES = {
    "explained_variance": "explained variance",
    "ce_loss_score": "CE loss recovered",
    "l0": "L0, active features a token",
    "mse": "mean squared error",
    "loss": "loss",
    "dead_fraction": "dead features, share",
}
WIDTH, HEIGHT, COLUMNS = 260, 130, 3
LEFT, TOP, RIGHT, BOTTOM = 12, 26, 64, 14
"""Margins of a panel."""
HEADING = 28
"""Height of an SAE's id above its panels."""

Curve = dict[str, Any]
"""`tokens`, and `metrics` by name with a value for each of them."""


class CurveQuery(BaseModel):
    """Whose curve. A misspelled parameter is refused."""

    model_config = ConfigDict(extra="forbid")

    sae: Id | None = Field(
        default=None, description="Of this SAE only, where a job trained several."
    )


@router.get(
    "/v1/jobs/{job}/curve.svg",
    summary="See how a training run went",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {}}}, **documented(404, 409, 422, 503)},
)
async def get_curve(services: Use, job: JobId, query: Annotated[CurveQuery, Query()]) -> Response:
    """The metrics of a `train` job that is done over the tokens it learned from, as an SVG; of each SAE
    under its id where there are several. The numbers are `curve` in its `result`, and in each of
    `result.also`."""
    jobs = await services.jobs()
    curves = _curves(await asyncio.to_thread(jobs.get, job))
    if query.sae is None:
        return Response(svg(curves), media_type="image/svg+xml")
    if query.sae not in curves:
        raise NotFound(
            f"Job {job} trained no SAE {query.sae}; it trained {', '.join(curves)}.", sae=query.sae
        )
    return Response(svg({query.sae: curves[query.sae]}), media_type="image/svg+xml")


def _curves(view: JobView) -> dict[str, Curve]:
    """By SAE, in the order of the specification."""
    result = view.result or {}
    if "curve" not in result:
        raise Conflict(
            f"Job {view.id} ({view.kind}, {view.state}) has no curve; a `train` job has one when it "
            "is done."
        )
    return {one["sae"]: one["curve"] for one in [result, *result.get("also", [])]}


def svg(curves: dict[str, Curve]) -> str:
    """Panels of each SAE's metrics, under its id where there are several."""
    height, blocks = 0, []
    for sae, curve in curves.items():
        if len(curves) > 1:
            height += HEADING
            blocks.append(f'<text x="{LEFT}" y="{height - 6}" font-size="13">{escape(sae)}</text>')
        blocks.append(f'<g transform="translate(0 {height})">{_panels(curve)}</g>')
        height += _rows(curve) * HEIGHT
    width = COLUMNS * WIDTH
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11" '
        f'fill="#343a40"><rect width="{width}" height="{height}" fill="#fff"/>'
        f"{''.join(blocks)}</svg>"
    )


def _panels(curve: Curve) -> str:
    """A panel for each metric, of its values over `tokens`."""
    return "".join(
        f'<g transform="translate({i % COLUMNS * WIDTH} {i // COLUMNS * HEIGHT})">'
        f"{_panel(TITLES[name], curve['tokens'], curve['metrics'][name])}</g>"
        for i, name in enumerate(_names(curve))
    )


def _rows(curve: Curve) -> int:
    return -(-len(_names(curve)) // COLUMNS)


def _names(curve: Curve) -> list[str]:
    return [name for name in TITLES if name in curve["metrics"]]


def _panel(title: str, tokens: list[int], values: list[float]) -> str:
    low, high = min(values), max(values)
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> str:
        share = (y - low) / (high - low) if high > low else 0.5
        return f"{LEFT + wide * x / tokens[-1]:.1f},{TOP + tall * (1 - share):.1f}"

    line = " ".join(map(place, tokens, values))
    end_x, end_y = place(tokens[-1], values[-1]).split(",")
    return (
        f'<text x="{LEFT}" y="16" font-weight="600">{escape(title)}</text>'
        f'<path d="M{LEFT} {HEIGHT - BOTTOM}h{wide}" stroke="#ced4da"/>'
        f'<polyline points="{line}" fill="none" stroke="#e8590c" stroke-width="1.5"/>'
        f'<circle cx="{end_x}" cy="{end_y}" r="2.5" fill="#e8590c"/>'
        f'<text x="{WIDTH - RIGHT + 6}" y="{float(end_y) + 4:.1f}">{values[-1]:.4g}</text>'
        f'<text x="{LEFT + wide}" y="{HEIGHT - 3}" text-anchor="end" fill="#868e96">'
        f"{tokens[-1]:,} tokens</text>"
    )
