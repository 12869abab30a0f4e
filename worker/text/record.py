"""The text in a record."""

from collections.abc import Iterable, Mapping

_NAMED = 20


class NoDocument(Exception):
    """Why a line or row is no document, for the end of a sentence."""


def text_of(record: Mapping[str, object], name: str) -> str:
    """The text in the field `name`, empty where it is null. Raises `NoDocument`."""
    text = record.get(name)
    if isinstance(text, str):
        return text
    if name not in record:
        raise NoDocument(
            f"no field `{name}` (fields there: {listed(record)}); name the field that holds the text"
        )
    if text is None:
        return ""
    raise NoDocument(f"`{name}` holds {type(text).__name__}, not text; name a field of text")


def listed(names: Iterable[str]) -> str:
    """Names for a sentence, the first ones of many."""
    all_names = [f"`{name}`" for name in names]
    more = [f"{len(all_names) - _NAMED} more"] if len(all_names) > _NAMED else []
    return ", ".join(all_names[:_NAMED] + more) or "none"
