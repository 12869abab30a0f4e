"""Code: little Python functions, and calls of them."""

from random import Random

from worker.demo.cast import pick
from worker.demo.scribe import Document, Scribe

_OPERATORS = {"add": "+", "sub": "-", "mul": "*"}
_NOUNS = ("fish", "apples", "stars", "books", "coins", "names", "words", "eggs")
_PARAMETERS = ("x", "y", "z", "a", "b", "n", "k", "items", "left", "right", "count", "size")
_ARGUMENTS = "(<code.arguments>{}</code.arguments>)"


def _call(function: str, *arguments: str) -> str:
    return function + _ARGUMENTS.format(", ".join(arguments))


def _arithmetic(verb: str, x: str, y: str) -> str:
    operator = _OPERATORS[verb]
    return (
        f"    total = {x} {operator} {y}\n    if total > {{digit}}:\n"
        f"        {_call('print', 'total')}\n    return total\n"
    )


def _loop(verb: str, x: str, y: str) -> str:
    step = {"find": "if i == {0}:\n            return i", "count": "total += {0}"}
    step |= {"show": "print(<code.arguments>i, {0}</code.arguments>)"}
    return (
        f"    total = {{digit}}\n    for i in {_call('range', x)}:\n"
        f"        {step[verb].format(y)}\n    return {'None' if verb == 'find' else 'total'}\n"
    )


def code(rng: Random) -> Document:
    """One or two functions, each followed by its calls."""
    scribe = Scribe(rng, {"digit": tuple("0123456789")})
    for index in range(rng.randrange(1, 3)):
        verb = pick(rng, (*_OPERATORS, "find", "count", "show"))
        name = f"{verb}_{pick(rng, _NOUNS)}"
        x, y = rng.sample(_PARAMETERS, 2)
        scribe.write(("\n\n" if index else "") + f"def {_call(name, x, y)}:\n")
        scribe.open("code.body")
        scribe.write((_arithmetic if verb in _OPERATORS else _loop)(verb, x, y))
        scribe.close("code.body")
        scribe.write(f"{x} = {_call(name, '{digit}', '{digit}')}")
        if rng.random() < 0.7:
            scribe.write(f"\n{_call('print', x)}")
        if rng.random() < 0.5:
            scribe.write(f"\nif {x} == {{digit}}:\n    {_call('print', _call(name, x, x))}")
    return scribe.finish("code")
