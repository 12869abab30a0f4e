"""What is active on the texts of a contrast, as samples: tokens, or texts by their strongest token."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from app.contract.search import Over
from worker.live.search.texts import Texts
from worker.live.strongest import Strongest


@dataclass(frozen=True, eq=False)
class Samples:
    """Active values of one SAE, n of them, each of one feature at one sample: by feature, from weak
    to strong, of equal ones the first token last."""

    feature: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    at: Int[np.ndarray, " n"]
    """Token in the line of texts."""
    positive: Bool[np.ndarray, " n"]
    counts: tuple[int, int]
    """Positive and negative samples, inactive ones among them."""


def gather(texts: Texts, found: list[Strongest], over: Over) -> Samples:
    """The samples from what is active on each text; special tokens are none."""
    n_texts = len(found)
    text = np.repeat(np.arange(n_texts), [len(one.token) for one in found])
    at = np.concatenate([one.token for one in found]) + texts.starts[text]
    feature = np.concatenate([one.feature for one in found])
    value = np.concatenate([one.value for one in found]).astype(np.float32)
    order = np.flatnonzero(~texts.special[at])[::-1]
    order = order[_by_value(feature[order], value[order])]
    if over == "texts":
        order = order[_last_of_each(feature[order] * n_texts + text[order])]
    return Samples(
        feature[order],
        value[order].astype(np.float64),
        at[order],
        text[order] < texts.n_positive,
        _counts(texts, over),
    )


def _by_value(
    feature: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """The order by feature, then by value, else as it is. One sort of whole numbers: the bits of
    floats above 0 are ordered as the floats are."""
    key = (feature.astype(np.int64) << 32) | value.view(np.int32)
    return np.argsort(key, kind="stable")


def _last_of_each(group: Int[np.ndarray, " n"]) -> Int[np.ndarray, "_"]:
    """Places of the last of each group, ascending."""
    order = np.argsort(group, kind="stable")
    return np.sort(order[np.diff(group[order], append=-1) != 0])


def _counts(texts: Texts, over: Over) -> tuple[int, int]:
    if over == "texts":
        return texts.n_positive, len(texts.tokens) - texts.n_positive
    sides = np.split(~texts.special, [texts.starts[texts.n_positive]])
    return int(sides[0].sum()), int(sides[1].sum())
