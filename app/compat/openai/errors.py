"""Every error on OpenAI's routes in OpenAI's shape, wherever it comes from.

The rest of the API raises and renders problems (RFC 9457); here, outside of everything that can
refuse a request, they are translated. What cannot be processed (422) is 400, as OpenAI's clients know it.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE, RETRY_AFTER
from app.errors import Problem

PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})
_ANYTHING = Problem("Something went wrong in the server; its log says what.")


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str = Field(description="A sentence: what was wrong, what is allowed or what to do.")
    type: str = Field(description="`invalid_request_error`, or `server_error` from 500 on.")
    param: str | None = Field(description="The field of the request.")
    code: str | None = Field(
        description="`model_not_found`, `context_length_exceeded`, `unsupported_parameter`, "
        "`unknown_parameter`, or null."
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
    503: "The database or the live worker does not answer; `message` says what to do.",
    "default": "Any other error.",
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "model": ErrorBody} for status, meaning in _MEANING.items()
}
"""OpenAPI responses of these routes."""
DOCUMENTED[503]["headers"] = {"Retry-After": RETRY_AFTER}


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's error object for a problem."""
    errors = problem.get("errors") or []
    where = errors[0]["where"].removeprefix("body").removeprefix(".") if errors else ""
    too_long = "context_length_exceeded" if "prompt_tokens" in problem else None
    message = " ".join(map(_sentence, errors)) if len(errors) > 1 else problem["detail"]
    return {
        "message": message.removeprefix("body."),
        "type": "invalid_request_error" if problem["status"] < 500 else "server_error",
        "param": problem.get("param") or where or None,
        "code": problem.get("code") or too_long,
    }


def _sentence(error: Mapping[str, str]) -> str:
    allowed = f"; allowed: {error['allowed']}" if error.get("allowed") else ""
    return f"{error['where'].removeprefix('body.')}: {error['what']}{allowed}."


class OpenAIErrors:
    """Translates the problems of `PATHS`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self.app(scope, receive, send)
            return
        translated = _Translated(send)
        try:
            await self.app(scope, receive, translated)
        except Exception:
            # Raised again for the server's log; whoever catches it finds the answer begun.
            await translated.fail()
            raise


class _Translated:
    """A `send` that holds a problem back until it is whole, and sends an error in its place."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False
        self._held: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            if Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE:
                self._held = message
                return
        if self._held is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            await self._error(self._held, orjson.loads(self._body))

    async def fail(self) -> None:
        """Say that something went wrong, if nothing was said yet."""
        if not self._begun:
            await self._error({"type": "http.response.start", "headers": []}, _ANYTHING.body())

    async def _error(self, start: Message, problem: Mapping[str, Any]) -> None:
        self._begun = True
        body = orjson.dumps({"error": error_of(problem)})
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(body))
        status = 400 if problem["status"] == 422 else problem["status"]
        await self._send({**start, "status": status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})
