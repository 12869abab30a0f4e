"""Tensors from a stranger's file, by name. Files are read as data: what could run code is refused."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file

from app.errors import Invalid
from worker.folders import one_line

_CONVERT = (
    "load it where you trust it, and save its tensors alone, with safetensors or "
    "`torch.save(sae.state_dict(), file)`"
)


class Tensors:
    """What a file holds. Every way to ask for a tensor raises Invalid when it is not as asked."""

    def __init__(self, path: Path, found: Mapping[str, Any]) -> None:
        self.path = path
        self.found = found

    def __contains__(self, name: str) -> bool:
        return name in self.found

    def matrix(self, *names: str) -> Float[torch.Tensor, "rows columns"]:
        """The first of `names` that is there."""
        return self._tensor(names, 2)

    def vector(self, *names: str) -> Float[torch.Tensor, " n"]:
        """The first of `names` that is there."""
        return self._tensor(names, 1)

    def spread(self, name: str, n: int) -> Float[torch.Tensor, " n"]:
        """A vector; a single number is taken for all of its `n` entries."""
        value = self.found.get(name)
        if isinstance(value, torch.Tensor) and value.ndim == 0:
            return value.float().expand(n)
        return self.vector(name)

    def whole(self, name: str) -> int | None:
        """A whole number, None when it is not there."""
        value = self.found.get(name)
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        return value if isinstance(value, int) else None

    def _tensor(self, names: tuple[str, ...], dimensions: int) -> torch.Tensor:
        name = next((name for name in names if name in self.found), None)
        if name is None:
            raise Invalid(
                f"{self.path} has no tensor {' or '.join(names)}; it has "
                f"{', '.join(sorted(map(str, self.found)))[:300] or 'none'}."
            )
        tensor = self.found[name]
        if not _is_dense(tensor) or tensor.ndim != dimensions:
            raise Invalid(
                f"{name} in {self.path} is no dense array of {dimensions} dimensions of real "
                "numbers; save the SAE again."
            )
        return tensor.float()


def _is_dense(tensor: object) -> bool:
    """Whether it is an array of real numbers, each of which the file holds: a view of one number can
    claim to be a terabyte."""
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and tensor.is_floating_point()
        and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    )


def read_weights(folder: Path, stem: str) -> Tensors:
    """`{stem}.safetensors` where it is there, else `{stem}.pt`."""
    file = folder / f"{stem}.safetensors"
    return read_safetensors(file) if file.is_file() else read_pt(folder / f"{stem}.pt")


def read_safetensors(file: Path) -> Tensors:
    """All tensors of a safetensors file."""
    try:
        return Tensors(file, load_file(file))
    except (SafetensorError, OSError) as error:
        raise Invalid(
            f"{file} is not a whole safetensors file ({one_line(error)}); copy it again."
        ) from error


def read_pt(file: Path) -> Tensors:
    """A state dict that `torch.save` wrote: tensors, numbers and strings, nothing else."""
    try:
        found = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except Exception as error:  # a pickle that is refused or damaged raises anything
        raise Invalid(
            f"{file} holds more than tensors, or is damaged; what it would run is never run here: "
            f"{_CONVERT}.",
            reason=one_line(error),
        ) from error
    if not isinstance(found, Mapping):
        raise Invalid(f"{file} holds no state dict but a {type(found).__name__}; {_CONVERT}.")
    return Tensors(file, found)


_NPZ_BROKEN = (
    OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, MemoryError, AttributeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_DEFLATED = 20
"""Times that weights can be smaller in an archive; they hardly shrink at all."""


def _refuse_bombs(archive: zipfile.ZipFile) -> None:
    """Raises ValueError when an array claims to be far larger than what the archive holds of it."""
    for part in archive.infolist():
        if part.file_size > _DEFLATED * part.compress_size + 2**26:
            raise ValueError(f"{part.filename} claims {part.file_size:,} bytes")


def read_npz(file: Path) -> Tensors:
    """All arrays of an npz file, under names in lower case; arrays of objects are refused."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            _refuse_bombs(arrays.zip)
            found = {name.lower(): torch.from_numpy(arrays[name]) for name in arrays}
    except _NPZ_BROKEN as error:
        raise Invalid(
            f"{file} holds more than arrays of numbers, or is damaged ({one_line(error)}); "
            f"{_CONVERT}."
        ) from error
    return Tensors(file, found)
