"""The little French of storyworld: nouns, verbs and adjectives with their English."""

from typing import NamedTuple

from worker.demo.words import BOYS, COUNTRY_OF, GIRLS


class Noun(NamedTuple):
    """A French noun, its gender and its English."""

    french: str
    feminine: bool
    english: str


class Adjective(NamedTuple):
    """Both singular forms; `before` tells whether it stands before its noun."""

    masculine: str
    feminine: str
    english: str
    before: bool


NOUNS = (
    Noun("chat", False, "cat"),
    Noun("chien", False, "dog"),
    Noun("cheval", False, "horse"),
    Noun("oiseau", False, "bird"),
    Noun("garçon", False, "boy"),
    Noun("livre", False, "book"),
    Noun("jardin", False, "garden"),
    Noun("village", False, "village"),
    Noun("train", False, "train"),
    Noun("animal", False, "animal"),
    Noun("fromage", False, "cheese"),
    Noun("gâteau", False, "cake"),
    Noun("maison", True, "house"),
    Noun("fille", True, "girl"),
    Noun("mer", True, "sea"),
    Noun("pomme", True, "apple"),
    Noun("fleur", True, "flower"),
    Noun("table", True, "table"),
    Noun("orange", True, "orange"),
    Noun("école", True, "school"),
    Noun("rose", True, "rose"),
    Noun("voiture", True, "car"),
)
VERBS = {
    "voit": "sees",
    "aime": "loves",
    "cherche": "looks for",
    "trouve": "finds",
    "regarde": "watches",
    "dessine": "draws",
    "veut": "wants",
    "porte": "carries",
}
ADJECTIVES = (
    Adjective("petit", "petite", "small", True),
    Adjective("grand", "grande", "big", True),
    Adjective("vieux", "vieille", "old", True),
    Adjective("noir", "noire", "black", False),
    Adjective("blanc", "blanche", "white", False),
    Adjective("vert", "verte", "green", False),
    Adjective("rouge", "rouge", "red", False),
    Adjective("rapide", "rapide", "fast", False),
)
COUNTED = {"pommes": "apples", "fleurs": "flowers", "livres": "books", "oranges": "oranges"}
COGNATES = frozenset(["village", "train", "animal", "table", "orange", "oranges", "rose", "a"])

SHARED = frozenset("0123456789.,:?!'") | COGNATES | {*GIRLS, *BOYS, *COUNTRY_OF}
"""What a French sentence shares with an English one, letter for letter."""

_GRAMMAR = (
    "le la l un une il elle est et ans dans de du au à ne pas qui avec sous mange habite grande "
    "où oui non mais aussi très joue jour dit son sa minutes"
)
FRENCH_ONLY = tuple(
    sorted(
        {noun.french for noun in NOUNS}.union(VERBS, COUNTED, _GRAMMAR.split()).union(
            *((a.masculine, a.feminine) for a in ADJECTIVES)
        )
        - COGNATES
        - {"de", "minutes", "son", "grand"}
    )
)
