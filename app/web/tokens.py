"""Examples → strips of shaded tokens.

A strip is a line around the peak, so that peaks stand below each other: what is before, and what follows.
Neighbouring tokens on which a feature is silent are one piece of plain text.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

LEVELS = 20
"""Steps of shading, even to the eye (see `.a1` to `.a20` in app.css)."""
_BLANK = {"\n": "↵", "\r": "␍", "\t": "⇥"}
_UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")
"""Unicode categories of characters that show nothing, or that turn the text around them."""


class Piece(NamedTuple):
    """One token, or a run of silent ones."""

    text: str
    level: int
    """0 to `LEVELS`; 0 is silent."""
    value: float
    is_peak: bool = False


@dataclass(frozen=True)
class Strip:
    """An example, split at its peak."""

    before: list[Piece]
    after: list[Piece]
    """The peak first."""
    max: float
    sequence: int
    offset: int


def strip(example: dict[str, Any], largest: float) -> Strip:
    """From an example as `/v1` answers it; `largest` is shaded darkest."""
    peak = example["peak"]
    pieces = list(pieces_of(example["tokens"], example["values"], largest, peak))
    at = next(place for place, piece in enumerate(pieces) if piece.is_peak)
    return Strip(
        pieces[:at], pieces[at:], float(example["max"]), example["sequence"], example["offset"]
    )


def pieces_of(
    tokens: Iterable[str], values: Iterable[float], largest: float, peak: int | None = None
) -> Iterator[Piece]:
    """Tokens with their shades."""
    silent = ""
    for place, (token, value) in enumerate(zip(tokens, values, strict=True)):
        shade = level(value, largest)
        if not shade and place != peak:
            silent += visible(token)
            continue
        if silent:
            yield Piece(silent, 0, 0.0)
            silent = ""
        yield Piece(visible(token), shade, float(value), place == peak)
    if silent:
        yield Piece(silent, 0, 0.0)


def level(value: float, largest: float) -> int:
    """0 to `LEVELS`; what fires at all is at least 1."""
    if value <= 0 or largest <= 0:
        return 0
    return min(LEVELS, max(1, math.ceil(LEVELS * float(value) / largest)))


def visible(token: str) -> str:
    """A token as it is shown: with signs for white space that would not be seen, and for characters
    that show nothing or turn what is around them."""
    if token.isprintable() and token.strip(" "):
        return token
    if token and not token.strip(" "):
        return "␣" * len(token)
    return "".join(map(_shown, token))


def quoted(label: str) -> list[tuple[str, bool]]:
    """Pieces of a label as they are shown, and whether each is a token: those stand between backticks."""
    pieces = visible(label).split("`")
    if len(pieces) % 2 == 0:
        return [(visible(label), False)]
    return [(piece, bool(place % 2)) for place, piece in enumerate(pieces) if piece]


def _shown(character: str) -> str:
    if character in _BLANK:
        return _BLANK[character]
    if unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 32 else f"‹{code:04X}›"
