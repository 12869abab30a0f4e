"""POST /render: a conversation in the form of the model's chat template.

Where a token stands is found in the text. A message's part ends where the conversation up to it
stops being the beginning of the whole one. What is of the message itself is what the part has more
than with an empty content: between the longest common beginning of the two and the longest common end.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from app.contract.reading import RenderRequest
from app.errors import Invalid
from worker.live.desk import Desk
from worker.live.prepare import check_ids
from worker.live.render import display
from worker.live.resident import Resident
from worker.live.template import rendered
from worker.models import LanguageModel


@dataclass(frozen=True)
class _Part:
    """What a message is in the text, as places of characters: it begins where the one before ends."""

    content: int
    """Where its content begins,"""
    footer: int
    """where that ends,"""
    end: int
    """and where all of it ends."""


async def conversation(desk: Desk, request: RenderRequest) -> bytes:
    """JSON of a `RenderAnswer`."""
    if not request.messages:
        raise Invalid("messages is empty; give at least one.")
    held = await desk.hold(request.model, [])
    resident = held.resident
    text = await desk.aside(partial(_rendered, request, resident.model, len(request.messages)))
    if len(text) > desk.settings.max_text_chars:
        raise Invalid(
            f"The conversation has {len(text):,} characters in the form of the chat template; at most "
            f"{desk.settings.max_text_chars:,} (SAESCOPE_MAX_TEXT_CHARS) are read."
        )
    parts = None
    if request.places:
        parts = await desk.aside(partial(_parts, request, resident.model, text))
    return await desk.at_desk(partial(_answer, resident, text, parts))


def _rendered(request: RenderRequest, model: LanguageModel, count: int, empty: bool = False) -> str:
    """The first messages; with `empty` the last of them without its content."""
    messages = [one.model_dump(exclude_none=True) for one in request.messages[:count]]
    if empty:
        messages[-1]["content"] = ""
    whole = count == len(request.messages) and not empty
    return rendered(messages, model, request.generate and whole, request.options)


def _parts(request: RenderRequest, model: LanguageModel, text: str) -> list[_Part]:
    parts: list[_Part] = []
    begin = 0
    for count, message in enumerate(request.messages, 1):
        end = max(begin, _common(text, _closed(request, model, count)))
        wrapper = _closed(request, model, count, empty=True)[begin:]
        parts.append(_split(text[begin:end], wrapper, message.content, begin))
        begin = end
    return parts


def _closed(request: RenderRequest, model: LanguageModel, count: int, empty: bool = False) -> str:
    """The first messages, without what introduces an answer."""
    closed = request.model_copy(update={"generate": False})
    try:
        return _rendered(closed, model, count, empty)
    except Invalid:  # some templates want whole turns, or no empty ones
        return ""


def _split(block: str, wrapper: str, content: str, begin: int) -> _Part:
    """Where the content is in a message's block; `wrapper` is the block of the same without."""
    head = _common(block, wrapper)
    tail = min(_common(block[::-1], wrapper[::-1]), len(block), len(wrapper))
    places = range(max(0, len(wrapper) - tail), head + 1)
    own = content.strip()
    found = next((at for at in places if own and block.startswith(own, at)), None)
    at = head if found is None else found
    footer = max(at, len(block) - max(0, len(wrapper) - at))
    return _Part(begin + at, begin + footer, begin + len(block))


def _common(one: str, other: str) -> int:
    """Characters that two texts have in common at their beginning."""
    shortest = min(len(one), len(other))
    return bisect_left(range(1, shortest + 1), True, key=lambda n: one[:n] != other[:n])


def _answer(resident: Resident, text: str, parts: list[_Part] | None) -> bytes:
    model = resident.model
    encoded = model.tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    ids: list[int] = encoded["input_ids"]
    check_ids("The conversation", ids, model)
    told: dict[str, Any] = {"text": text, "ids": ids, "tokens": display(ids, resident.vocabulary)}
    if parts is not None:
        told["places"] = list(_places(encoded["offset_mapping"], parts))
    return orjson.dumps(told)


def _places(spans: list[tuple[int, int]], parts: list[_Part]) -> Iterator[dict[str, Any]]:
    """Per token. One that reaches into the next message is of that one."""
    message = 0
    for begin, end in spans:
        while message < len(parts) and end > parts[message].end:
            message += 1
        if message == len(parts):
            yield {"message": None, "section": "header"}
        else:
            yield {"message": message, "section": _section(parts[message], begin, end)}


def _section(part: _Part, begin: int, end: int) -> str:
    if end <= part.content:
        return "header"
    return "footer" if begin >= part.footer else "content"
