"""Templates → pages, under a policy that lets nothing run that is not ours.

Everything is escaped: tokens and labels may hold anything. No template says `safe`.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.api.access import COOKIE
from app.api.state import Services
from app.keys import csrf_token
from app.web import assets, charts, numbers, tokens

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors {ancestors}"
)

NOBODY = "'none'"
"""May frame a page."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"asset": assets.address, "charts": charts}
    environment.filters |= {
        "visible": tokens.visible,
        "quoted": tokens.quoted,
        "number": numbers.number,
        "share": numbers.share,
        "count": numbers.count,
        "plain": numbers.plain,
        "brief": numbers.brief,
        "pretty": numbers.pretty,
    }
    return environment


def page(
    services: Services, request: Request, template: str, status: int = 200, **context: Any
) -> Response:
    """A whole page, or with `?embed=true` one that others may frame (SAESCOPE_FRAME_ANCESTORS)."""
    embed = request.query_params.get("embed") == "true"
    ancestors = " ".join(services.settings.frame_ancestors) if embed else NOBODY
    key = request.cookies.get(COOKIE)
    html = written(template, embed=embed, csrf=csrf_token(key) if key else None, **context)
    return HTMLResponse(html, status, headers=headers(ancestors))


def fragment(template: str, **context: Any) -> Response:
    """A part of a page, which its script puts in place."""
    return HTMLResponse(written(template, **context), headers=headers())


def written(template: str, **context: Any) -> str:
    """The text of a page, or of a part of one."""
    return _environment().get_template(template).render(**context)


def headers(ancestors: str = NOBODY) -> dict[str, str]:
    """What goes with every page; `ancestors` may frame it."""
    return {
        "Content-Security-Policy": _POLICY.format(ancestors=ancestors),
        # Not "no-referrer": under that, browsers say of our own pages' requests that they are nobody's.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
