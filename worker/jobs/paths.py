"""Which files a job may read: those inside the allowed folders, wherever links lead, and bundled
ones by name."""

import os
import re
from pathlib import Path

from app.contract.ids import ID_PATTERN
from app.errors import Conflict, Forbidden, Invalid
from app.settings import Settings

BUNDLED = "bundled:"
BUNDLED_EVIDENCE = "bundled:evidence"
"""A few features in Neuronpedia's layout."""
DEMO = Path(__file__).parents[1] / "demo"


def allowed_path(settings: Settings, raw: str) -> Path:
    """The real path of `raw`; relative ones count from where the worker was started.

    Raises Forbidden when it leads out of the allowed folders (before looking whether it exists),
    Invalid when nothing is there, or when it can be no path.
    """
    path = _resolved(raw)
    _refuse_outside(settings, path, raw)
    if not os.path.exists(path):
        raise Invalid(f"There is nothing at {raw}; check the path.", path=raw)
    return path


def check_inside(settings: Settings, folder: Path, seen: frozenset[Path] = frozenset()) -> None:
    """Refuse a folder with a link that leads out of the allowed folders, or from which one does."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            target = _resolved(str(path))
            _refuse_outside(settings, target, str(path))
            if target.is_dir() and target not in seen:
                check_inside(settings, target, seen | {target})


def model_folder(settings: Settings, raw: str) -> Path:
    """Folder of a model to load."""
    if not raw.startswith(BUNDLED):
        return _own_folder(settings, raw)
    if raw != f"{BUNDLED}storyworld":
        raise Invalid(f"{raw} is not bundled; the bundled model is bundled:storyworld.", path=raw)
    return DEMO / "storyworld"


def sae_folder(settings: Settings, raw: str) -> Path:
    """Folder of an SAE to load."""
    if not raw.startswith(BUNDLED):
        return _own_folder(settings, raw)
    model, _, sae = raw.removeprefix(BUNDLED).partition("/")
    bundled = sorted(path.name for path in (DEMO / "saes").glob("*") if path.is_dir())
    if model != "storyworld" or sae not in bundled or not re.match(ID_PATTERN, sae):
        names = ", ".join(f"bundled:storyworld/{name}" for name in bundled) or "none"
        raise Invalid(f"{raw} is not a bundled SAE; bundled are: {names}.", path=raw)
    return DEMO / "saes" / sae


def evidence_folder(settings: Settings, raw: str) -> Path:
    """Folder of evidence to import."""
    if not raw.startswith(BUNDLED):
        return _own_folder(settings, raw)
    if raw != BUNDLED_EVIDENCE:
        raise Invalid(f"{raw} is not bundled; bundled is {BUNDLED_EVIDENCE}.", path=raw)
    return DEMO / "evidence"


def new_folder(settings: Settings, raw: str) -> Path:
    """Where a folder may be made: inside the allowed folders. Raises Conflict when there is something
    already."""
    path = _resolved(raw)
    _refuse_outside(settings, path, raw)
    if os.path.lexists(path):
        raise Conflict(f"{raw} is there already; give another path, or remove it.", path=raw)
    return path


def _own_folder(settings: Settings, raw: str) -> Path:
    path = allowed_path(settings, raw)
    if not path.is_dir():
        raise Invalid(f"{raw} is not a folder; give the folder that holds the files.", path=raw)
    check_inside(settings, path)
    return path


def _resolved(raw: str) -> Path:
    try:
        return Path(raw).expanduser().resolve()
    except (RuntimeError, ValueError) as error:  # no such user, links in a circle; a NUL
        raise Invalid(
            f"{raw!r} cannot be followed ({error}); give the path of a file or folder.", path=raw
        ) from error


def _refuse_outside(settings: Settings, path: Path, raw: str) -> None:
    if not any(path.is_relative_to(root) for root in settings.roots):
        roots = ", ".join(str(root) for root in settings.roots)
        raise Forbidden(
            f"{raw} is outside the folders that jobs may read ({roots}); move it there, or add its "
            "folder to SAESCOPE_MODEL_ROOTS and start again.",
            path=raw,
        )
