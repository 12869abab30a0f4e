"""Text of a growing list of tokens, never showing what a later token may change.

Bytes of tokens are decoded as UTF-8; bytes of an unfinished character are held back, and so is a
tail that may be the beginning of a stop string. The text ends before the first stop string.
"""

import codecs


class Detokenizer:
    """Bytes in, safe text out. `text` only ever grows."""

    def __init__(self, stop: list[str]) -> None:
        self.text = ""
        self.stopped = False
        self._stop = stop
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, piece: bytes) -> None:
        """Add the bytes of a token; sets `stopped` when they complete a stop string."""
        self._accept(self._decoder.decode(piece))

    def flush(self) -> None:
        """No more tokens: release what is held back, an unfinished character as U+FFFD."""
        self._accept(self._decoder.decode(b"", final=True))
        self.text, self._held = self.text + self._held, ""

    def _accept(self, new: str) -> None:
        if self.stopped:
            return
        self._held += new
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            self.text, self._held = self.text + self._held[: min(found)], ""
            return
        safe = len(self._held) - self._unsure()
        self.text, self._held = self.text + self._held[:safe], self._held[safe:]

    def _unsure(self) -> int:
        """Length of the longest tail that begins a stop string."""
        return max((_overlap(self._held, stop) for stop in self._stop), default=0)


def _overlap(text: str, stop: str) -> int:
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
