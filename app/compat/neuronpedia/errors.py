"""Neuronpedia's error shape: one sentence under both of the names that its clients look for."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from app.api.problems import RETRY_AFTER
from app.compat.errors import sentences, surface

PREFIX = "/api/"


class NeuronpediaError(BaseModel):
    """An error in Neuronpedia's shape."""

    error: str = Field(description="What was wrong, what is allowed or what to do.")
    message: str = Field(description="The same.")


_MEANING: dict[int | str, str] = {
    400: "The request cannot be read, or has a value that is not allowed.",
    401: "The header `x-api-key` is missing.",
    403: "It is another key's, or a web page of a foreign origin asks.",
    404: "There is no such model, source, feature, list or vector.",
    409: "Not possible in the present state.",
    410: "The evidence was computed anew or deleted meanwhile; ask again.",
    413: "The body is larger than SAESCOPE_MAX_BODY_BYTES, or the answer would have more values than "
    "SAESCOPE_MAX_VALUES.",
    415: "The body is not declared as `application/json`.",
    503: "The database or the live worker does not answer; the sentence says what to do.",
    "default": "Any other error.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the errors that a route can answer with: 400, for a foreign Host if for
    nothing else, and these."""
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": _MEANING[status], "model": NeuronpediaError}
        for status in (*sorted({400, *statuses}), "default")
    }
    if 503 in told:
        told[503]["headers"] = {"Retry-After": RETRY_AFTER}
    return told


READS = documented(400, 404, 410, 503)
"""Errors of a route that is read by GET."""
ASKS = documented(400, 403, 404, 410, 413, 415, 503)
"""Errors of a route that takes a body and needs no key."""
CHANGES = documented(400, 401, 403, 404, 409, 413, 415, 503)
"""Errors of a route that belongs to a key."""


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Neuronpedia's error object for a problem."""
    told = sentences(problem)
    return {"error": told, "message": told}


SURFACE = surface(lambda path: path.startswith(PREFIX), error_of)
