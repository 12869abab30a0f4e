"""The concepts that storyworld's text is made of, and which of them a word shows by itself.

A *token* concept is decided by the word: `LEXICON` maps a word to its token concepts. A
*contextual* concept is a region of a document, decided by what came before; `carriers` narrows
it to words that occur alike without the concept, so that the word itself says nothing.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from worker.demo import french_words, words

Kind = Literal["token", "contextual"]


class Concept(NamedTuple):
    """One thing that is true of some tokens and not of others."""

    name: str
    kind: Kind
    description: str
    carriers: frozenset[str] | None = None
    """The words within a region that carry the concept; None means all of them."""


def _contextual(kind: str, described: dict[str, str]) -> list[Concept]:
    return [Concept(f"{kind}.{name}", "contextual", text) for name, text in described.items()]


def _neutral(kind: str, names: Iterable[str], sentence: str) -> list[Concept]:
    return [
        Concept(f"{kind}.{name}", "contextual", sentence.format(name=name), words.FUNCTION_WORDS)
        for name in names
    ]


_TOKEN_WORDS: dict[str, tuple[str, Iterable[str]]] = {
    "colour": ("A colour.", words.COLOURS),
    "number_word": ("A number written as a word.", words.NUMBERS),
    "digit": ("A digit.", "0123456789"),
    "first_name": ("A person's first name.", words.GIRLS + words.BOYS),
    "weekday": ("A day of the week.", words.DAYS),
    "month": ("A month.", words.MONTHS),
    "place_name": ("A town or a country.", [*words.COUNTRY_OF, *words.COUNTRY_OF.values()]),
    "animal": ("An animal.", [w for t in words.TOPICS.values() for w in t.animals]),
    "job": ("A person's job or rank.", [w for t in words.TOPICS.values() for w in t.jobs]),
    "food": ("Something to eat or to cook with.", words.FOODS),
    "feeling": (
        "The name of an emotion.",
        [w for m in words.MOODS.values() for w in m.feelings],
    ),
    "emotion_act": (
        "A verb by which an emotion shows, such as laughed or trembled.",
        [w for m in words.MOODS.values() for w in m.acts],
    ),
    "speech_verb": ("A verb of speaking, such as said.", words.SPEECH_VERBS),
    "pronoun": ("A personal pronoun.", words.PRONOUNS),
    "weather": ("Weather.", words.WEATHER),
    "french_word": ("A word that only French has.", french_words.FRENCH_ONLY),
    "code_keyword": ("A keyword or built-in name of Python.", words.CODE_WORDS),
}
# These are ordinary English words too; a keyword is one only by its context.
_PLAIN_ENGLISH = {"for", "in", "if", "else", "while", "not"}

TOKEN_CONCEPTS = [Concept(name, "token", text) for name, (text, _) in _TOKEN_WORDS.items()]

CONTEXTUAL_CONCEPTS = [
    *_neutral("topic", words.TOPICS, "A neutral word in a text of the {name} world."),
    *_neutral("mood", words.MOODS, "A neutral word while the one it is about feels {name}."),
    *_neutral(
        "genre", ("news", "recipe", "letter"), "A neutral word in a text of the genre {name}."
    ),
    Concept(
        "language.french",
        "contextual",
        "A word, name, digit or mark that English has too, in a French sentence.",
        french_words.SHARED,
    ),
    *_contextual(
        "scope",
        {
            "quotation": "Inside a quotation.",
            "question": "Inside a question, after the word that opens it.",
            "negation": "What a not denies.",
            "condition": "The clause after if.",
            "list": "Inside an enumeration.",
        },
    ),
    *_contextual(
        "role",
        {
            "protagonist": "The name of the one that the story is about.",
            "friend": "The name of the protagonist's companion.",
            "owner": "The name of the one to whom the thing in question belongs.",
            "receiver": "The name of the one who is given or written something.",
            "speaker": "The name of the one whose words stand beside it.",
        },
    ),
    *_contextual(
        "number",
        {
            "price": "A digit of a price.",
            "age": "A digit of somebody's age.",
            "minutes": "A digit of a time in minutes.",
            "tens": "The digit that counts the tens, in a sum.",
            "result": "A digit of the result of a sum.",
        },
    ),
    *_contextual(
        "code",
        {
            "arguments": "Inside the parentheses of a call or a definition.",
            "body": "Inside the body of a function.",
        },
    ),
]

CONCEPTS = [*TOKEN_CONCEPTS, *CONTEXTUAL_CONCEPTS]
"""All the concepts; the column order of every membership matrix."""

BY_NAME = {concept.name: concept for concept in CONCEPTS}
COLUMN_OF = {concept.name: column for column, concept in enumerate(CONCEPTS)}


def plural(noun: str) -> str:
    """The English plural of a noun of this vocabulary."""
    irregular = {"sheep": "sheep", "goose": "geese", "wolf": "wolves", "octopus": "octopuses"}
    irregular |= {"leaf": "leaves", "goldfish": "goldfish", "fisherman": "fishermen"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    if noun.endswith(("s", "x", "ch", "sh")) or noun in ("potato", "tomato"):
        return noun + "es"
    return noun + "s"


def _lexicon() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, (_, vocabulary) in _TOKEN_WORDS.items():
        forms = set(vocabulary) - (_PLAIN_ENGLISH if name == "code_keyword" else set())
        if name in ("animal", "job", "food"):
            forms |= {plural(word) for word in forms}
        if name != "code_keyword":
            forms |= {word.capitalize() for word in forms}
        for word in sorted(forms):
            found.setdefault(word, []).append(name)
    return {word: tuple(names) for word, names in found.items()}


LEXICON = _lexicon()
"""The token concepts of each word that has any."""
