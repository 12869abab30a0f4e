"""Errors as pages, for people who look at them with a browser."""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from app.api.translate import Answer, Surface
from app.web.page import headers, written

_OTHERS = ("/v1", "/api", "/inference", "/docs", "/openapi.json", "/metrics", "/healthz", "/readyz")
"""What is not for people, even where a browser asks."""


def _claims(scope: Scope) -> bool:
    """A browser asks for a whole page. Parts of one are asked for by its script, which tells errors itself."""
    sent = Headers(scope=scope)
    asked = "text/html" in sent.get("accept", "") and "hx-request" not in sent
    return asked and not scope["path"].startswith(_OTHERS)


def _answer(problem: Mapping[str, Any]) -> Answer:
    html = written("error.html", embed=False, problem=problem, errors=problem.get("errors") or [])
    typed = {"Content-Type": "text/html; charset=utf-8", **headers()}
    return Answer(problem["status"], typed, html.encode())


SURFACE = Surface(_claims, _answer)
