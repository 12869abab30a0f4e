"""A dataset of the Hugging Face hub, streamed: nothing of it is kept.

The hub keeps its datasets as Parquet files too, in a branch of each: those are read, and nothing else
of a dataset. `datasets` would follow what a dataset's card says, which may be a path on this machine.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec import AbstractFileSystem

# Of whichever HTTP library the hub's client uses; it is no OSError.
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

from app.errors import BadRequest
from worker.folders import one_line
from worker.text.columns import Columns
from worker.text.record import listed

PARQUET = "refs/convert/parquet"
"""The branch: `{configuration}/{split}/0000.parquet` and so on."""
SPLITS = ("train", "partial-train")
"""The latter holds the first 5 GB of a larger dataset."""
_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?")


def find_on_hub(dataset: str, hub: AbstractFileSystem) -> list[Columns]:
    """The files of the split `train` of `owner/name` or `owner/name/configuration`, in order.

    Raises:
        BadRequest: there is no such dataset, or several configurations of which none is named.
    """
    parts = _ID.fullmatch(dataset)
    if parts is None:
        raise BadRequest(f"hub:{dataset} names no dataset; write hub:OWNER/NAME.")
    root = f"datasets/{parts[1]}@{PARQUET}"
    with hub_problems(dataset):
        configuration = parts[2] or _only(dataset, [_last(path) for path in _folders(hub, root)])
        splits = _folders(hub, f"{root}/{configuration}")
        found = [split for split in splits if _last(split) in SPLITS]
        if not found:
            raise BadRequest(
                f"The dataset {dataset} has no split `train` but "
                f"{listed(map(_last, splits))}; download one and give its folder."
            )
        paths = sorted(hub.glob(f"{found[0]}/*.parquet"))
    if not paths:
        raise BadRequest(
            f"The dataset {dataset} has no Parquet files; download it, give its folder."
        )
    return [Columns(f"hub:{path}", True, lambda path=path: hub.open(path)) for path in paths]


@contextmanager
def hub_problems(dataset: str) -> Iterator[None]:
    """What goes wrong on the way to the hub, in a sentence."""
    try:
        yield
    except (OSError, ValueError, HTTPError) as error:
        raise BadRequest(
            f"The dataset {dataset} cannot be read from the hub ({one_line(error)}); check its id, "
            "or download it and give its folder."
        ) from error


def _only(dataset: str, configurations: list[str]) -> str:
    if len(configurations) == 1 or "default" in configurations:
        return "default" if "default" in configurations else configurations[0]
    raise BadRequest(
        f"The dataset {dataset} has the configurations {listed(configurations)}; write "
        "hub:OWNER/NAME/CONFIGURATION."
    )


def _folders(hub: AbstractFileSystem, path: str) -> list[str]:
    return sorted(one["name"] for one in hub.ls(path, detail=True) if one["type"] == "directory")


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
