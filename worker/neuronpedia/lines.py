"""Rows of a file of lines, by file and number of the line; gzipped when its name ends in `.gz`."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import orjson
from isal import igzip
from isal.igzip_lib import IsalError

from app.errors import Invalid
from worker.neuronpedia.values import Row

_Broken = cast(type[Exception], IsalError)  # its stub says that it is no class
LONGEST = 2**26
"""Bytes of a line, which is read into memory whole."""


def rows_of(path: Path, name: str) -> Iterator[tuple[str, bytes, Row]]:
    """Place, bytes and row of every line that is not empty.

    Raises:
        Invalid: the first line that holds no JSON object, or where the file is broken.
    """
    opener = igzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with cast(BinaryIO, opener(path, "rb")) as file:
            while line := file.readline(LONGEST + 1):
                number += 1
                if line.strip():
                    place = f"{name}, line {number}"
                    yield place, line, parsed(place, line)
    except (_Broken, EOFError, OSError) as error:
        raise Invalid(
            f"{name} cannot be read after line {number} ({error}).", place=name
        ) from error


def parsed(place: str, data: bytes, longest: int = LONGEST) -> Row:
    """A JSON object. Raises Invalid when it is none."""
    if len(data) > longest:
        raise Invalid(f"{place}: it is longer than {longest:,} bytes.", place=place)
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"{place}: this is no JSON ({error}).", place=place) from None
    if type(found) is not dict:
        raise Invalid(f"{place}: this is no JSON object but {data[:40]!r}.", place=place)
    return found
