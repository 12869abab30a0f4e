"""Fields of OpenAI's that are not served.

What would change the answer is refused unless its value asks for nothing; what would not is taken
and left alone. A field that OpenAI does not have is refused too: it is a misspelling, or it asks
for something that nobody here would do.
"""

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest

IGNORED = frozenset(
    {
        "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "parallel_tool_calls",
    }
)  # fmt: skip
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Fields that change the answer, and the values with which they do not."""


def refuse_unserved(extra: Mapping[str, Any], known: Mapping[str, object]) -> None:
    """Raise `BadRequest` for the first of a request's other fields that cannot be served.

    `known` are the fields that can. null asks for nothing.
    """
    for name, value in extra.items():
        if name in IGNORED or value is None or _is_neutral(name, value):
            continue
        if name in NEUTRAL:
            raise BadRequest(f"`{name}` is not served here; {_allowed(name)}.",
                             param=name, code="unsupported_parameter")  # fmt: skip
        raise BadRequest(
            f"There is no field `{name}`; these are served: {', '.join(sorted(known))}.",
            param=name,
            code="unknown_parameter",
        )


def _is_neutral(name: str, value: object) -> bool:
    # Not 0 for false, nor true for 1.
    return any(type(value) is type(one) and value == one for one in NEUTRAL.get(name, ()))


def describe_unserved(schema: dict[str, Any]) -> None:
    """Add these fields to the JSON schema of what is asked, and say that there are no others."""
    for name in sorted(IGNORED):
        schema["properties"][name] = {"description": "Taken and left alone."}
    for name, values in NEUTRAL.items():
        nothing = [*({"const": value} for value in values), {"type": "null"}]
        schema["properties"][name] = {
            **({"anyOf": nothing} if values else nothing[0]),
            "description": "Not served; taken where it asks for nothing.",
        }
    schema["additionalProperties"] = False


def _allowed(name: str) -> str:
    values = " or ".join(repr(value) for value in NEUTRAL[name])
    return f"leave it out, or give {values}" if values else "leave it out"
