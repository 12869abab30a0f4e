"""What every format comes to: an SAE in SAELens' terms."""

import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from torch import Tensor

from app.errors import Invalid


@dataclass(frozen=True)
class Told:
    """What the caller said beside the files."""

    hook_name: str | None = None
    hook_name_out: str | None = None

    def read_at(self, found: str | None, where: object) -> str:
        """The hook point at which an SAE reads, from its files (`found`) or the caller."""
        return self._agreed("hook_name", self.hook_name, found, where, "reads")

    def written_at(self, found: str | None, where: object) -> str:
        """The hook point whose vector a transcoder predicts."""
        return self._agreed("hook_name_out", self.hook_name_out, found, where, "writes")

    def refuse_output(self, where: object) -> None:
        """Raises Invalid when the caller thinks that an SAE is a transcoder."""
        if self.hook_name_out is not None:
            raise Invalid(
                f"{where} is no transcoder, so it has no `hook_name_out`; leave that out."
            )

    @staticmethod
    def _agreed(field: str, told: str | None, found: str | None, where: object, does: str) -> str:
        if told and found and told != found:
            raise Invalid(f"`{field}` is {told}, but {where} says {found}; leave it out.")
        if not (told or found):
            raise Invalid(
                f"{where} does not say at which hook point it {does}; give `{field}`, such as "
                "blocks.2.hook_resid_post."
            )
        return told or found or ""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """An SAE or transcoder from another format. Weights have SAELens' names and directions."""

    format: str
    architecture: str
    hook_name: str
    weights: dict[str, Tensor]
    """W_enc (d_in d_sae), W_dec (d_sae d_out) and what else the architecture has."""
    subtracts_b_dec: bool
    """Whether b_dec is subtracted from the input."""
    hook_name_out: str | None = None
    normalisation: str = "none"
    k: int | None = None
    model_name: str | None = None

    @property
    def d_in(self) -> int:
        return self.weights["W_enc"].shape[0]

    def config(self) -> dict[str, Any]:
        """`cfg.json` of a SAELens folder. Whether BOS is prepended is left to the model: none of the
        formats says, and their trainers take what the tokenizer gives."""
        d_in, d_sae = self.weights["W_enc"].shape
        heads = self.hook_name.endswith("hook_z")
        metadata = {
            "sae_lens_version": version("sae-lens"),
            "hook_name": self.hook_name,
            "hook_name_out": self.hook_name_out,
            "model_name": self.model_name,
        }
        return {
            "architecture": self.architecture,
            "d_in": d_in,
            "d_sae": d_sae,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": self.subtracts_b_dec,
            "normalize_activations": self.normalisation,
            "reshape_activations": "hook_z" if heads else "none",
            **({"d_out": self.weights["W_dec"].shape[1]} if self.hook_name_out else {}),
            **({"k": self.k, "rescale_acts_by_decoder_norm": False} if self.k else {}),
            "metadata": {key: value for key, value in metadata.items() if value is not None},
        }


def layer_of(name: str, pattern: str) -> int | None:
    """The number that the first group of `pattern` finds in a name."""
    found = re.search(pattern, name)
    return int(found[1]) if found else None


def whole(config: dict[str, Any], name: str, where: object) -> int:
    """A positive whole number of a configuration."""
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Invalid(f"{where} gives no positive whole number for {name}; save the SAE again.")
    return value
