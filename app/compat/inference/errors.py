"""Errors as Neuronpedia's inference server tells them: `{"error": sentence}`.

What that server says in words of its own, which clients may look for, is said in the same words.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from app.api.problems import RETRY_AFTER
from app.compat.errors import sentences, surface
from app.compat.inference.base import PREFIX

NO_TEMPLATE = (
    "This model has no chat template, so it cannot accept chat messages. Use /v1/steer/completion "
    "with a raw `prompt` instead."
)


class InferenceError(BaseModel):
    """An error."""

    error: str = Field(description="A sentence: what was wrong, what is allowed or what to do.")


_MEANING: dict[int | str, str] = {
    400: "The request cannot be read, or has a value that is not allowed; a text is too long.",
    401: "SAESCOPE_INFERENCE_SECRET is set, and the header X-SECRET-KEY is missing or another one.",
    403: "The key's scope is too small, or a web page of a foreign origin asks.",
    404: "There is no such model or SAE.",
    409: "The SAE or model was imported without its files, so it cannot be run.",
    413: "The body, its texts together or the answer are larger than the settings allow.",
    415: "The body is not declared as `application/json`.",
    503: "The database or the live worker does not answer; the sentence says what to do.",
    "default": "Any other error.",
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "model": InferenceError}
    for status, meaning in _MEANING.items()
}
"""OpenAPI responses of these routes."""
DOCUMENTED[503]["headers"] = {"Retry-After": RETRY_AFTER}
READ_ONLY: dict[int | str, dict[str, Any]] = {
    status: DOCUMENTED[status] for status in (400, 401, 404, 503, "default")
}
"""Of those without a body."""


def error_of(problem: Mapping[str, Any]) -> str:
    """The sentence for a problem."""
    told = problem.get
    if problem["status"] == 401 and "X-SECRET-KEY" in problem["detail"]:
        return "Invalid or missing X-SECRET-KEY header"
    if told("lacks") == "chat template":
        return NO_TEMPLATE
    if "n_tokens" in problem:
        return (
            f"Sort by token index {told('at')} is out of range for the given prompt, which only has "
            f"{told('n_tokens')} tokens."
        )
    if "tokens" in problem and "limit" in problem:
        return f"Text too long: {told('tokens')} tokens, max is {told('limit')}"
    if "prompt_tokens" in problem:
        return _no_room(problem["prompt_tokens"], problem["limit"])
    return sentences(problem)


def _no_room(tokens: int, limit: int) -> str:
    if tokens > limit:
        return f"Text too long: {tokens} tokens, max is {limit}"
    return (
        f"No room to generate: the prompt is {tokens} tokens and the per-request budget (prompt + "
        f"completion) is {limit}. Shorten the prompt or start a new conversation."
    )


def body_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an error, and of an event that says one."""
    return {"error": error_of(problem)}


SURFACE = surface(lambda path: path.startswith(f"{PREFIX}/"), body_of)
