"""`saescope.json`: what an SAE's folder tells of its quality and of how it came about.

Anybody may have written it, and what it tells is served as it stands: so it is read strictly.
"""

from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from app.contract.evaluation import FullEvaluation
from app.errors import Invalid
from worker.folders import one_line

NAME = "saescope.json"


class Summary(BaseModel):
    """The parts of the file that are used."""

    model_config = ConfigDict(strict=True)

    evaluation: FullEvaluation = FullEvaluation()
    provenance: dict[str, Any] = {}


def read_summary(folder: Path) -> Summary:
    """What `folder` tells; nothing when the file is not there.

    Raises:
        Invalid: the file is not JSON of that shape, or cannot be written as JSON again.
    """
    file = folder / NAME
    if not file.is_file():
        return Summary()
    try:
        summary = Summary.model_validate(orjson.loads(file.read_bytes()))
        summary.model_dump_json()
    except ValueError as error:
        raise Invalid(
            f"{file} cannot be used ({_reason(error)}); let it hold an object whose `evaluation` "
            "is one that saescope wrote and whose `provenance` is an object, or remove it."
        ) from error
    return summary


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return one_line(error)
    first = error.errors()[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])
