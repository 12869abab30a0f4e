"""A bounded cache of byte strings, shared by threads."""

from threading import Lock


class ByteCache:
    """Byte strings by integer key; the oldest go first when `limit` bytes are exceeded."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._items: dict[int, bytes] = {}
        self._lock = Lock()

    def get(self, key: int) -> bytes | None:
        """The bytes at `key`, or None."""
        return self._items.get(key)

    def put(self, key: int, value: bytes) -> None:
        """Keep `value`, and drop the oldest when there is no room."""
        with self._lock:
            if key in self._items:
                return
            self._items[key] = value
            self._size += len(value)
            while self._size > self._limit and len(self._items) > 1:
                oldest = next(iter(self._items))
                self._size -= len(self._items.pop(oldest))
