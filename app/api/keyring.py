"""Keys in memory: read from the shelf again and again, and what they ask for counted.

A key that was revoked, or made, is known within `REFRESH_S`. Requests of a day are of all API processes
together, and may be as many more than allowed as come within `REFRESH_S`; requests of a minute are
counted in each process.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from app.errors import TooMany, Unavailable
from app.keys import Key, matches, split
from app.store import keys
from app.store.engine import Shelf

REFRESH_S = 2.0
PATIENCE_S, FIRST_S = 0.5, 10.0
"""How long a request waits for keys that are read anew, and for the first ones."""
_log = logging.getLogger(__name__)


@dataclass
class _Known:
    """What was read last."""

    keys: dict[str, Key]
    """Those that are valid."""
    is_empty: bool
    """Whether there was never one: when the last is revoked, the service is nobody's, not everybody's."""
    counted: dict[str, int]
    """Requests of the day."""


@dataclass
class Keyring:
    """The keys that are valid now."""

    shelf: Shelf
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _known: _Known | None = None
    _asked_at: float = -math.inf
    _reading: Future[None] | None = None
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "keys"))
    _used: dict[str, datetime] = field(default_factory=dict)
    _counted: Counter[str] = field(default_factory=Counter)
    """Requests that are not on the shelf yet."""
    _sent: Counter[str] = field(default_factory=Counter)
    """Those that are being written, or could not be."""
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Requests that a key may make at once, and when that was so."""

    async def is_empty(self) -> bool:
        """Whether there was never a key."""
        return (await self._current()).is_empty

    def knows(self, id: str) -> bool:
        """Whether a key is valid, as far as was read last; never waits."""
        self._read_again(time.monotonic())
        return self._known is None or id in self._known.keys

    async def find(self, text: str) -> Key | None:
        """The key that somebody sent, if it is one."""
        known, parts = await self._current(), split(text)
        id, secret = parts or ("", "")
        key = known.keys.get(id)
        return key if matches(key, secret) else None

    async def take(self, key: Key) -> None:
        """Count a request. Raises TooMany where that is one too many."""
        known = await self._current()
        self._check_day(key, known)
        self._check_minute(key)
        self._used[key.id] = self.now()
        self._counted[key.id] += 1

    async def close(self) -> None:
        """Bring the last requests onto the shelf, where the database answers."""
        if self._known:
            last = asyncio.wrap_future(self._thread.submit(self._refresh))
            await asyncio.wait({last}, timeout=PATIENCE_S + REFRESH_S)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _check_day(self, key: Key, known: _Known) -> None:
        made = known.counted.get(key.id, 0) + self._sent[key.id] + self._counted[key.id]
        if key.per_day is not None and made >= key.per_day:
            now = self.now()
            left = 86_400 - (now.hour * 3_600 + now.minute * 60 + now.second)
            raise TooMany(f"This key may make {key.per_day:,} requests a day (UTC).", left)

    def _check_minute(self, key: Key) -> None:
        """A bucket that fills evenly, and holds a minute's requests."""
        if key.per_minute is None:
            return
        now = time.monotonic()
        left, since = self._left.get(key.id, (float(key.per_minute), now))
        left = min(key.per_minute, left + (now - since) * key.per_minute / 60)
        if left < 1:
            wait = math.ceil((1 - left) * 60 / key.per_minute)
            raise TooMany(f"This key may make {key.per_minute:,} requests a minute.", wait)
        self._left[key.id] = left - 1, now

    async def _current(self) -> _Known:
        """What is known, not much older than `REFRESH_S` where the database answers soon."""
        now = time.monotonic()
        self._read_again(now)
        if self._reading and not self._reading.done():
            patience = PATIENCE_S if self._known else FIRST_S
            left = max(0.0, self._asked_at + patience - now)
            await asyncio.wait({asyncio.wrap_future(self._reading)}, timeout=left)
        if self._known is None:
            raise Unavailable("The database does not answer, so keys cannot be looked up.")
        return self._known

    def _read_again(self, now: float) -> None:
        """Begin to, where that was long ago."""
        if now - self._asked_at >= REFRESH_S and (self._reading is None or self._reading.done()):
            self._asked_at, self._reading = now, self._thread.submit(self._refresh)

    def _refresh(self) -> None:
        """Keys that were read before are good for as long as the database is away."""
        try:
            self._known = self._exchange()
        except SQLAlchemyError as error:
            _log.warning("Keys cannot be read now: %s", error)

    def _exchange(self) -> _Known:
        self._write()
        day = self.now().date()
        every = keys.all_of_them(self.shelf)
        valid = {key.id: key for key in every if key.revoked_at is None}
        return _Known(valid, not every, keys.counted(self.shelf, day))

    def _write(self) -> None:
        used, self._used = self._used, {}
        self._sent, self._counted = self._sent + self._counted, Counter()
        if not self._sent:
            return
        keys.count(self.shelf, used, self._sent, self.now().date())
        if self._known:
            self._known.counted = dict(self._sent + Counter(self._known.counted))
        self._sent = Counter()
