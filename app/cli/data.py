"""Commands that look after the data: `backup`, `restore`, `gc`."""


def backup() -> None:
    """x"""


def restore() -> None:
    """x"""


def gc() -> None:
    """x"""
