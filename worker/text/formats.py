"""Formats of text files, by the end of their names."""

from pathlib import Path

from app.errors import BadRequest

FORMATS = ".txt (a document a line) or .jsonl (an object a line), gzipped (.gz) or not, .parquet or .arrow"
_LINES, _COLUMNS = (".txt", ".jsonl"), (".parquet", ".arrow")


def is_text(path: Path) -> bool:
    """Whether a file is of a known format."""
    return path.suffix in _COLUMNS or _plain(path).suffix in _LINES


def format_of(path: Path) -> str:
    """`.txt`, `.jsonl`, `.parquet` or `.arrow`.

    Raises:
        BadRequest: none of these.
    """
    if not is_text(path):
        raise BadRequest(f"{path.name} is of no format that can be read; use {FORMATS}.")
    return _plain(path).suffix


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".gz" else path
