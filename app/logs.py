"""Logs of all processes: a line for each event on stderr, as text or as JSON, with the id of the request
that it belongs to.

What users send stays out of them. The message of an exception may repeat it (a validation error its
input, a template what it was given), so a traceback has places and types; it has messages of the kinds
alone that tell of the machine. `SAESCOPE_LOG_LEVEL=debug` shows them all.
"""

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from app.settings import Settings

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being answered."""
OURS = ("app", "worker", "saescope", "uvicorn")
"""Loggers that have the level of the settings; of all others it is what goes wrong."""
_LOUD = (OSError, MemoryError)
_LOUD_NAMES = frozenset(
    {"OperationalError", "InterfaceError", "OutOfMemoryError", "AcceleratorError"}
)
"""Exceptions of databases and devices, which are not imported here."""
_HIDDEN = "(message left out; SAESCOPE_LOG_LEVEL=debug shows it)"


def set_up(process: str, settings: Settings) -> None:
    """Send what this process logs, and what it warns of, to stderr."""
    debugging = settings.log_level == "debug"
    handler = logging.StreamHandler()
    shape = _Json if settings.log_format == "json" else _Text
    handler.setFormatter(shape(process, debugging))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    # With a handler there, DBOS brings none of its own.
    dbos = logging.getLogger("dbos")
    dbos.handlers, dbos.propagate = [logging.NullHandler()], True
    warnings.showwarning = _Warnings(debugging)
    # What no line shows costs time in each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class _Text(logging.Formatter):
    """`2026-11-27T19:20:00.123Z INFO app.api.health: message request_id=3f9a...`"""

    def __init__(self, process: str, debugging: bool) -> None:
        super().__init__()
        self._process = process
        self._debugging = debugging

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}"
        for name, value in _fields(record).items():
            line += f" {name}={value}"
        error = record.exc_info and record.exc_info[1]
        return line + "\n" + _told(error, self._debugging) if error else line


class _Json(_Text):
    """An object, whose fields are in docs/operations.md."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        if record.exc_info and (error := record.exc_info[1]):
            told["error"] = _name(error)
            told["traceback"] = _told(error, self._debugging)
        return orjson.dumps(told, default=str).decode()


class _Warnings:
    """`warnings.showwarning`: what is warned of, and where; pydantic's, for one, repeat values."""

    def __init__(self, debugging: bool) -> None:
        self._debugging = debugging

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        *_: object,
    ) -> None:
        told = message if self._debugging else _HIDDEN
        _warned.warning("%s at %s:%d: %s", category.__name__, filename, lineno, told)


_warned = logging.getLogger("py.warnings")


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    told = record.getMessage()
    # Its other lines show the task that failed, with the exception's message.
    return told.partition("\n")[0] if record.name == "asyncio" else told.rstrip()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra={"fields": ...}` brings, and the request that is being answered."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    request_id = REQUEST_ID.get()
    return {**fields, "request_id": request_id} if request_id else fields


def _told(error: BaseException, debugging: bool) -> str:
    """A traceback, the causes of an error above it."""
    if debugging:
        return "".join(traceback.format_exception(error)).rstrip()
    return "".join(_parts(error, set())).rstrip()


def _parts(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _parts(cause, seen)
        yield "from which came\n"
    yield from traceback.format_list(traceback.extract_tb(error.__traceback__))
    loud = isinstance(error, _LOUD) or type(error).__name__ in _LOUD_NAMES
    # Of a database's error the driver's part: the other one is the statement.
    yield f"{_name(error)}: {getattr(error, 'orig', error) if loud else _HIDDEN}\n"
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _parts(one, seen)


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
