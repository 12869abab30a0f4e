"""A column of text in a Parquet file, or in an Arrow stream, which is what `datasets` saves.

Rows are decoded a few at a time: a Parquet file is read by pages of its row groups, an Arrow stream
is mapped. A null is no document.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc, parquet

from app.errors import BadRequest
from worker.folders import one_line
from worker.text.record import listed

_ROWS = 256
"""Decoded at a time."""
_BUFFER = 2**20
"""Bytes of a Parquet file that are read at a time."""


def check_column(path: Path, name: str) -> None:
    """Read what columns there are.

    Raises:
        BadRequest: none of this name, it holds no text, or the file cannot be read.
    """
    with _problems_of(path):
        schema = _schema(path)
    if name not in schema.names:
        raise BadRequest(
            f"{path.name} has no column `{name}` (columns there: {listed(schema.names)}); name the "
            "column that holds the text."
        )
    kind = schema.field(name).type
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise BadRequest(
            f"{path.name}: the column `{name}` holds {str(kind)[:40]}, not text; name a column of text."
        )


def read_column(path: Path, name: str) -> Iterator[str]:
    """The texts of a column that `check_column` has passed.

    Raises:
        BadRequest: a part of the file cannot be read.
    """
    arrays = _of_parquet(path, name) if path.suffix == ".parquet" else _of_stream(path, name)
    with _problems_of(path):
        for array in arrays:
            for start in range(0, len(array), _ROWS):
                yield from (text or "" for text in array[start : start + _ROWS].to_pylist())


def _of_parquet(path: Path, name: str) -> Iterator[pa.Array]:
    with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
        for batch in file.iter_batches(_ROWS, columns=[name], use_threads=False):
            yield batch.column(name)


def _of_stream(path: Path, name: str) -> Iterator[pa.Array]:
    with pa.memory_map(str(path)) as file, ipc.open_stream(file) as batches:
        for batch in batches:
            yield batch.column(name)


def _schema(path: Path) -> pa.Schema:
    if path.suffix == ".parquet":
        return parquet.read_schema(path)
    with pa.memory_map(str(path)) as file, ipc.open_stream(file) as batches:
        return batches.schema


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


@contextmanager
def _problems_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"{path.name} cannot be read ({one_line(error)}); write the file again."
        ) from error
