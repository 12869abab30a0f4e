"""Writes one document from templates and remembers which concepts hold where.

A template is text with
    {name}    a value: a string, or a tuple from which one is drawn at every use;
    {Name}    the same, with a capital;   {a name} with its article;   {name+s} in the plural;
    <x>..</x> a region of the contextual concept x; quotation marks open and close
              `scope.quotation` by themselves.
A value may be a template itself. `labels` gives the concepts of a value wherever it is written.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import NamedTuple

from worker.demo.concepts import BY_NAME, LEXICON, plural

_MARK = re.compile(r'\{(a )?(\w+)(\+s)?\}|<(/?)([a-z.]+)>|(")')
_AN = re.compile("(?!uni)[aeiou]")
WORD = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


class Span(NamedTuple):
    """Characters start to end (exclusive) of a text, and the concepts that hold of them."""

    start: int
    end: int
    concepts: tuple[str, ...]


class Region(NamedTuple):
    """Characters start to end (exclusive) over which one contextual concept is in force."""

    start: int
    end: int
    concept: str


@dataclass(frozen=True)
class Document:
    """A text, the genre it was written in, and the regions of its contextual concepts."""

    text: str
    genre: str
    regions: tuple[Region, ...]

    @property
    def spans(self) -> list[Span]:
        """The words that have concepts, in the order of the text."""
        found = []
        for match in WORD.finditer(self.text):
            start, word = match.start(), match.group()
            concepts = list(LEXICON.get(word, ()))
            for region_start, region_end, name in self.regions:
                if region_start <= start < region_end and name not in concepts:
                    carriers = BY_NAME[name].carriers
                    if carriers is None or word in carriers:
                        concepts.append(name)
            if concepts:
                found.append(Span(start, match.end(), tuple(concepts)))
        return found


class _Text(NamedTuple):
    text: str


class _Slot(NamedTuple):
    name: str
    article: bool
    plural: bool
    capital: bool


class _Border(NamedTuple):
    concept: str
    closes: bool


_Piece = _Text | _Slot | _Border


@lru_cache(maxsize=4096)
def _parse(template: str) -> tuple[_Piece, ...]:
    """The pieces of a template, in order."""
    pieces: list[_Piece] = []
    position, quoted = 0, False
    for match in _MARK.finditer(template):
        pieces.append(_Text(template[position : match.start()]))
        article, name, many, slash, concept, quote = match.groups()
        if quote:
            # The marks themselves stand outside of the quotation.
            border = _Border("scope.quotation", quoted)
            pieces += [border, _Text(quote)] if quoted else [_Text(quote), border]
            quoted = not quoted
        elif name:
            key = name[0].lower() + name[1:]
            pieces.append(_Slot(key, bool(article), bool(many), name[0].isupper()))
        else:
            pieces.append(_Border(concept, bool(slash)))
        position = match.end()
    pieces.append(_Text(template[position:]))
    return tuple(piece for piece in pieces if piece != _Text(""))


@dataclass
class Scribe:
    """The document in the making."""

    rng: Random
    values: dict[str, str | tuple[str, ...]]
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _parts: list[str] = field(default_factory=list)
    _length: int = 0
    _open: dict[str, list[int]] = field(default_factory=dict)
    _regions: list[Region] = field(default_factory=list)

    def write(self, template: str) -> None:
        """Append a template's text, its slots filled."""
        for piece in _parse(template):
            if isinstance(piece, _Text):
                self._append(piece.text)
            elif isinstance(piece, _Slot):
                self._fill(piece)
            elif piece.closes:
                self.close(piece.concept)
            else:
                self.open(piece.concept)

    def draw(self, templates: Sequence[str]) -> None:
        """Append one of the templates."""
        self.write(templates[int(self.rng.random() * len(templates))])

    def open(self, concept: str) -> None:
        """Let a contextual concept hold from here on."""
        self._open.setdefault(concept, []).append(self._length)

    def close(self, concept: str) -> None:
        """End what `open` began last."""
        self._regions.append(Region(self._open[concept].pop(), self._length, concept))

    def finish(self, genre: str) -> Document:
        """The document, all its regions closed at its end."""
        for concept, starts in self._open.items():
            for _ in tuple(starts):
                self.close(concept)
        return Document("".join(self._parts), genre, tuple(self._regions))

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _fill(self, slot: _Slot) -> None:
        value = self.values[slot.name]
        if not isinstance(value, str):
            value = value[int(self.rng.random() * len(value))]
        if slot.plural:
            value = plural(value)
        if slot.article:
            self._append("an " if _AN.match(value) else "a ")
        if slot.capital:
            value = value[0].upper() + value[1:]
        start = self._length
        if "{" in value or "<" in value:
            self.write(value)
        else:
            self._append(value)
        for concept in self.labels.get(slot.name, ()):
            self._regions.append(Region(start, self._length, concept))
