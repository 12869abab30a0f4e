"""How much memory there is, and what it looks like when it was not enough."""

import gc
import os
import traceback
from pathlib import Path

import torch

from app.errors import Unavailable

_CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container, `max` without one (Linux)."""


def memory_of(device: torch.device) -> int:
    """Bytes that a device has; on the CPU no more than this container may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else "max"
    return host if limit == "max" else min(host, int(limit))


def release() -> None:
    """Give memory back that was dropped: a model and the hooks on it refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def forget(error: BaseException) -> bool:
    """Whether something failed for want of memory. If so, what its frames hold is given back: it may
    be tried again, or something smaller."""
    if not lacked_memory(error):
        return False
    traceback.clear_frames(error.__traceback__)
    release()
    return True


def lacked_memory(error: BaseException) -> bool:
    """Whether something failed because memory could not be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On the CPU torch says so in words only; what C++ raises reaches Python under its name.
    told = str(error) if isinstance(error, RuntimeError) else ""
    return "DefaultCPUAllocator" in told or "bad_alloc" in told


def no_memory() -> Unavailable:
    """What is said to whoever asked for something that did not fit."""
    return Unavailable(
        "There is not enough memory for this request now. Ask for fewer texts, tokens or SAEs at once, "
        "or try again when fewer requests are running."
    )
