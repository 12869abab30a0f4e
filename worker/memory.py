"""How much memory there is."""

import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container, `max` without one (Linux)."""


def memory_of(device: torch.device) -> int:
    """Bytes that a device has; on the CPU no more than this container may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else "max"
    return host if limit == "max" else min(host, int(limit))
