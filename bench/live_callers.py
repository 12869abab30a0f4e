"""What the callers of a bench ask for: everyone steers in a way of their own.

Caller i has a prompt of `TOKENS` tokens. Odd callers add a feature of the SAE, even ones a random
vector at a layer of their own; strengths differ too. The same requests go to the engine, through
HTTP and to the peers.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from app.contract.steering import Intervention
from bench.live_models import Case

MOST = 64


@dataclass(frozen=True)
class Callers:
    """Up to `MOST` callers of one model."""

    case: Case
    new_tokens: int

    @cached_property
    def prompts(self) -> list[str]:
        """A text for each, and one more for who comes late."""
        return self.case.texts(MOST + 1, seed=0)

    @cached_property
    def _vectors(self) -> list[list[float]]:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(MOST + 1, self.case.model.d_model, generator=generator).tolist()

    def entry(self, i: int) -> dict[str, Any]:
        """The steering of caller i, as it is written in a request."""
        strength = 2.0 + i % 5 / 4
        if i % 2:
            return {**self.feature_entry(i), "strength": strength}
        layer = 1 + i // 2 % (self.case.model.n_layers - 1)
        vector = self._vectors[i]
        return {"hook": f"blocks.{layer}.hook_resid_pre", "vector": vector, "strength": strength}

    def feature_entry(self, i: int, **fields: Any) -> dict[str, Any]:
        """An entry with a feature that nobody else has."""
        dictionary = self.case.dictionary
        feature = (11 * i + 7) % dictionary.d_sae
        own = {"sae": dictionary.id, "feature": feature, "strength": 2.0, "unit": "raw"}
        return own | fields

    def body(self, i: int, **fields: Any) -> dict[str, Any]:
        """The request of caller i, steered answer alone."""
        return {
            "model": self.case.model.id, "prompt": self.prompts[i], "steering": [self.entry(i)],
            "max_new_tokens": self.new_tokens, "baseline": False,
        } | fields  # fmt: skip

    def hook(self, i: int) -> tuple[str, torch.Tensor]:
        """The steering of caller i, as a hook point and what is added there."""
        entry = self.entry(i)
        if "hook" in entry:
            return entry["hook"], entry["strength"] * torch.tensor(entry["vector"])
        dictionary = self.case.dictionary
        row = dictionary.directions(torch.tensor([entry["feature"]]))[0]
        return dictionary.hook_out, entry["strength"] * row


def intervention(entry: dict[str, Any]) -> Intervention:
    """What the API makes of an entry that counts its strength raw."""
    kept = {key: value for key, value in entry.items() if key not in ("strength", "unit")}
    defaults = {"method": "add", "positions": "all", "amount": entry["strength"]}
    return Intervention.model_validate(defaults | kept)
