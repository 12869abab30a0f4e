"""A column of text in a Parquet file, or in an Arrow stream, which is what `datasets` saves.

Rows are decoded a few at a time: a Parquet file is read by pages of its row groups, an Arrow stream
is mapped. A null is no document.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import ipc, parquet

from app.errors import BadRequest
from worker.folders import one_line
from worker.text.record import listed

_ROWS = 256
"""Decoded at a time."""
_BUFFER = 2**20
"""Bytes of a Parquet file that are read at a time."""


class Columns(NamedTuple):
    """A file of columns, wherever it is."""

    name: str
    """As sentences name it."""
    is_parquet: bool
    """Or else an Arrow stream."""
    open: Callable[[], Any]
    """The file, open for reading."""


def on_disk(path: Path) -> Columns:
    """A `.parquet` or `.arrow` file."""
    if path.suffix == ".parquet":
        return Columns(path.name, True, lambda: path.open("rb"))
    return Columns(path.name, False, lambda: pa.memory_map(str(path)))


def check_column(file: Columns, column: str) -> None:
    """Read what columns there are.

    Raises:
        BadRequest: none of this name, it holds no text, or the file cannot be read.
    """
    with _problems_of(file), file.open() as opened:
        schema = parquet.read_schema(opened) if file.is_parquet else ipc.open_stream(opened).schema
    if column not in schema.names:
        raise BadRequest(
            f"{file.name} has no column `{column}` (columns there: {listed(schema.names)}); name the "
            "column that holds the text."
        )
    kind = schema.field(column).type
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise BadRequest(
            f"{file.name}: the column `{column}` holds {str(kind)[:40]}, not text; name a column of "
            "text."
        )


def read_column(file: Columns, column: str) -> Iterator[str]:
    """The texts of a column that `check_column` has passed.

    Raises:
        BadRequest: a part of the file cannot be read.
    """
    with _problems_of(file), file.open() as opened:
        for batch in _batches(opened, column) if file.is_parquet else ipc.open_stream(opened):
            array = batch.column(column)
            array.validate(full=True)  # a stream's offsets may point anywhere in memory
            for start in range(0, len(array), _ROWS):
                yield from (text or "" for text in array[start : start + _ROWS].to_pylist())


def _batches(opened: Any, column: str) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(opened, buffer_size=_BUFFER, pre_buffer=False) as file:
        yield from file.iter_batches(_ROWS, columns=[column], use_threads=False)


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


@contextmanager
def _problems_of(file: Columns) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"{file.name} cannot be read ({one_line(error)}); check that the file is whole."
        ) from error
