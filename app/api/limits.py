"""Limits of the settings, refused with the number and the name of the setting."""

from app.api.problems import invalid
from app.settings import Settings


def at_most(where: str, count: int, what: str, limit: int, setting: str) -> None:
    """Refuse more than `limit` of something, before the live worker sees it."""
    if count > limit:
        raise invalid(where, f"has {count:,} {what}", f"at most {limit:,} ({setting})")


def check_text(settings: Settings, where: str, text: str) -> None:
    """Refuse a text that is too long to be looked at."""
    limit = settings.max_text_chars
    at_most(where, len(text), "characters", limit, "SAESCOPE_MAX_TEXT_CHARS")
