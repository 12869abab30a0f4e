"""The curve of a training run as a picture."""

import asyncio
from html import escape
from typing import Any

from fastapi import APIRouter, Response

from app.api.params import JobId
from app.api.problems import documented
from app.api.state import Use
from app.errors import Conflict

router = APIRouter(tags=["jobs"])

TITLES = {
    "explained_variance": "explained variance",
    "l0": "L0, active features a token",
    "mse": "mean squared error",
    "loss": "loss",
    "dead_fraction": "dead features, share",
}
WIDTH, HEIGHT, COLUMNS = 260, 130, 3
LEFT, TOP, RIGHT, BOTTOM = 12, 26, 64, 14
"""Margins of a panel."""


@router.get(
    "/v1/jobs/{job}/curve.svg",
    summary="See how a training run went",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {}}}, **documented(404, 409, 422, 503)},
)
async def get_curve(services: Use, job: JobId) -> Response:
    """The metrics of a `train` job that is done over the tokens it learned from, as an SVG. The
    numbers are its `result.curve`."""
    jobs = await services.jobs()
    view = await asyncio.to_thread(jobs.get, job)
    curve = (view.result or {}).get("curve")
    if curve is None:
        raise Conflict(
            f"Job {view.id} ({view.kind}, {view.state}) has no curve; a `train` job has one when it "
            "is done."
        )
    return Response(svg(curve), media_type="image/svg+xml")


def svg(curve: dict[str, Any]) -> str:
    """A panel for each metric, of its values over `tokens`."""
    names = [name for name in TITLES if name in curve["metrics"]]
    rows = -(-len(names) // COLUMNS)
    panels = [
        f'<g transform="translate({i % COLUMNS * WIDTH} {i // COLUMNS * HEIGHT})">'
        f"{_panel(TITLES[name], curve['tokens'], curve['metrics'][name])}</g>"
        for i, name in enumerate(names)
    ]
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11" '
        f'fill="#343a40"><rect width="{width}" height="{height}" fill="#fff"/>'
        f"{''.join(panels)}</svg>"
    )


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
