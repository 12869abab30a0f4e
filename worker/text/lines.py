"""Text files of lines: `.txt` holds a document a line, `.jsonl` an object a line with the text in one
of its fields; either may be gzipped (`.gz`).
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from app.errors import BadRequest
from worker.text.formats import format_of
from worker.text.record import NoDocument, text_of

LONGEST = 2**28
"""Bytes of a line, which is read into memory whole."""


def read_lines(path: Path, text_field: str) -> Iterator[str]:
    """The text of each line, in order; `text_field` is for `.jsonl`.

    Raises:
        BadRequest: the first bad line, by file and number.
    """
    if format_of(path) == ".txt":
        return _documents(path, lambda line: line)
    return _documents(path, lambda line: _field(line, text_field))


def _documents(path: Path, parse: Callable[[str], str]) -> Iterator[str]:
    for number, raw in _lines(path):
        try:
            line = _decode(raw, number)
            yield parse(line) if line.strip() else ""
        except NoDocument as error:
            raise BadRequest(f"{path.name}, line {number}: {error}.") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    with cast(BinaryIO, opener(path, "rb")) as file:
        try:
            while raw := file.readline(LONGEST + 2):
                number += 1
                if len(raw.rstrip(b"\r\n")) > LONGEST:
                    raise BadRequest(
                        f"{path.name}, line {number} is longer than {LONGEST:,} bytes; a line holds one "
                        "document."
                    )
                yield number, raw
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise BadRequest(
                f"{path.name} is broken after line {number} ({error}); compress the text again."
            ) from error


def _decode(raw: bytes, number: int) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        raise NoDocument(
            f"not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8"
        ) from error


def _field(line: str, name: str) -> str:
    """The text in a JSON line; a lone surrogate, which JSON can spell, fits no tokenizer."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise NoDocument(f"not a JSON object but {line[:40]}; write one object a line")
        text = text_of(record, name)
        text.encode()
    except json.JSONDecodeError as error:
        raise NoDocument(
            f"not JSON ({error.msg} at column {error.colno}); write one object a line"
        ) from error
    except UnicodeEncodeError as error:
        raise NoDocument(
            f"`{name}` holds half a surrogate pair at character {error.start + 1}; repair the text"
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nesting that Python does not take
        raise NoDocument("JSON that is too deep, or a number that is too long") from error
    return text
