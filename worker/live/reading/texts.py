"""Texts as they are read, and what is told of each besides the numbers."""

import numpy as np
import orjson
from jaxtyping import Bool

from app.contract.reading import Texts
from app.errors import Invalid, TooLarge
from app.settings import Settings
from worker.live.prepare import encode_texts
from worker.live.render import display
from worker.live.resident import Held, Resident
from worker.models import LanguageModel
from worker.saes import common_bos


def encoded(
    request: Texts, held: Held, settings: Settings, prepend_bos: bool | None = None
) -> list[list[int]]:
    """Token ids of the texts, with BOS in front as `prepend_bos`, or else the SAEs, or else the model
    says."""
    if not request.texts:
        raise Invalid("texts is empty; give at least one text.")
    if prepend_bos is None:
        prepend_bos = common_bos(one.prepend_bos for one in held.dictionaries.values())
    named = {f"texts[{i}]": text for i, text in enumerate(request.texts)}
    return encode_texts(named, prepend_bos, held.resident.model, settings.max_request_tokens)


def check_values(count: int, of: str, settings: Settings) -> None:
    """Refuse an answer with more values than one may have."""
    limit = settings.max_values
    if count > limit:
        raise TooLarge(
            f"The answer could have {count} values, for {of}; one answer may have {limit} "
            "(SAESCOPE_MAX_VALUES). Ask for less.",
            values=count,
            limit=limit,
        )


def is_bos(ids: list[int], model: LanguageModel) -> Bool[np.ndarray, " t"]:
    """Which tokens are BOS."""
    return np.array(ids) == (-1 if model.bos_id is None else model.bos_id)


def opened(ids: list[int], resident: Resident) -> bytes:
    """JSON of a `ReadText`, without its closing brace."""
    model = resident.model
    told = {
        "tokens": display(ids, resident.vocabulary),
        "special": model.is_special[ids].tolist(),
        "begins_with_bos": bool(is_bos(ids[:1], model).any()),
    }
    return orjson.dumps(told)[:-1]
