"""Text of a corpus: a stream of documents from a file.

`.txt` holds a document a line, `.jsonl` an object a line with the text in one of its fields; either
may be gzipped (`.gz`). The file is never held in memory. Blank lines are no documents.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from app.errors import BadRequest, NotFound

_FORMATS = ".txt (a document a line) or .jsonl (an object a line), gzipped (.gz) or not"


def read_texts(path: Path, text_field: str = "text") -> Iterator[str]:
    """Stream the documents of the file at `path` in its order; `text_field` is for `.jsonl`.

    Raises:
        NotFound: there is no such file; raised at once.
        BadRequest: its name is of no known format, raised at once; while reading, the first bad
            line, by file and number, or the end of a file without any document.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}; give the path of a text file: {_FORMATS}.")
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".txt":
        return _documents(path, lambda line: line)
    if plain.suffix == ".jsonl":
        return _documents(path, lambda line: _field(line, text_field))
    raise BadRequest(f"{path.name} is of no format that can be read; use {_FORMATS}.")


class _BadLine(Exception):
    """Why a line is no document, for the end of a sentence."""


def _documents(path: Path, parse: Callable[[str], str]) -> Iterator[str]:
    found = False
    for number, raw in _lines(path):
        try:
            line = _decode(raw, number)
            text = parse(line) if line.strip() else ""
        except _BadLine as error:
            raise BadRequest(f"{path.name}, line {number}: {error}.") from error
        if text.strip():
            found = True
            yield text
    if not found:
        raise BadRequest(f"{path.name} holds no text; a corpus needs at least one document.")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    with cast(BinaryIO, opener(path, "rb")) as file:
        try:
            for raw in file:
                number += 1
                yield number, raw
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise BadRequest(
                f"{path.name} is broken after line {number} ({error}); compress the text again."
            ) from error


def _decode(raw: bytes, number: int) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        raise _BadLine(
            f"not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8"
        ) from error


def _field(line: str, name: str) -> str:
    """The text in a JSON line; a lone surrogate, which JSON can spell, fits no tokenizer."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise _BadLine(f"not a JSON object but {line[:40]}; write one object a line")
        text = _text_of(record, name)
        text.encode()
    except json.JSONDecodeError as error:
        raise _BadLine(
            f"not JSON ({error.msg} at column {error.colno}); write one object a line"
        ) from error
    except UnicodeEncodeError as error:
        raise _BadLine(
            f"`{name}` holds half a surrogate pair at character {error.start + 1}; repair the text"
        ) from error
    return text


def _text_of(record: dict[str, object], name: str) -> str:
    text = record.get(name)
    if isinstance(text, str):
        return text
    if name in record:
        raise _BadLine(f"`{name}` holds {type(text).__name__}, not text; name a field of text")
    there = ", ".join(f"`{key}`" for key in record) or "none"
    raise _BadLine(f"no field `{name}` (fields there: {there}); name the field that holds the text")
