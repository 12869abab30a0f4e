"""Memory that encoders write intermediate results to and use again.

On the CPU fresh memory costs a fifth of the multiplication that fills it.
"""

import threading
from math import prod

import torch


class Scratch(threading.local):
    """One buffer a device and number format for all encoders of a thread, as large as the largest
    that any of them took. What is in it is void once anyone takes it again."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def take(
        self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """A tensor of this shape, holding anything."""
        size, key = prod(shape), (device, dtype)
        if key not in self._buffers or len(self._buffers[key]) < size:
            self._buffers.pop(key, None)  # before the larger one is made
            # Outside of inference mode such a tensor can be written to from anywhere.
            with torch.inference_mode(False):
                self._buffers[key] = torch.empty(size, device=device, dtype=dtype)
        return self._buffers[key][:size].view(shape)


scratch = Scratch()
