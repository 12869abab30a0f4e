"""Columns of a row of JSON that anybody may have written, or a sentence that says what is wrong.

A column that is absent or null is empty.
"""

from typing import Any

import numpy as np
import orjson

from app.errors import Invalid
from app.rows.page import Row

INT32_MAX = 2**31 - 1
LONGEST = 65_535
"""Entries of one column: what the shelf packs in 16 bits."""


class Refused(Exception):
    """What is wrong with a row; who reads it says where the row is."""


def floats(row: Row, name: str) -> np.ndarray:
    """float32 [n]"""
    return singles(_column(row, name), name)


def counts(row: Row, name: str) -> np.ndarray:
    """int64 [n] from 0 to the largest int32; fractions are cut off."""
    found = _numbers(_column(row, name), name, (int, float))
    if len(found) and not (found.min() >= 0 and found.max() <= INT32_MAX):
        raise Refused(f"`{name}` holds a number that is no count from 0 to {INT32_MAX}")
    return found.astype(np.int64)


def indices(row: Row, name: str) -> np.ndarray:
    """int64 [n] from 0 to the largest int32."""
    found = _numbers(_column(row, name), name, (int,))
    if len(found) and not (found.min() >= 0 and found.max() <= INT32_MAX):
        raise Refused(f"`{name}` holds a number that is no index from 0 to {INT32_MAX}")
    return found.astype(np.int64)


def strings(row: Row, name: str) -> list[str]:
    """Any strings."""
    found = _column(row, name)
    if not set(map(type, found)) <= {str}:
        raise Refused(f"`{name}` holds something that is no string")
    return found


def number(row: Row, name: str) -> float | None:
    """A number; None when it is absent."""
    found = row.get(name)
    if found is None:
        return None
    if type(found) not in (int, float):
        raise Refused(f"`{name}` is {str(found)[:40]!r}, which is no number")
    return float(found)


def single(value: float, name: str) -> np.float32:
    """A number as float32."""
    return singles([value], name)[0]


def singles(found: list[Any], name: str) -> np.ndarray:
    """float32 [n] of a list of anything."""
    numbers = _numbers(found, name, (int, float))
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise Refused(f"`{name}` holds a number beyond 3.4e38, the largest that is stored")
    return narrow


def text(row: Row, name: str) -> str:
    """A string, empty when it is absent."""
    found = row.get(name)
    if found is not None and type(found) is not str:
        raise Refused(f"`{name}` is {str(found)[:40]!r}, which is no string")
    return found or ""


def index_of(row: Row, name: str, below: int) -> int:
    """The index of a feature: a whole number, or one in digits, as Neuronpedia has it."""
    found = row.get(name)
    if type(found) is str and found.isascii() and found.isdigit() and len(found) < 12:
        found = int(found)
    if type(found) is not int or not 0 <= found < below:
        raise Refused(
            f"`{name}` is {str(found)[:40]!r}; the index of a feature is a whole number from 0 to "
            f"{below - 1}"
        )
    return found


def dumped(found: Any) -> bytes:
    """JSON of what is kept of a row."""
    try:
        return orjson.dumps(found)
    except orjson.JSONEncodeError as error:
        raise Refused(f"it cannot be kept ({error}); it is nested too deeply") from None


def equally_many(columns: dict[str, Any]) -> None:
    """Raises Refused when columns that belong together differ in length."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = " and ".join(f"`{name}` has {length}" for name, length in lengths.items())
        raise Refused(f"{told} entries; they belong together, one by one")


def _numbers(found: list[Any], name: str, kinds: tuple[type, ...]) -> np.ndarray:
    """float64 [n]"""
    if not set(map(type, found)) <= set(kinds):
        what = "number" if float in kinds else "whole number"
        raise Refused(f"`{name}` holds something that is no {what}")
    return np.fromiter(found, np.float64, len(found))


def _column(row: Row, name: str) -> list[Any]:
    found = row.get(name)
    if found is None:
        return []
    if type(found) is not list:
        raise Refused(f"`{name}` is no list")
    if len(found) > LONGEST:
        raise Refused(f"`{name}` has {len(found)} entries; at most {LONGEST} are taken")
    return found


class at:
    """Turns what is wrong with a row into a problem that names its place."""

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Refused):
            raise Invalid(f"{self._place}: {error}.", place=self._place) from None
