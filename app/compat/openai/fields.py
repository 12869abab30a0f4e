"""Fields that take several forms, checked here in one sentence each: of a union, pydantic would tell
what is wrong for every member."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from app.contract.body import whole

MOST_STOPS = 4
MOST_CHARS = 256
"""Of a stop string."""
MOST_IDS = 2**17
"""Of a prompt, and prompts of a list: more are no context that a model has."""

PROMPT_FORMS = (
    "a string, a list of strings, a list of token ids, or a list of such lists; none empty"
)


def _checked_prompt(value: object) -> object:
    if isinstance(value, list) and len(value) <= MOST_IDS:
        value = [list(map(whole, one)) if isinstance(one, list) else whole(one) for one in value]
    if isinstance(value, str) or (
        isinstance(value, list)
        and 0 < len(value) <= MOST_IDS
        and (_all_strings(value) or _all_ids(value) or all(map(_all_ids, value)))
    ):
        return value
    raise ValueError(f"give {PROMPT_FORMS}")


def _all_strings(value: list[Any]) -> bool:
    return all(isinstance(one, str) for one in value)


def _all_ids(value: object) -> bool:
    ids = value if isinstance(value, list) else []
    return 0 < len(ids) <= MOST_IDS and all(type(one) is int and 0 <= one < 2**31 for one in ids)


def _checked_stop(value: object) -> list[str]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not _all_strings(stops):
        raise ValueError(f"give a string or a list of at most {MOST_STOPS} strings")
    if not all(0 < len(one) <= MOST_CHARS for one in stops):
        raise ValueError(f"a stop string has 1 to {MOST_CHARS} characters")
    return stops


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _joined(value: object) -> object:
    """The text of a list of parts."""
    if not isinstance(value, list):
        return value
    parts = [one if isinstance(one, dict) else {} for one in value]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    if len(texts) < len(value) or not _all_strings(texts):
        raise ValueError('only parts {"type": "text", "text": ...} are read here')
    return "".join(map(str, texts))


_SOME: dict[str, Any] = {"type": "array", "minItems": 1, "maxItems": MOST_IDS}
_IDS = {**_SOME, "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}}
# Checked above in all its forms: pydantic would look at every id of a long list once for each form.
Prompt = Annotated[
    Any,
    BeforeValidator(_checked_prompt),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {**_SOME, "items": {"type": "string"}},
                _IDS,
                {**_SOME, "items": _IDS},
            ]
        }
    ),
]
_OneStop = Annotated[str, Field(min_length=1, max_length=MOST_CHARS)]
_Stops = Annotated[list[_OneStop], Field(max_length=MOST_STOPS)]
Stop = Annotated[
    list[str], BeforeValidator(_checked_stop, json_schema_input_type=_OneStop | _Stops | None)
]
Content = Annotated[str, BeforeValidator(_joined, json_schema_input_type=str | list[TextPart])]
