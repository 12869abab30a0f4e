"""POST /rank: features of several SAEs by how active they are on each text.

Only what is active is looked at: lists of (token, feature, value) by SAE, sorted by feature, in which
a feature's own values are one stretch. Its score is the largest of them, or their sum over chosen
tokens. The rows of the answer are filled from the stretches of the features that are in it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson
from jaxtyping import Bool, Float, Int

from app.contract.reading import RankRequest
from app.errors import Gone, Invalid, NotFound, TooLarge
from app.store import read
from app.store.activity import Activity
from worker.live.capture import CaptureJob
from worker.live.desk import Desk
from worker.live.kinds import OfSae, Values
from worker.live.reading.texts import check_values, encoded, is_bos, opened
from worker.live.resident import Held
from worker.live.strongest import Strongest

Allowed = Bool[np.ndarray, " f"]
"""Of all features of an SAE, which may be in the answer."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    job: CaptureJob
    allowed: dict[str, Allowed | None]
    """By SAE; None where all are."""


async def rank(desk: Desk, request: RankRequest) -> bytes:
    """JSON of a `RankAnswer`."""
    _check(request)
    held, prepared = await desk.prepared(
        request.model, request.saes, lambda held: _prepare(desk, request, held)
    )
    texts = []
    async with desk.captured(held, prepared.job) as found:
        for ids, own in zip(prepared.job.texts, found, strict=True):
            work = partial(_text, request, ids, own, prepared.allowed, held)
            texts.append(await desk.aside(work))
    return b'{"results":[%b]}' % b",".join(texts)


def _check(request: RankRequest) -> None:
    if not request.saes:
        raise Invalid("saes is empty; name at least one.")
    if request.limit < 1:
        raise Invalid(f"limit is {request.limit}; it must be at least 1.")


def _prepare(desk: Desk, request: RankRequest, held: Held) -> _Prepared:
    texts = encoded(request, held, desk.settings)
    _check_places(request.at, texts, desk.settings.max_request_tokens)
    tokens, limit = sum(map(len, texts)), _most(request, held)
    check_values(tokens * limit, f"{tokens} tokens and {limit} features at each", desk.settings)
    dense = sum(one.d_sae for one in held.dictionaries.values() if one.signed)
    check_values(tokens * dense, f"{tokens} tokens of {dense} neurons", desk.settings)
    readings = [OfSae(sae, d, None, d.d_sae) for sae, d in held.dictionaries.items()]
    allowed = {sae: _allowed(desk, request, held, sae) for sae in held.dictionaries}
    return _Prepared(CaptureJob(texts, readings, most=desk.settings.max_values), allowed)


def _check_places(at: list[int], texts: list[list[int]], most: int) -> None:
    if len(at) > most:
        raise TooLarge(f"at has {len(at)} places; it may have {most}.")
    for text, ids in enumerate(texts):
        for place in (min(at), max(at)) if at else ():
            if not 0 <= place < len(ids):
                raise Invalid(
                    f"at holds {place}; texts[{text}] has {len(ids)} tokens, BOS included, counted "
                    "from 0.",
                    at=place,
                    n_tokens=len(ids),
                )


def _most(request: RankRequest, held: Held) -> int:
    return min(request.limit, sum(one.d_sae for one in held.dictionaries.values()))


def _allowed(desk: Desk, request: RankRequest, held: Held, sae: str) -> Allowed | None:
    """By how often features fire on their corpus; none of an SAE without evidence."""
    if request.density_max is None:
        return None
    activity = _activity(desk, request.model, sae)
    if activity is None:
        return np.zeros(held.dictionaries[sae].d_sae, bool)
    if activity.sae_fingerprint != held.dictionaries[sae].fingerprint:
        raise Gone(f"SAE {sae} was replaced meanwhile; ask again.")
    return activity.density <= request.density_max


def _activity(desk: Desk, model: str, sae: str) -> Activity | None:
    try:
        record = read.sae(desk.library.shelf, model, sae)
    except NotFound:  # neurons need no record, and have no evidence then
        return None
    return desk.sources.kept.get(record) if record.run_id else None


def _text(
    request: RankRequest,
    ids: list[int],
    found: dict[str, Values],
    allowed: dict[str, Allowed | None],
    held: Held,
) -> bytes:
    """JSON of a `RankedText`."""
    counts = np.ones(len(ids))
    if request.skip_bos:
        counts[is_bos(ids, held.resident.model)] = 0
    ranked = [
        _Ranked(sae, values, counts, request.at, allowed[sae])
        for sae, values in found.items()
        if isinstance(values, Strongest)
    ]
    best = [
        (-float(one.score[row]), place, int(one.feature[row]), row)
        for place, one in enumerate(ranked)
        for row in one.first(request.limit).tolist()
    ]
    features = [ranked[place].told(row) for _, place, _, row in sorted(best)[: request.limit]]
    told = orjson.dumps(features, option=orjson.OPT_SERIALIZE_NUMPY)
    return opened(ids, held.resident) + b',"features":%b}' % told


class _Ranked:
    """The features of one SAE that are active on a text."""

    feature: Int[np.ndarray, " f"]
    """Ascending."""
    score: Float[np.ndarray, " f"]

    def __init__(
        self,
        sae: str,
        found: Strongest,
        counts: Float[np.ndarray, " t"],
        at: list[int],
        allowed: Allowed | None,
    ) -> None:
        """`counts` is 0 at tokens where everything counts as 0, and 1 at all others."""
        kept = counts[found.token] > 0
        if allowed is not None:
            kept &= allowed[found.feature]
        order = np.flatnonzero(kept)
        order = order[np.argsort(found.feature[order], kind="stable")]
        feature = found.feature[order]
        self._sae, self._length = sae, len(counts)
        self._token, self._value = found.token[order], found.value[order]
        self._first = np.flatnonzero(np.diff(feature, prepend=-1))
        self.feature = feature[self._first]
        self.score = self._scores(at)

    def _scores(self, at: list[int]) -> Float[np.ndarray, " f"]:
        if not len(self._first):
            return np.zeros(0)
        if not at:
            return np.maximum.reduceat(self._value, self._first).astype(np.float64)
        times = np.bincount(at, minlength=self._length)
        return np.add.reduceat(self._value * times[self._token].astype(np.float64), self._first)

    def first(self, limit: int) -> Int[np.ndarray, "_"]:
        """Rows of the highest scores above 0, ties by index."""
        rows = np.flatnonzero(self.score > 0)
        if len(rows) > limit:
            least = np.partition(self.score[rows], -limit)[-limit]
            rows = rows[self.score[rows] >= least]
        return rows[np.argsort(-self.score[rows], kind="stable")[:limit]]

    def told(self, row: int) -> dict[str, Any]:
        """A `RankedFeature`."""
        end = self._first[row + 1] if row + 1 < len(self._first) else len(self._token)
        own = slice(self._first[row], end)
        values = np.zeros(self._length, np.float32)
        values[self._token[own]] = self._value[own]
        return {
            "sae": self._sae,
            "feature": int(self.feature[row]),
            "score": float(self.score[row]),
            "values": values,
        }
