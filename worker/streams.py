"""Streams: what lets a CUDA device compute while the host does something else.

A device does what it is asked in streams, in order within each. On other devices everything here is
done at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Send what the block asks of a device to a stream of its own, behind all that was asked before
    and before all that is asked after."""
    if device.type != "cuda":
        yield
        return
    outer, own = torch.cuda.current_stream(device), _stream(device, "own")
    own.wait_stream(outer)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        outer.wait_stream(own)


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy from the host; the host does not wait, as the copy goes through pinned memory."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@cache
def _stream(device: torch.device, use: Literal["own", "copies"]) -> torch.cuda.Stream:
    """One for each use for good: memory that the allocator keeps is kept by stream."""
    return torch.cuda.Stream(device)


class HostCopies:
    """Copies to the host, on a stream of their own beside the device's work."""

    def __init__(self, device: torch.device) -> None:
        self._stream = _stream(device, "copies") if device.type == "cuda" else None

    def begin(self, values: torch.Tensor) -> "HostCopy":
        """Begin to copy what the current stream computes."""
        if self._stream is None:
            return HostCopy(values.cpu(), None)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(values.device))
        with torch.cuda.stream(self._stream):
            host.copy_(values, non_blocking=True)
            # The allocator may give the memory to the computing stream only after the copy.
            values.record_stream(self._stream)
        done = torch.cuda.Event()
        done.record(self._stream)
        return HostCopy(host, done)


class HostCopy:
    """A copy under way."""

    def __init__(self, values: torch.Tensor, done: torch.cuda.Event | None) -> None:
        self._values, self._done = values, done

    def wait(self) -> torch.Tensor:
        """The copy, once it is complete; from any thread."""
        if self._done is not None:
            self._done.synchronize()
        return self._values
