"""Text that is asked about: one, or a few at once."""

from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, WithJsonSchema

from app.api.limits import check_text
from app.settings import Settings

MOST_TEXTS = 4
"""Texts of one request, as Neuronpedia takes them."""
_ALLOWED = f"give a text, or a list of 1 to {MOST_TEXTS} texts; none empty"


class Given(NamedTuple):
    """The texts, and whether they came as a list: then the answer is one too."""

    texts: list[str]
    as_list: bool


def _given(value: object) -> Given:
    as_list = isinstance(value, list)
    texts: list[Any] = value if isinstance(value, list) else [value]
    if not 1 <= len(texts) <= MOST_TEXTS or not all(isinstance(one, str) and one for one in texts):
        raise ValueError(_ALLOWED)
    return Given(texts, as_list)


def check_texts(settings: Settings, where: str, given: Given) -> None:
    """Refuse texts that are too long to be looked at."""
    for place, text in enumerate(given.texts):
        check_text(settings, f"body.{where}.{place}" if given.as_list else f"body.{where}", text)


_TEXT = {"type": "string", "minLength": 1}
_SEVERAL = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MOST_TEXTS}
# Checked above in one sentence: of a union, pydantic would tell what is wrong for every member.
Texts = Annotated[Any, BeforeValidator(_given), WithJsonSchema({"anyOf": [_TEXT, _SEVERAL]})]
