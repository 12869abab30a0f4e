"""OpenAI's error shape."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from app.api.problems import RETRY_AFTER
from app.compat.errors import sentences, surface

PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str = Field(description="A sentence: what was wrong, what is allowed or what to do.")
    type: str = Field(
        description="`invalid_request_error`, `requests` for 429, or `server_error` from 500 on."
    )
    param: str | None = Field(description="The field of the request.")
    code: str | None = Field(
        description="`model_not_found`, `context_length_exceeded`, `unsupported_parameter`, "
        "`unknown_parameter`, `rate_limit_exceeded`, or null."
    )


class ErrorBody(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorDetail


_MEANING: dict[int | str, str] = {
    400: "The request cannot be read, asks for something that is not served, or has a value that is "
    "not allowed.",
    403: "A web page of a foreign origin may not change anything here.",
    404: "There is no such model (`model_not_found`) or SAE.",
    413: "The body is larger than SAESCOPE_MAX_BODY_BYTES, or its prompts have more tokens than "
    "SAESCOPE_MAX_REQUEST_TOKENS.",
    415: "The body is not declared as `application/json`.",
    429: "The key has made all the requests that it may make for now, or the service has as much to do "
    "as it takes on at a time.",
    503: "The database or the live worker does not answer; `message` says what to do.",
    "default": "Any other error.",
}
_CODES = {429: "rate_limit_exceeded"}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "model": ErrorBody} for status, meaning in _MEANING.items()
}
"""OpenAPI responses of these routes."""
for _status in (429, 503):
    DOCUMENTED[_status]["headers"] = {"Retry-After": RETRY_AFTER}


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's error object for a problem."""
    errors = problem.get("errors") or []
    where = errors[0]["where"].removeprefix("body").removeprefix(".") if errors else ""
    too_long = "context_length_exceeded" if "prompt_tokens" in problem else None
    return {
        "message": sentences(problem),
        "type": _type(problem["status"]),
        "param": problem.get("param") or where or None,
        "code": problem.get("code") or too_long or _CODES.get(problem["status"]),
    }


def _type(status: int) -> str:
    if status == 429:
        return "requests"
    return "invalid_request_error" if status < 500 else "server_error"


SURFACE = surface(PATHS.__contains__, lambda problem: {"error": error_of(problem)})
