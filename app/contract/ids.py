"""Names that travel in URLs: models, SAEs, jobs."""

import re
from typing import Annotated

from pydantic import StringConstraints

INDEX_MAX = 2**31 - 1
"""The largest index of a feature."""

ID_PATTERN = r"^[A-Za-z0-9._-]+$"

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN, min_length=1, max_length=128)]
"""A model id (`storyworld`, hub names as slugs) or an SAE id (`{layer}-{set}`: `2-res-topk`)."""


def slug(name: str) -> str:
    """Turn a hub name (`org/name`) into an id that matches `ID_PATTERN`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def neuron_source(layer: int) -> str:
    """The reserved SAE id of the identity dictionary on a layer's `mlp.hook_post`."""
    return f"{layer}-mlp"


def is_neuron_source(sae_id: str) -> bool:
    """Whether an SAE id is reserved for a layer's neurons."""
    return re.fullmatch(r"(0|[1-9][0-9]*)-mlp", sae_id) is not None
