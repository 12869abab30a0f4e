"""What is checked of every request before the live worker sees it."""

import asyncio

from app.api.limits import at_most, check_text
from app.api.state import Services
from app.compat.inference.base import MOST_PROMPTS
from app.compat.inference.names import model_of
from app.errors import Invalid
from app.settings import Settings


async def model_id(services: Services, name: str | None) -> str:
    """The model's id, or that of the only one; see `names.model_of`."""
    return (await asyncio.to_thread(model_of, services.shelf, name)).id


def check_prompts(settings: Settings, prompts: list[str]) -> None:
    """Refuse texts that are too long to be looked at, or too many."""
    at_most("body.prompts", len(prompts), "texts", settings.max_texts, "SAESCOPE_MAX_TEXTS")
    for prompt in prompts:
        check_text(settings, "body.prompt", prompt)


def check_batch(prompts: list[str], most: int = MOST_PROMPTS) -> None:
    """Refuse an empty batch, or one that is too large."""
    if not prompts:
        raise Invalid("At least one prompt is required")
    if len(prompts) > most:
        raise Invalid(f"Batch size {len(prompts)} exceeds maximum of {most}")
