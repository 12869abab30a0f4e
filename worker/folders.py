"""Reading what a stranger's folder says of itself, without running or loading any of it.

Only JSON and the headers of safetensors files are read. Pickles, which run code when they are
loaded, are refused.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from app.errors import Invalid

MOST_JSON_BYTES = 2**26
"""Of a configuration. A list of the tensors of a model with thousands of experts has a few MB."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.npz")


def check_folder(path: Path, what: str) -> None:
    """Raises `Invalid` where `path` is no folder."""
    if not path.is_dir():
        raise Invalid(f"{path} is not a folder; give the folder that holds {what}.")


def read_config(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        Invalid: the file is missing, is not JSON or holds no object.
    """
    if not path.is_file():
        raise Invalid(f"{path.parent} has no {path.name}; give the folder that holds {what}.")
    if path.stat().st_size > MOST_JSON_BYTES:
        raise Invalid(
            f"{path} is larger than {MOST_JSON_BYTES:,} bytes, which no configuration is; save {what} "
            "again."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Invalid(
            f"{path} cannot be read as JSON ({one_line(error)}); save {what} again."
        ) from error
    if not isinstance(config, dict):
        raise Invalid(f"{path} holds no JSON object; save {what} again.")
    return config


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a safetensors file, from its header; weights are not read.

    Raises:
        Invalid: the header is broken, or the file is not as long as its header says.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise Invalid(
            f"{path} is not a whole safetensors file ({one_line(error)}): it is corrupt or was cut short; "
            "copy it again."
        ) from error


def shown(value: object) -> str:
    """What a stranger's file has, for a sentence: as Python writes it, and not at length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def one_line(error: Exception) -> str:
    """What an error says, in one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300].rstrip(".")


def refuse_pickles(path: Path, advice: str) -> None:
    """Raises `Invalid` with `advice` where a folder's only weights are pickles."""
    found = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if found:
        raise Invalid(
            f"{path} holds its weights as a pickle ({found[0]}), which can run code when it is "
            f"loaded and is never opened here; {advice}"
        )
