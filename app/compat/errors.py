"""Errors as the clients of other services know them: JSON of a shape of its own, and 400 where we say 422."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from app.api.translate import Answer, Surface


def surface(
    claims: Callable[[str], bool], error: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Surface:
    """Another service's routes, by their paths; `error` is the body that its clients know."""

    def answer(problem: Mapping[str, Any]) -> Answer:
        status = 400 if problem["status"] == 422 else problem["status"]
        return Answer(status, {"Content-Type": "application/json"}, orjson.dumps(error(problem)))

    return Surface(lambda scope: claims(scope["path"]), answer)


def sentences(problem: Mapping[str, Any]) -> str:
    """All that is wrong with a request, in the order in which it was found."""
    errors = problem.get("errors") or []
    message = " ".join(map(_sentence, errors)) if len(errors) > 1 else problem["detail"]
    return message.removeprefix("body.")


def _sentence(error: Mapping[str, str]) -> str:
    allowed = f"; allowed: {error['allowed']}" if error.get("allowed") else ""
    return f"{error['where'].removeprefix('body.')}: {error['what']}{allowed}."
