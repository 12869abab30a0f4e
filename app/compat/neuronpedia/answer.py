"""Answers as JSON, bounded by the number of values in them."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson
from fastapi import Response

from app.errors import TooLarge
from app.rows.page import Row
from app.settings import Settings

_AS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


def dump(value: Any) -> bytes:
    """JSON; arrays as lists, times in UTC."""
    return orjson.dumps(value, option=_AS)


def json(value: Any) -> Response:
    """An answer."""
    return Response(dump(value), media_type="application/json")


def packed(settings: Settings, rows: Iterable[Row | None]) -> Iterator[orjson.Fragment | None]:
    """Rows of features as JSON, one by one: unpacked they take many times as much memory.
    None stays None.

    Raises:
        TooLarge: together they have more values than one answer may have.
    """
    values = 0
    for row in rows:
        if row is None:
            yield None
            continue
        values += sum(len(one["values"]) for one in row["activations"])
        values += sum(len(one) for one in row.values() if isinstance(one, list | np.ndarray))
        if values > settings.max_values:
            raise TooLarge(
                f"These features have more than {settings.max_values:,} values "
                "(SAESCOPE_MAX_VALUES); ask for fewer features, or fewer of their activations."
            )
        yield orjson.Fragment(dump(row))
