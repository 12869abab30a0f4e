"""Answers every exception with a problem."""

import logging
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.disconnect import ClientGone
from app.api.problems import render, render_body
from app.api.validation import explain
from app.errors import NotFound, Problem, Unavailable
from app.logs import REQUEST_ID
from app.observe import HEADER

_log = logging.getLogger(__name__)


def install(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Register the handlers of `app`; `routers` say which methods a path has."""
    app.state.methods = [
        (route.path_regex, sorted(route.methods or ()))
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    ]
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    for error in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(error, _on_database)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(Exception, _on_anything)


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return render(error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors: Sequence[dict[str, Any]] = error.errors()
    return render(explain(errors, _annotations(request.scope.get("route"))))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return render(
            NotFound(f"There is no {request.method} {request.url.path}; /docs lists the routes.")
        )
    phrase = HTTPStatus(error.status_code).phrase
    headers, detail = dict(error.headers or {}), error.detail
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
        detail = f"{request.url.path} does not take {request.method}; allowed: {headers['Allow']}."
    body = {
        "type": f"urn:saescope:problem:{phrase.lower().replace(' ', '-')}",
        "title": phrase,
        "status": error.status_code,
        "detail": detail,
    }
    return render_body(error.status_code, body, headers)


async def _on_database(_request: Request, error: Exception) -> Response:
    if isinstance(error, PoolTimeout):
        return render(
            Unavailable(
                "All connections of this process to the database are in use; try again. If that "
                "happens often, raise SAESCOPE_DATABASE_POOL (docs/postgres.md)."
            )
        )
    _log.warning("The database does not answer: %s", getattr(error, "orig", None) or error)
    return render(
        Unavailable("The database does not answer; try again, and look at /readyz for its state.")
    )


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it but the metrics


async def _on_anything(_request: Request, _error: Exception) -> Response:
    # Starlette raises the exception again afterwards, and the server logs it.
    # The id comes with all other answers by themselves; this one is made outside of what adds it.
    problem = Problem("Something went wrong in the server; its log says what.")
    return render(problem, {HEADER: REQUEST_ID.get()})


def _annotations(route: object) -> dict[str, object]:
    """Types of a route's body and of its query."""
    if not isinstance(route, APIRoute):
        return {}
    fields = {"body": route.body_field, "query": next(iter(route.dependant.query_params), None)}
    return {part: field.field_info.annotation for part, field in fields.items() if field}


def _methods(request: Request) -> list[str]:
    known: list[tuple[re.Pattern[str], list[str]]] = request.app.state.methods
    methods = {m for regex, names in known if regex.match(request.url.path) for m in names}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)
