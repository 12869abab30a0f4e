"""When the database or the disk fails under a job: short absences are waited out, others told.

What a job has committed stays, so a retry goes on from there.
"""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from app.errors import Problem, Unavailable

T = TypeVar("T")

log = logging.getLogger("saescope.jobs")

PATIENCE_S = 60.0
"""Seconds that a database may be away."""
AGAIN_S = 1.0
RUNS = 3
"""Of a step that a database cuts off in the middle."""

_AWAY = (OperationalError, InterfaceError)
_STOOD_STILL = "25P03"
"""Postgres has ended the session of a process that stood still inside a transaction."""
_RETRY = "then `saescope jobs retry` goes on with this job from its last completed unit"


def waiting_out(write: Callable[[], T], patience_s: float | None = None) -> T:
    """Do what may be repeated, again and again while the database is away."""
    deadline = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    while True:
        try:
            return write()
        except DBAPIError as error:
            if not _is_away(error) or time.monotonic() > deadline:
                raise
            log.warning("The database does not answer (%s); trying again", _first_line(error))
        time.sleep(AGAIN_S)


def outliving(step: Callable[[], T]) -> T:
    """Run a step that goes on from what it has committed, anew when the database cut it off. It is
    the step that waits, before it does anything, until the database is back."""
    for _ in range(RUNS - 1):
        try:
            return step()
        except DBAPIError as error:
            if not _is_away(error):
                raise
            log.warning("The database cut a job off (%s); it goes on", _first_line(error))
    return step()


def told(error: Exception) -> Problem | None:
    """The problem behind an error of database or disk, None for any other."""
    if _disk_is_full(error):
        return Unavailable(f"The disk is full; free some, {_RETRY}.")
    if isinstance(error, DBAPIError) and _is_away(error):
        return Unavailable(
            f"The database does not answer ({_first_line(error)}); bring it back, {_RETRY}."
        )
    return None


def _is_away(error: DBAPIError) -> bool:
    stood_still = getattr(error.orig, "sqlstate", None) == _STOOD_STILL
    return (isinstance(error, _AWAY) or stood_still) and not _disk_is_full(error)


def _disk_is_full(error: Exception) -> bool:
    if isinstance(error, DBAPIError):
        return "disk is full" in str(error.orig) or "No space left" in str(error.orig)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
