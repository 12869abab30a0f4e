"""Columns of numbers, appended to files in a thread of its own, so that model and encoders go on."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from worker.streams import HostCopies, HostCopy

_WAITING = 3
"""Tensors that may wait to be written: the columns of a segment."""


class Appender:
    """Appends tensors to files, each file's in the order in which they come, until it is closed."""

    def __init__(self, device: torch.device) -> None:
        self._copies = HostCopies(device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="appender")
        self._pending: deque[Future[None]] = deque()

    def append(self, file: Path, values: torch.Tensor) -> None:
        """Have a tensor written soon; it must not change any more.

        Raises:
            OSError: an earlier one could not be written.
        """
        self._pending.append(self._thread.submit(_write, file, self._copies.begin(values)))
        self._settle(_WAITING)

    def settle(self) -> None:
        """Wait until everything is written.

        Raises:
            OSError: something could not be written.
        """
        self._settle(0)

    def close(self) -> None:
        """Let nothing more be written, also when something has failed or was not settled."""
        self._thread.shutdown(cancel_futures=True)

    def _settle(self, waiting: int) -> None:
        while len(self._pending) > waiting:
            self._pending.popleft().result()


def _write(file: Path, copy: HostCopy) -> None:
    with file.open("ab") as opened:
        opened.write(copy.wait().numpy().data)
