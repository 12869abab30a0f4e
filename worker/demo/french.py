"""English and French in turn: a sentence, its translation, a few lines about somebody."""

from random import Random
from typing import NamedTuple

from worker.demo import words
from worker.demo.cast import person, pick
from worker.demo.french_words import ADJECTIVES, COUNTED, NOUNS, VERBS
from worker.demo.scribe import Document, Scribe

_FRENCH = "<language.french>{}</language.french>"


class _Pair(NamedTuple):
    english: str
    french: str


def _noun_phrase(rng: Random) -> _Pair:
    noun = rng.choice(NOUNS)
    if rng.random() < 0.5:
        article = "la " if noun.feminine else "le "
        article = "l'" if noun.french[0] in "aoé" else article
        return _Pair(f"the {noun.english}", article + noun.french)
    adjective = rng.choice(ADJECTIVES)
    form = adjective.feminine if noun.feminine else adjective.masculine
    form = "vieil" if form == "vieux" and noun.french[0] in "aoé" else form
    article = "la" if noun.feminine else "le"
    if adjective.before:
        french = f"{article} {form} {noun.french}"
    else:
        french = f"{'l' + chr(39) if noun.french[0] in 'aoé' else article + ' '}{noun.french}"
        french += f" {form}"
    return _Pair(f"the {adjective.english} {noun.english}", french)


def _sentence(rng: Random) -> _Pair:
    name = person(rng)[0]
    if rng.random() < 0.3:
        count, thing = rng.randrange(2, 90), rng.choice(tuple(COUNTED))
        return _Pair(f"{name} has {count} {COUNTED[thing]}.", f"{name} a {count} {thing}.")
    subject = _Pair(name, name) if rng.random() < 0.5 else _noun_phrase(rng)
    verb, thing = pick(rng, tuple(VERBS)), _noun_phrase(rng)
    english = f"{subject.english} {VERBS[verb]} {thing.english}."
    french = f"{subject.french} {verb} {thing.french}."
    return _Pair(english[0].upper() + english[1:], french[0].upper() + french[1:])


def _portrait(rng: Random) -> _Pair:
    (name, pronouns), town = person(rng), pick(rng, tuple(words.COUNTRY_OF))
    he = "Elle" if pronouns["he"] == "she" else "Il"
    age, phrase = rng.randrange(5, 60), _noun_phrase(rng)
    return _Pair(
        f"{name} lives in {town}. {pronouns['he'].capitalize()} is "
        f"<number.age>{age}</number.age> years old and loves {phrase.english}.",
        f"{name} habite à {town}. {he} a <number.age>{age}</number.age> ans et aime "
        f"{phrase.french}.",
    )


def french(rng: Random) -> Document:
    """A French lesson: two to four pairs of a sentence and its translation."""
    scribe = Scribe(rng, {})
    scribe.write("French lesson.")
    for _ in range(rng.randrange(3, 5)):
        pair = _portrait(rng) if rng.random() < 0.3 else _sentence(rng)
        scribe.write(f" English: {pair.english} French: " + _FRENCH.format(pair.french))
    scribe.write(" " + _FRENCH.format(_sentence(rng).french))
    return scribe.finish("french")
