"""Numbers as people read them."""

import json
import re
from typing import Any


def number(value: float) -> str:
    """Three digits that tell: 12.3, 0.0456, 1,230."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(value: float) -> str:
    """A share in percent: 0.98%, 12%."""
    percent = 100 * value
    if percent and abs(percent) < 0.001:
        return f"{percent:.0e}%"
    return f"{percent:.3g}%" if abs(percent) < 10 else f"{percent:.1f}%"


def count(value: int) -> str:
    """1,024"""
    return f"{value:,}"


def plain(value: float) -> str:
    """All digits that it has, for a form or an address: 1, 0.25"""
    return repr(value).removesuffix(".0")


def brief(text: str) -> str:
    """The beginning of a fingerprint, which tells it from others; anything else whole."""
    return f"{text[:12]}…" if re.fullmatch("[0-9a-f]{32,}", text) else text


def pretty(value: Any) -> str:
    """A record as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
