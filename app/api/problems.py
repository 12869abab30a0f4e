"""Every error is one `application/problem+json` (RFC 9457): its shape, and the making of it."""

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.errors import Invalid, Problem
from app.logs import REQUEST_ID

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = "5"
RETRY_AFTER = {"description": "Seconds.", "schema": {"type": "integer"}, "required": True}
"""The header of a 429 or 503 in the OpenAPI document."""


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(description="Place in the request.")
    what: str = Field(description="What is wrong there.")
    allowed: str | None = Field(default=None, description="What would be right, where known.")


_EXAMPLE = {
    "type": "urn:saescope:problem:not-found",
    "title": "Not found",
    "status": 404,
    "detail": "There is no model 'gpt5'; GET /v1/models lists what there is.",
}


class ProblemBody(BaseModel):
    """An error (RFC 9457). `detail` is a sentence for people; some problems have more members."""

    model_config = ConfigDict(
        extra="allow", title="Problem", json_schema_extra={"examples": [_EXAMPLE]}
    )

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = Field(
        default=None, description="On 500 and above: the request in the server's log."
    )
    errors: list[FieldProblem] | None = Field(
        default=None, description="All that is wrong with the request, on a 422."
    )


_MEANING = {
    400: "The request cannot be read: malformed JSON, a Host that is not served here, a cursor "
    "that no list made.",
    401: "There are keys, and the request brings none of them.",
    403: "The key's scope is too small, or a web page of a foreign origin asks.",
    404: "There is no such thing.",
    409: "Not possible in the present state.",
    410: "The evidence was computed anew or deleted meanwhile; ask again, without a cursor.",
    413: "The body is larger than SAESCOPE_MAX_BODY_BYTES, or its texts have more tokens than "
    "SAESCOPE_MAX_REQUEST_TOKENS, or its answer more values than SAESCOPE_MAX_VALUES.",
    415: "The body is not declared as `application/json`.",
    422: "The request can be read and not be fulfilled; `errors` says what is wrong, and where.",
    408: "The body did not come whole within SAESCOPE_READ_TIMEOUT_S.",
    429: "The key has made all the requests that it may make for now, or the service has as much to do "
    "as it takes on at a time.",
    503: "The database or the live worker does not answer; `detail` says what to do.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the problems that a route can answer with: those that any request may meet
    before it comes to its route, and these."""
    common = {400, 401, 408, 429} if 413 in statuses else {400, 401, 429}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    told: dict[int | str, dict[str, Any]] = {
        code: {"description": _MEANING[code], "content": content}
        for code in sorted({*common, *statuses})
    }
    for code in {429, 503} & set(told):
        told[code]["headers"] = {"Retry-After": RETRY_AFTER}
    return told


def invalid(where: str, what: str, allowed: str) -> Invalid:
    """A 422 for one field: `what` is wrong with it, and what is allowed."""
    error = {"where": where, "what": what, "allowed": allowed}
    return Invalid(f"{where} {what}; allowed: {allowed}.", errors=[error])


def render(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The response that shows a problem."""
    return render_body(problem.status, problem.body(), headers)


def render_body(
    status: int, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    """The response that shows a problem object."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    if status >= 500 and (request_id := REQUEST_ID.get()):
        body = {**body, "request_id": request_id}
    if status == 503:
        headers["Retry-After"] = RETRY_AFTER_S
    if status == 429:
        headers["Retry-After"] = str(body["retry_after"])
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)
