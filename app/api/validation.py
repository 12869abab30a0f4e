"""What pydantic found wrong with a request, in the words of the API: where, what, allowed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from app.errors import Invalid

_ALLOWED = (
    ("ge", "at least {}"),
    ("gt", "more than {}"),
    ("le", "at most {}"),
    ("lt", "less than {}"),
    ("min_length", "a length of at least {}"),
    ("max_length", "a length of at most {}"),
    ("pattern", "text that matches {}"),
    ("expected_tags", "{}"),
    ("expected", "{}"),
)
MOST_TOLD = 20
"""Errors of a request that are told; the others are counted."""
_SHOWN = 60
"""Characters of a refused value that are repeated to the caller."""


def explain(errors: Sequence[dict[str, Any]], annotations: Mapping[str, object]) -> Invalid:
    """The problem for pydantic's `errors`. `annotations` by part of the request (`body`, `query`)
    are where the names of known fields come from."""
    found = [_explain(error, annotations) for error in errors[:MOST_TOLD]]
    first = found[0]
    sentence = f"{first['where']}: {first['what']}"
    if first.get("allowed"):
        sentence += f"; allowed: {first['allowed']}"
    if len(errors) > 1:
        sentence += f" (and {len(errors) - 1} more, see `errors`)"
    return Invalid(sentence + ".", errors=found)


def _explain(error: dict[str, Any], annotations: Mapping[str, object]) -> dict[str, str]:
    location = error["loc"]
    where = ".".join(map(str, location))
    told = {"where": where, "what": _what(error)}
    if error["type"] == "extra_forbidden":
        told["allowed"] = ", ".join(_fields_at(annotations.get(location[0]), location[1:-1]))
        return told
    context = error.get("ctx", {})
    for key, words in _ALLOWED:
        if key in context:
            told["allowed"] = words.format(context[key])
            break
    return told


def _what(error: dict[str, Any]) -> str:
    kind, message = error["type"], error["msg"]
    if kind == "missing":
        return "a value is required"
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    # What the parser tried is of no use to the caller.
    message = message[:1].lower() + message[1:].partition(", unable to parse")[0]
    value = error.get("input")
    if isinstance(value, str | int | float | bool):
        shown = repr(value)
        message += f", not {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"
    return message


def _fields_at(annotation: object, path: Sequence[str | int]) -> list[str]:
    """Names of the fields that pydantic knows at a location. Members of a union appear in it by
    their tag or their class name."""
    models = _models_in(annotation)
    for part in path:
        chosen = [model for model in models if part == model.__name__ or _has_tag(model, part)]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if chosen:
            models = chosen
        elif fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        arguments = arguments[:1]
    return [model for argument in arguments for model in _models_in(argument)]


def _has_tag(model: type[BaseModel], part: str | int) -> bool:
    return any(
        get_origin(field.annotation) is Literal and part in get_args(field.annotation)
        for field in model.model_fields.values()
    )
