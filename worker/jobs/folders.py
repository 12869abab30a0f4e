"""Files of models and SAEs, copied into the data folder whole or not at all.

Only files that are named by the caller travel: data for sure, nothing that can carry code.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from worker.durable import copy_file, write_folder
from worker.progress import Progress


def copy_in(files: Sequence[Path], target: Path, report: Progress) -> None:
    """Copy those of `files` that exist into the folder `target`.

    A folder that is there already was copied by somebody before; it gets the files that it lacks.
    Reports phase `copy` in bytes.
    """
    present = [file for file in files if file.is_file()]
    total = sum(file.stat().st_size for file in present)

    def fill(partial: Path) -> None:
        done = 0
        for file in present:
            report("copy", done, total)
            shutil.copyfile(file, partial / file.name)
            done += file.stat().st_size

    write_folder(target, fill)
    for file in present:
        if not (target / file.name).exists():
            copy_file(file, target / file.name)
