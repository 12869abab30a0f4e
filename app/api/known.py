"""Checks of what a live request names: its SAEs, features and texts."""

from collections.abc import Iterable

from app.api.problems import invalid
from app.settings import Settings
from app.store import read
from app.store.engine import Shelf
from app.store.records import SaeRecord


def known_saes(shelf: Shelf, model_id: str, sae_ids: Iterable[str]) -> dict[str, SaeRecord]:
    """The SAEs by id; NotFound for the first that the model does not have."""
    return {sae_id: read.sae(shelf, model_id, sae_id) for sae_id in dict.fromkeys(sae_ids)}


def check_feature(where: str, sae: SaeRecord, index: int) -> None:
    """Refuse an index that the SAE does not have."""
    if index >= sae.d_sae:
        raise invalid(where, f"names feature {index} of {sae.id}", f"0 to {sae.d_sae - 1}")


def check_text(settings: Settings, where: str, text: str) -> None:
    """Refuse a text that is too long to be looked at."""
    if len(text) > settings.max_text_chars:
        raise invalid(
            where,
            f"has {len(text):,} characters",
            f"at most {settings.max_text_chars:,} (SAESCOPE_MAX_TEXT_CHARS)",
        )
