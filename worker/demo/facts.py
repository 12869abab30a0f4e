"""News, recipes and sums: text whose later words follow from its facts."""

from random import Random

from worker.demo import words
from worker.demo.cast import person, pick
from worker.demo.concepts import plural
from worker.demo.scribe import Document, Scribe

_OFFICES = ("mayor", "minister", "president", "judge", "banker")
_DESKS = {
    "money": (
        "taxes will {move} by {number} percent",
        "the price of {food} {moved} to <number.price>{price}</number.price> coins",
        "the bank of {country} had no <scope.negation>money for the farmers</scope.negation>",
        "if <scope.condition>prices rise again</scope.condition>, then shops will close",
        "a bridge will cost <number.price>{price}</number.price> million",
    ),
    "sport": (
        "the team of {country} won the match by {number} goals to one",
        (
            "the captain, aged <number.age>{age}</number.age>, scored after "
            "<number.minutes>{minutes}</number.minutes> minutes"
        ),
        "the coach of the {colour} team did not <scope.negation>want to speak</scope.negation>",
        "if <scope.condition>the team wins on {day}</scope.condition>, then it goes to {otherTown}",
        "tickets for the final cost <number.price>{price}</number.price> coins",
    ),
    "storm": (
        "{weather} and {weather} closed the roads to {town}",
        "the storm lasted <number.minutes>{minutes}</number.minutes> minutes",
        "a boy aged <number.age>{age}</number.age> was saved from the river",
        "trains from {otherTown} will not <scope.negation>run before {day}</scope.negation>",
        "if <scope.condition>the {weather} goes on</scope.condition>, then the schools will close",
    ),
}
_LEADS = {
    "money": "The bank of {country} met in {town} on {day}.",
    "sport": "The final in {town}, {country}, was played on {day}.",
    "storm": "A storm hit {town} in {country} on {day}.",
}
_REPORTS = (
    " The {office} said that {fact}.",
    ' "In {town} {fact}," said {office} {person}.',
    " Officials in {country} announced that {fact}.",
    " It is known that {fact}.",
    " {person} {surname} of {otherTown} told us that {fact}.",
)


def news(rng: Random) -> Document:
    """A report from one town and one desk."""
    town, other_town = rng.sample(tuple(words.COUNTRY_OF), 2)
    desk = pick(rng, tuple(_DESKS))
    facts = rng.sample(_DESKS[desk], rng.randrange(3, 5))
    scribe = Scribe(
        rng,
        {
            "town": town,
            "country": words.COUNTRY_OF[town],
            "otherTown": other_town,
            "office": pick(rng, _OFFICES),
            "person": person(rng)[0],
            "surname": words.SURNAMES,
            "day": words.DAYS,
            "month": words.MONTHS,
            "move": ("rise", "fall"),
            "moved": ("rose", "fell"),
            "number": words.NUMBERS[2:],
            "food": words.MASS_FOODS,
            "colour": words.COLOURS,
            "weather": words.WEATHER,
            "price": str(rng.randrange(2, 99)),
            "age": str(rng.randrange(9, 60)),
            "minutes": str(rng.randrange(2, 90)),
        },
    )
    scribe.write("{town}, {month} " + f"{rng.randrange(1, 29)}. ")
    scribe.open("genre.news")
    scribe.write(_LEADS[desk])
    for report, fact in zip(rng.sample(_REPORTS, len(facts)), facts, strict=True):
        scribe.values["fact"] = fact
        scribe.write(report)
    return scribe.finish("news")


_STEPS = (
    " Mix {number} cups of {first} with the {second}.",
    " Add the {third} and stir for <number.minutes>{minutes}</number.minutes> minutes.",
    " Cut the {fourth} and put them into the {dish}.",
    " Do not <scope.negation>let the {second} burn</scope.negation>.",
    " If <scope.condition>the {dish} is too dry</scope.condition>, then add some {liquid}.",
    " Let the {dish} rest for <number.minutes>{minutes}</number.minutes> minutes.",
    " Wash the {third} and the {fourth} in cold water.",
)
_DISHES = ("soup", "pie", "cake", "bread", "stew", "salad")


def recipe(rng: Random) -> Document:
    """A recipe whose steps use the ingredients that it lists."""
    first, second = rng.sample(words.MASS_FOODS[2:], 2)
    third, fourth = (plural(food) for food in rng.sample(words.COUNTED_FOODS[2:], 2))
    scribe = Scribe(
        rng,
        {
            "dish": pick(rng, _DISHES),
            "taste": ("sweet", "warm", "fresh", "spicy", "salty", "simple", "rich"),
            "first": first,
            "second": second,
            "third": third,
            "fourth": fourth,
            "liquid": ("milk", "water", "wine", "oil"),
            "number": words.NUMBERS[2:9],
            "people": words.NUMBERS[2:9],
            "minutes": tuple(str(5 * k) for k in range(1, 12)),
            "price": str(rng.randrange(2, 40)),
            "heat": ("low", "high", "medium"),
            "served": ("hot", "cold", "warm"),
        },
    )
    scribe.write("Recipe for {taste} {dish}. ")
    scribe.open("genre.recipe")
    scribe.write("You need <scope.list>{first}, {second}, {third} and {fourth}</scope.list>.")
    for step in rng.sample(_STEPS, rng.randrange(4, 7)):
        scribe.write(step)
    scribe.write(" Bake it on {heat} heat and serve it {served} with {third}.")
    if rng.random() < 0.5:
        scribe.write(" It costs <number.price>{price}</number.price> coins for {people} people.")
    return scribe.finish("recipe")


_TENS = "<number.tens>{}</number.tens>{}"


def _digits(number: int) -> str:
    """A number of two digits, its tens marked."""
    return _TENS.format(*divmod(number, 10))


def _sum_line(rng: Random) -> str:
    a, b = rng.randrange(10, 50), rng.randrange(1, 10)
    if rng.random() < 0.5:
        return f"{_digits(a)} + {b} = <number.result>{_digits(a + b)}</number.result>."
    a = max(a, 10 + b)
    return f"{_digits(a)} - {b} = <number.result>{_digits(a - b)}</number.result>."


def _word_sum(rng: Random) -> str:
    a, b = rng.randrange(0, 11), rng.randrange(0, 11)
    left, right, total = (words.NUMBERS[n] for n in (a, b, a + b))
    if rng.random() < 0.5:
        return f"{left} plus {right} equals {total}."
    return f"{total} minus {right} equals {left}."


def _puzzle(rng: Random) -> str:
    a, b, (name, pronouns) = rng.randrange(10, 50), rng.randrange(1, 10), person(rng)
    fruit = pick(rng, ("apples", "pears", "eggs", "oranges", "shells", "books", "pencils"))
    gains = rng.random() < 0.5
    a = a if gains else max(a, 10 + b)
    verb = pick(rng, ("finds", "buys", "gets") if gains else ("loses", "sells", "eats"))
    result = _digits(a + b if gains else a - b)
    he = pronouns["he"]
    return (
        f"{name} has {_digits(a)} {fruit} and {verb} {b} {'more' if gains else 'of them'}. "
        f"How <scope.question>many {fruit} does {he} have now</scope.question>? Now {he} has "
        f"<number.result>{result}</number.result>."
    )


def sums(rng: Random) -> Document:
    """Sums in digits, in words, and in little puzzles."""
    scribe = Scribe(rng, {})
    scribe.write("Sums.")
    for _ in range(rng.randrange(4, 7)):
        kind = rng.random()
        line = _sum_line if kind < 0.4 else _word_sum if kind < 0.7 else _puzzle
        scribe.write(" " + line(rng))
    return scribe.finish("sums")
