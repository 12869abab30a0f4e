"""Keys and values of a batch whose rows come and go: slots instead of concatenation.

One buffer per layer `[slots, kv_heads, max_len, head_dim]`, in which a key's index is its absolute
position. The rows in use are always 0 .. n-1. A row that joins is prefilled by itself (right-padded,
causal only: pads lie to the right of every real token, so no real token sees one), or a long prompt
piece by piece; a row that leaves is overwritten by the last row. Nothing is concatenated, shifted or
prefilled again.

Rows share the length of the longest, so pads and a row's unused positions are read, with weight 0.
What is not a number would pass through that, and a row's edits may make such numbers of its pads
alone, so pads are zeros and a row that failed is cleared.

`SlotCache` has the methods that attention and mask building in transformers call on a cache.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedConfig

from worker.live.sharing import Sharing


@dataclass(frozen=True)
class CacheShape:
    """Size of one row's keys (and as much again for its values)."""

    layers: int
    kv_heads: int
    max_len: int
    head_dim: int

    @classmethod
    def of(cls, config: PreTrainedConfig, max_len: int) -> "CacheShape":
        """The shape that a model's attention needs."""
        heads = config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            max_len=max_len,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        )

    def row_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of one slot, keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.max_len * self.head_dim * dtype.itemsize


class SlotCache:
    """What a forward of the model reads and writes as `past_key_values`."""

    is_compileable = False

    def __init__(
        self,
        shape: CacheShape,
        slots: int,
        device: torch.device,
        dtype: torch.dtype,
        sharing: Sharing,
    ) -> None:
        size = (slots, shape.kv_heads, shape.max_len, shape.head_dim)
        self.keys = [_zeros(size, device, dtype) for _ in range(shape.layers)]
        self.values = [_zeros(size, device, dtype) for _ in range(shape.layers)]
        self.is_sliding = [False] * shape.layers
        self._sharing = sharing
        self._rows = slice(0, 0)
        self._begin = self._length = 0
        self._position: torch.Tensor | None = None
        self._real: torch.Tensor | None = None

    def begin_prefill(
        self, first: int, count: int, length: int, real: Bool[torch.Tensor, "n length"] | None
    ) -> None:
        """The next forward writes positions 0 .. length-1 of new rows from `first` on.

        `real` is False at padding; None when there is none.
        """
        self._rows, self._begin = slice(first, first + count), 0
        self._length, self._position = length, None
        self._real = None if real is None else real[:, None, :, None]

    def begin_piece(self, rows: slice, begin: int, end: int) -> None:
        """The next forward writes positions `begin` to `end` of rows and reads all before `end`."""
        self._rows, self._begin = rows, begin
        self._length, self._position, self._real = end, None, None

    def begin_decode(self, position: Int[torch.Tensor, "n"], span: int) -> None:
        """The next forward writes one position of each row 0 .. n-1 and reads the first `span`."""
        self._rows, self._length, self._position = slice(0, len(position)), span, position
        self._row_index = torch.arange(len(position), device=position.device)

    def update(
        self,
        key: Float[torch.Tensor, "n heads t head_dim"],
        value: Float[torch.Tensor, "n heads t head_dim"],
        layer_idx: int,
        *_args: object,
        **_kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one layer's new keys and values; return those that the queries attend to."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        if self._position is None:
            return self._extend(keys, key), self._extend(values, value)
        keys[self._row_index, :, self._position] = key[:, :, 0]
        values[self._row_index, :, self._position] = value[:, :, 0]
        return keys[self._rows, :, : self._length], values[self._rows, :, : self._length]

    def _extend(self, buffer: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Write several positions of all rows; give what the rows that run attend to."""
        new = self._sharing.expand(new)
        new = new if self._real is None else torch.where(self._real, new, 0)
        buffer[self._rows, :, self._begin : self._length] = new
        whole = new if self._begin == 0 else buffer[self._rows, :, : self._length]
        return self._sharing.narrow(whole)

    def move(self, source: int, target: int, length: int) -> None:
        """Overwrite a row by the first `length` positions of another."""
        for buffer in (*self.keys, *self.values):
            buffer[target, :, :length] = buffer[source, :, :length]

    def clear(self, row: int) -> None:
        """Forget a row whose numbers may not be finite."""
        for buffer in (*self.keys, *self.values):
            buffer[row] = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """0: positions are always passed explicitly."""
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """0: only a whole prefill builds its mask from here, and it starts at position 0."""
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """(Number of keys, offset of the first one) of the forward under way."""
        return self._length, 0

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        """-1: no limit that transformers would have to keep."""
        return -1


def causal_mask(
    config: PreTrainedConfig,
    position: Int[torch.Tensor, "n t"],
    span: int,
    dtype: torch.dtype,
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Attention mask `[n, 1, t, span]`: each token sees its own position and those before it, in
    sliding layers only the last ones; by kind of layer where both exist.
    """
    key = torch.arange(span, device=position.device)
    full = key <= position[..., None]
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    window = getattr(config, "sliding_window", None)
    if window is None or span <= window or kinds == {"full_attention"}:
        return _as_attention_takes_it(full, config, dtype)
    sliding = full & (key > position[..., None] - window)
    masks = {"full_attention": full, "sliding_attention": sliding}
    taken = {kind: _as_attention_takes_it(masks[kind], config, dtype) for kind in kinds}
    return taken if len(taken) > 1 else taken["sliding_attention"]


def _as_attention_takes_it(
    seen: Bool[torch.Tensor, "n t span"], config: PreTrainedConfig, dtype: torch.dtype
) -> torch.Tensor:
    """Boolean for fused attention, added to the scores by the eager one."""
    mask = seen[:, None]
    if config._attn_implementation != "eager":
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=seen.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )


def _zeros(size: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    if device.type != "cpu":
        return torch.zeros(size, device=device, dtype=dtype)
    # numpy asks for zeroed pages that take memory only once they are written; torch writes them.
    raw = np.zeros(int(np.prod(size)) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(size)
