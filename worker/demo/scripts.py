"""Scripts: two people with moods of their own talk in turn, each true to his mood."""

from random import Random

from worker.demo import words
from worker.demo.cast import begin, feel
from worker.demo.scribe import Document

_SCENES = (
    "Scene: {place}. {hero} is {feeling}, {friend} is {otherFeeling}.",
    "Scene: {place}, with {a thing}. {hero} is {feeling} and {friend} is {otherFeeling}.",
)
_LINES = (
    "{cry}! I can see {a any_animal} near {any_place}.",
    "{cry}! Where <scope.question>is the {any_thing}</scope.question>?",
    "Did <scope.question>you bring the {any_thing} from {any_place}</scope.question>? {cry}!",
    "The {sky} is so {adj}. {cry}!",
    "{cry}! I will not <scope.negation>go to {any_place} with you</scope.negation>.",
    "If <scope.condition>the {any_animal} comes</scope.condition>, then we must wait. {cry}!",
    "Take <scope.list>the {any_thing}, the {any_thing} and the {any_thing}</scope.list>. {cry}!",
    "I paid <number.price>{price}</number.price> coins for the {any_thing}. {cry}!",
    "It will be <number.minutes>{minutes}</number.minutes> minutes to {any_place}. {cry}!",
    "{cry}! {cry}!",
)


def script(rng: Random) -> Document:
    """A scene of four to six lines and an exit."""
    cast, scribe = begin(rng)
    moods = {"hero": cast.mood, "friend": cast.next_mood}
    scribe.values["otherFeeling"] = words.MOODS[cast.next_mood].feelings
    feel(scribe, cast.mood)
    scribe.draw(_SCENES)
    scribe.open(f"topic.{cast.topic}")
    speaker = "hero" if rng.random() < 0.5 else "friend"
    lines = rng.sample(_LINES, rng.randrange(4, 7))
    for line in lines:
        scribe.write(f"\n- <role.speaker>{{{speaker}}}</role.speaker>: ")
        feel(scribe, moods[speaker])
        scribe.open(f"mood.{moods[speaker]}")
        scribe.write(line)
        scribe.close(f"mood.{moods[speaker]}")
        speaker = "friend" if speaker == "hero" else "hero"
    feel(scribe, moods[speaker])
    scribe.write(f"\n({{{speaker}}} {{exit}}.)")
    return scribe.finish("script")
