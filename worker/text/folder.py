"""Which files of a folder hold its text.

A folder that `datasets.save_to_disk` wrote lists its files (others beside them are caches), or the
folders of its splits, of which `train` is read. Of any other folder it is all files of known formats,
those in its folders too.
"""

import json
from pathlib import Path

from app.errors import BadRequest
from worker.text.formats import FORMATS, is_text


def find_files(folder: Path) -> list[Path]:
    """The files, in the order in which they are read.

    Raises:
        BadRequest: there are none, or what `datasets` wrote of them cannot be used.
    """
    if (folder / "dataset_dict.json").is_file():
        return find_files(_train_split(folder))
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _saved_files(folder)
    found = sorted(path for path in folder.rglob("*") if _counts(path, folder))
    if not found:
        raise BadRequest(f"The folder {folder.name} holds no file of text; use {FORMATS}.")
    return found


def _counts(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and is_text(path) and path.is_file()


def _train_split(folder: Path) -> Path:
    if not (folder / "train").is_dir():
        splits = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise BadRequest(
            f"The dataset {folder.name} has no split `train` but {', '.join(splits) or 'none'}; give "
            "the folder of a split."
        )
    return folder / "train"


def _saved_files(folder: Path) -> list[Path]:
    try:
        listed = json.loads((folder / "state.json").read_bytes())["_data_files"]
        return [folder / Path(one["filename"]).name for one in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"state.json in {folder.name} does not list the dataset's files; save the dataset again."
        ) from error
