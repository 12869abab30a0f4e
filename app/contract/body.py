"""What callers send as JSON."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class JsonBody(BaseModel):
    """A JSON object in a request. Nothing in it is taken for what it is not: no `true` for a number, no
    text for one. But 5.0 is the integer 5, as JSON Schema has it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        return {name: whole(value) for name, value in given.items()}


def whole(value: Any) -> Any:
    """An integer that was written as 5.0 as that integer, anything else as it is."""
    return int(value) if type(value) is float and value.is_integer() else value
