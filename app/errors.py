"""Errors that know their HTTP status and say one sentence: what was wrong, what is allowed."""

from typing import Any, ClassVar


class Problem(Exception):
    """An error to show to the caller, rendered as RFC 9457 `application/problem+json`.

    `detail` is the sentence; `fields` become members of the problem object.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    slug: ClassVar[str] = "internal"

    def __init__(self, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields

    def body(self) -> dict[str, Any]:
        """The problem object."""
        return {
            "type": f"urn:saescope:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.fields,
        }


class BadRequest(Problem):
    status, title, slug = 400, "Bad request", "bad-request"


class Unauthorized(Problem):
    status, title, slug = 401, "Unauthorized", "unauthorized"


class Forbidden(Problem):
    status, title, slug = 403, "Forbidden", "forbidden"


class NotFound(Problem):
    status, title, slug = 404, "Not found", "not-found"


class TooSlow(Problem):
    status, title, slug = 408, "Request timeout", "too-slow"


class Conflict(Problem):
    status, title, slug = 409, "Conflict", "conflict"


class Gone(Problem):
    status, title, slug = 410, "Gone", "gone"


class TooLarge(Problem):
    status, title, slug = 413, "Too large", "too-large"


class Unsupported(Problem):
    status, title, slug = 415, "Unsupported media type", "unsupported-media-type"


class Invalid(Problem):
    status, title, slug = 422, "Cannot be processed", "invalid"


class TooMany(Problem):
    """`retry_after` is in whole seconds."""

    status, title, slug = 429, "Too many requests", "too-many"

    def __init__(self, detail: str, retry_after: int, **fields: Any) -> None:
        super().__init__(detail, retry_after=retry_after, **fields)


class Unavailable(Problem):
    status, title, slug = 503, "Not available now", "unavailable"


PROBLEMS: dict[str, type[Problem]] = {
    cls.slug: cls
    for cls in (
        Problem,
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        TooSlow,
        Conflict,
        Gone,
        TooLarge,
        Unsupported,
        Invalid,
        TooMany,
        Unavailable,
    )
}


def from_body(body: dict[str, Any]) -> Problem:
    """The problem that `Problem.body` made, on the other side of a process border."""
    slug = str(body.get("type", "")).rpartition(":")[2]
    extra = {k: v for k, v in body.items() if k not in ("type", "title", "status", "detail")}
    return PROBLEMS.get(slug, Problem)(str(body.get("detail", "")), **extra)
