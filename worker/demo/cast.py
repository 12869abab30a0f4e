"""Who and what a text is about: a hero, a friend, a topic, and the values of their slots."""

from random import Random
from typing import NamedTuple

from worker.demo import words
from worker.demo.scribe import Scribe

_SHE = {"he": "she", "him": "her", "his": "her"}
_HE = {"he": "he", "him": "him", "his": "his"}
_I = {"he": "I", "him": "me", "his": "my"}
_SHARED = {
    "colour": words.COLOURS,
    "number": words.NUMBERS[2:],
    "day": words.DAYS,
    "month": words.MONTHS,
    "town": tuple(words.COUNTRY_OF),
    "food": words.COUNTED_FOODS,
    "weather": words.WEATHER,
}
_TOPIC_VALUES: dict[str, dict[str, str | tuple[str, ...]]] = {
    name: {
        **_SHARED,
        "any_place": topic.places,
        "any_thing": topic.things,
        "any_animal": topic.animals,
        "job": topic.jobs,
        "verb": topic.verbs,
        "adj": topic.adjectives,
        "sky": topic.sky,
        "event": topic.events,
    }
    for name, topic in words.TOPICS.items()
}


class Cast(NamedTuple):
    """What is fixed for one text before its first sentence."""

    topic: str
    mood: str
    next_mood: str


def pick(rng: Random, choices: tuple[str, ...]) -> str:
    """One of the choices."""
    return choices[int(rng.random() * len(choices))]


def person(rng: Random) -> tuple[str, dict[str, str]]:
    """A first name and its pronouns."""
    if rng.random() < 0.5:
        return pick(rng, words.GIRLS), _SHE
    return pick(rng, words.BOYS), _HE


def begin(rng: Random, first_person: bool = False) -> tuple[Cast, Scribe]:
    """Draw a cast, and hand out a scribe that knows it by its slots."""
    topic_name = pick(rng, tuple(words.TOPICS))
    mood, next_mood = rng.sample(tuple(words.MOODS), 2)
    topic = words.TOPICS[topic_name]
    hero, pronouns = person(rng)
    friend, _ = person(rng)
    while friend == hero:
        friend, _ = person(rng)
    values: dict[str, str | tuple[str, ...]] = dict(_TOPIC_VALUES[topic_name])
    values |= _I if first_person else pronouns
    values |= {
        "hero": "I" if first_person else hero,
        "signer": hero,
        "friend": friend,
        "thing": pick(rng, topic.things),
        "animal": pick(rng, topic.animals),
        "place": pick(rng, topic.places),
        "price": str(rng.randrange(2, 60)),
        "age": str(rng.randrange(5, 60)),
        "minutes": str(rng.randrange(2, 60)),
    }
    return Cast(topic_name, mood, next_mood), Scribe(rng, values)


def feel(scribe: Scribe, mood: str) -> None:
    """Put the words of a mood into the slots that show one."""
    m = words.MOODS[mood]
    scribe.values |= {
        "feeling": m.feelings,
        "act": m.acts,
        "adverb": m.adverbs,
        "cry": m.cries,
        "cause": m.causes,
        "ending": m.endings,
        "closing": m.closings,
        "exit": m.exits,
    }
