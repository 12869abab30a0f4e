"""A stream of documents from a file, a folder of files, or the Hugging Face hub.

Nothing is ever held in memory whole. Blank texts are no documents.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from fsspec import AbstractFileSystem
from huggingface_hub import HfFileSystem

from app.errors import BadRequest, NotFound
from worker.text.columns import check_column, on_disk, read_column
from worker.text.folder import find_files
from worker.text.formats import FORMATS, format_of
from worker.text.hub import find_on_hub, hub_problems
from worker.text.lines import read_lines


def read_texts(path: Path, text_field: str = "text") -> Iterator[str]:
    """Stream the documents of a file in its order, or of a folder's files in the order of their names;
    `text_field` is the field or column that holds the text, where there are any.

    Raises:
        NotFound: there is nothing at `path`; raised at once.
        BadRequest: nothing there is of a known format, or a file has no such column of text, raised
            at once; while reading, the first thing that cannot be read, by file and place, or the end
            of it all without any document.
    """
    if not path.exists():
        raise NotFound(f"There is no file {path}; give the path of a text file: {FORMATS}.")
    files = find_files(path) if path.is_dir() else [path]
    readers = [_reader(file, text_field) for file in files]
    return _some(path.name, chain.from_iterable(read() for read in readers))


def read_hub_texts(
    dataset: str, text_field: str = "text", hub: AbstractFileSystem | None = None
) -> Iterator[str]:
    """Stream the documents of a dataset of the hub, `owner/name` or `owner/name/configuration`.

    Raises:
        BadRequest: the hub does not give it, or it has no such column of text, raised at once; while
            reading, when the hub stops to answer.
    """
    hub = hub or HfFileSystem()
    files = find_on_hub(dataset, hub)
    with hub_problems(dataset):
        check_column(files[0], text_field)
    texts = chain.from_iterable(read_column(file, text_field) for file in files)
    return _some(dataset, _told(dataset, texts))


def _told(dataset: str, texts: Iterator[str]) -> Iterator[str]:
    with hub_problems(dataset):
        yield from texts


def _reader(path: Path, text_field: str) -> Callable[[], Iterator[str]]:
    if format_of(path) in (".parquet", ".arrow"):
        check_column(on_disk(path), text_field)
        return lambda: read_column(on_disk(path), text_field)
    return lambda: read_lines(path, text_field)


def _some(name: str, texts: Iterator[str]) -> Iterator[str]:
    found = False
    for text in texts:
        if text.strip():
            found = True
            yield text
    if not found:
        raise BadRequest(f"{name} holds no text; a corpus needs at least one document.")
