"""The calls in README.md, run against a service: `python -m tests.flow.readme URL` writes what they
print into the page; the test compares the page with what they print now.

A call is a `console` block: `$ curl ...` up to the quote that ends a line, then its answer, long
lists and texts cut at `…`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```console\n(\$ curl [\s\S]*?')\n([\s\S]*?)```")
SHOWN_URL = "http://127.0.0.1:8000"
WIDTH, ITEMS, LONG, CHARACTERS = 98, 3, 30, 88


def calls() -> list[tuple[str, str]]:
    """(command, answer as shown) of every call on the page."""
    return [(found[1], found[2]) for found in BLOCK.finditer(README.read_text())]


def run(command: str, url: str) -> Any:
    """What a call answers; raises when curl fails or the answer is no JSON."""
    script = command.removeprefix("$ ").replace(SHOWN_URL, url)
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def shape(value: Any) -> Any:
    """An answer without its numbers and texts, to compare pages from different machines."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__


def shown(value: Any) -> str:
    """An answer as the page shows it."""
    return _lines(_cut(value), 0) + "\n"


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(part) for key, part in value.items()}
    if isinstance(value, list):
        kept = [_cut(part) for part in value[:ITEMS]]
        kept = kept[:1] if len(json.dumps(kept[:1])) > LONG else kept
        return kept + (["…"] if len(value) > len(kept) else [])
    if isinstance(value, str) and len(value) > CHARACTERS:
        return value[:CHARACTERS] + "…"
    return round(value, 4) if isinstance(value, float) else value


def _lines(value: Any, depth: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + 2 * depth <= WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    pad = "  " * (depth + 1)
    if isinstance(value, list):
        return "[" + ", ".join(_lines(part, depth) for part in value) + "]"
    parts = [f"{json.dumps(key)}: {_lines(part, depth + 1)}" for key, part in value.items()]
    return "{\n" + "".join(f"{line}\n" for line in _filled(parts, pad)) + "  " * depth + "}"


def _filled(parts: list[str], pad: str) -> list[str]:
    """Members of an object, as many on a line as fit."""
    lines: list[str] = []
    for number, part in enumerate(parts):
        told = part + ("," if number < len(parts) - 1 else "")
        fits = lines and len(lines[-1]) + len(told) < WIDTH and "\n" not in lines[-1] + told
        if fits:
            lines[-1] += " " + told
        else:
            lines.append(pad + told)
    return lines


def write(url: str) -> None:
    """Put the answers of a running service into the page."""

    def answered(found: re.Match[str]) -> str:
        return f"```console\n{found[1]}\n{shown(run(found[1], url))}```"

    README.write_text(BLOCK.sub(answered, README.read_text()))


if __name__ == "__main__":
    write(sys.argv[1])
