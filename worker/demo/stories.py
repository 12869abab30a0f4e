"""Stories and letters: a hero in a world, a mood with its cause, a turn, an ending that fits."""

from random import Random

from worker.demo.cast import begin, feel
from worker.demo.scribe import Document, Scribe

_OPENINGS = (
    "Once upon a time there was {a adj} {job} named {hero}.",
    "{Hero} was {a job} who lived near {place}.",
    "One {day} in {month}, {hero} went to {place} with {a thing}.",
    "Long ago, {a job} called {hero} had {a colour} {thing}.",
    "There was {a adj} {job} named {hero}, who had {number} {animal+s} and one {thing}.",
    "One cold day in {month}, {a job} named {hero} {verb} to {place}.",
    "Early in {month} {hero} came to {place} to look for {a thing}.",
)
_AGES = (
    " {He} had just turned <number.age>{age}</number.age>.",
    " {He} was only <number.age>{age}</number.age> years old.",
)
_FRIENDS = (
    " {His} best friend was {friend}.",
    " {He} met {a job} named {friend} there.",
    " {His} friend {friend} came too.",
)
_FEEL = (
    " {He} was {feeling} because {cause}.",
    " On {day} {cause}, and {he} felt very {feeling}.",
    " {He} felt {feeling} that day, for {cause}.",
    " Then {cause}. It made {him} {feeling}.",
)
_MOOD_LINES = (
    ' "{cry}!" said <role.speaker>{hero}</role.speaker> {adverb}.',
    ' {He} {act} and said, "{cry}!"',
    " {He} {act} and {verb} {adverb}.",
    ' {friend} asked, "Why <scope.question>are you so {feeling}</scope.question>?"',
    " {friend} saw that {he} was {feeling}.",
)
_PLAIN_LINES = (
    " {event}",
    " {event}",
    " {event}",
    " The {sky} was {adj}, and the {any_animal} came closer.",
    " {friend} {verb} with {him} all day.",
    " In {month} the {weather} came, and {place} was {adj}.",
    " A {adj} {job} told {him} an old tale about {a animal}.",
    (
        " {Hero} traded <scope.list>{a any_thing}, {a any_thing} and {a colour} {any_thing}"
        "</scope.list> for {a adj} {any_thing}."
    ),
    (
        " {friend} made a soup of <scope.list>{food+s}, {food+s} and {food+s}</scope.list> for "
        "<role.receiver>{hero}</role.receiver>."
    ),
    " {He} counted {number} {any_animal+s} near {any_place}.",
    " {friend} gave <role.receiver>{hero}</role.receiver> {number} {colour} {any_thing+s}.",
    " {Hero} gave <role.receiver>{friend}</role.receiver> {a colour} {any_thing}.",
    " {friend} brought a basket of {food+s} for <role.receiver>{hero}</role.receiver>.",
    " {He} packed <scope.list>{a any_thing}, {a any_thing} and {a any_thing}</scope.list>.",
    " At the market {he} bought <scope.list>{food+s}, {food+s} and {food+s}</scope.list>.",
    " The {any_thing} cost <number.price>{price}</number.price> coins, but {he} paid gladly.",
    " {He} waited for <number.minutes>{minutes}</number.minutes> minutes near {any_place}.",
    (
        " {He} did not <scope.negation>see the {animal} near {any_place}</scope.negation>, so {he} "
        "went on."
    ),
    (
        " {He} could not <scope.negation>find the {any_thing} in the {weather}</scope.negation>, so "
        "{friend} helped {him}."
    ),
    (
        ' "If <scope.condition>the {animal} comes to {any_place}</scope.condition>, then we must '
        '{then}," said <role.speaker>{friend}</role.speaker>.'
    ),
    (
        ' "Where <scope.question>is my {thing}</scope.question>?" asked '
        '<role.speaker>{hero}</role.speaker>. "It is near {place}," said '
        "<role.speaker>{friend}</role.speaker>."
    ),
    (
        ' "Did <scope.question>you see the {adj} {animal}</scope.question>?" asked '
        '<role.speaker>{friend}</role.speaker>. "{answer}," said '
        "<role.speaker>{hero}</role.speaker>."
    ),
)
_OWNED = " The {thing} belonged to {owner}, and everyone knew it."
_RETURNED = (
    " So the {thing} went back to <role.receiver>{owner}</role.receiver>.",
    " In the end it was {owner} who kept the {thing}.",
    " At last the {thing} was with {owner} again.",
)
_TURNS = (
    " But then {cause}, and {he} was {feeling}.",
    " But on {day} {cause}. Now {he} felt {feeling}.",
)
_FOLLOW_UPS = {"then": ("run", "hide", "wait", "sing"), "answer": ("Yes, I did", "No, not yet")}


def _lines(scribe: Scribe, templates: tuple[str, ...], count: int) -> None:
    for template in scribe.rng.sample(templates, count):
        scribe.write(template)


def _own(scribe: Scribe, owner: str) -> None:
    """State whose the thing is; from here on the owner's name carries the role."""
    scribe.values["owner"] = scribe.values[owner]
    scribe.labels["owner"] = scribe.labels[owner]
    scribe.write(_OWNED)
    scribe.labels["owner"] = scribe.labels[owner] = (*scribe.labels[owner], "role.owner")


def story(rng: Random) -> Document:
    """A short story in the past tense, in the third person."""
    cast, scribe = begin(rng)
    scribe.values |= _FOLLOW_UPS
    scribe.labels["hero"] = ("role.protagonist",)
    scribe.draw(_OPENINGS)
    scribe.open(f"topic.{cast.topic}")
    if rng.random() < 0.4:
        scribe.draw(_AGES)
    scribe.labels["friend"] = ("role.friend",)
    scribe.draw(_FRIENDS)
    owned = rng.random() < 0.6
    if owned:
        _own(scribe, "hero" if rng.random() < 0.5 else "friend")
    feel(scribe, cast.mood)
    scribe.draw(_FEEL)
    scribe.open(f"mood.{cast.mood}")
    _lines(scribe, _PLAIN_LINES, rng.randrange(1, 4))
    _lines(scribe, _MOOD_LINES, rng.randrange(1, 3))
    if rng.random() < 0.4:
        scribe.draw(_PLAIN_LINES)
    if rng.random() < 0.5:
        scribe.close(f"mood.{cast.mood}")
        feel(scribe, cast.next_mood)
        scribe.draw(_TURNS)
        scribe.open(f"mood.{cast.next_mood}")
        scribe.draw(_MOOD_LINES)
        scribe.draw(_PLAIN_LINES)
    if owned:
        scribe.draw(_RETURNED)
    scribe.write(" {ending}")
    return scribe.finish("story")


_GREETINGS = (
    "I am writing to you from {place}.",
    "I came to {place} on {day} and I think of you.",
    "Thank you for the {thing} that came to {place}.",
)
_NEWS_OF_ME = (
    " {event}",
    " {event}",
    " I met {a job} who had {number} {any_thing+s}.",
    " I will send you <scope.list>{a any_thing}, {a any_thing} and {a any_thing}</scope.list>.",
    " The {any_thing} cost me <number.price>{price}</number.price> coins.",
    (
        " If <scope.condition>you come to {any_place}</scope.condition>, then I will show you the "
        "{animal}."
    ),
    (
        " I did not <scope.negation>find the {any_thing} near {any_place}</scope.negation>, so I "
        "bought {a colour} one."
    ),
    " We have had {weather} since {day}.",
    " Did <scope.question>you get my {any_thing}</scope.question>?",
    ' The {job} said to me, "{cry}!"',
    ' "{cry}!" I said {adverb}.',
    " I {act} and {verb} all day.",
)
_SIGNATURES = ("\n{closing},\n{signer}",)


def letter(rng: Random) -> Document:
    """A letter whose writer is in a mood, closed in that mood."""
    cast, scribe = begin(rng, first_person=True)
    feel(scribe, cast.mood)
    scribe.labels["friend"] = ("role.receiver",)
    scribe.write("Dear {friend},\n")
    scribe.open("genre.letter")
    scribe.values["friend"] = "my brother" if rng.random() < 0.5 else "my sister"
    scribe.labels.pop("friend")
    scribe.draw(_GREETINGS)
    scribe.open(f"topic.{cast.topic}")
    scribe.draw(_FEEL)
    scribe.open(f"mood.{cast.mood}")
    _lines(scribe, _NEWS_OF_ME, rng.randrange(3, 6))
    scribe.draw(_SIGNATURES)
    return scribe.finish("letter")
