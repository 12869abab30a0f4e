"""Pretrained SAEs by their name in SAELens' directory: `saelens:{release}/{sae_id}`.

SAELens' own loader of the release's format downloads and converts, and folds in the factor by
which the release scales activations, where the directory knows one. Its loaders read safetensors
and npz files, and `.pt` files as weights only, so nothing that is downloaded is run.
"""

import errno
import os
import pickle
import warnings
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from huggingface_hub.utils import disable_progress_bars
from sae_lens import SAE
from sae_lens.loading.pretrained_saes_directory import (
    PretrainedSAELookup,
    get_pretrained_saes_directory,
)
from safetensors import SafetensorError

from app.errors import Forbidden, Invalid, Unavailable
from app.settings import Settings
from app.store.catalog import PREFIX
from worker.folders import one_line
from worker.foreign.gemma_scope import hook_point

_AWAY: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])
"""What connections and the hub's HTTP client raise, whichever client this version of it has."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (
    ValueError, LookupError, TypeError, AttributeError, RuntimeError, pickle.UnpicklingError,
    SafetensorError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_SUGGESTED = 3


def is_pretrained(raw: str) -> bool:
    """Whether a path is a name in SAELens' directory."""
    return raw.startswith(PREFIX)


def check_pretrained(settings: Settings, raw: str) -> None:
    """Raises Invalid when the directory has no such name, or nothing may be downloaded."""
    _look_up(raw)
    if not settings.hub:
        raise Invalid(
            f"{raw} is on the Hugging Face hub, from which nothing may be downloaded here; set "
            "SAESCOPE_HUB=true for the jobs worker and start it again, or load a folder.",
            path=raw,
        )


def download(raw: str, folder: Path) -> None:
    """Download an SAE and write it as a SAELens folder.

    Raises:
        Forbidden: its repository is for those who have accepted its terms.
        Unavailable: the hub cannot be reached, or does not have the files.
        Invalid: SAELens cannot convert what it got.
    """
    release, sae_id = _split(raw)
    disable_progress_bars()
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)  # SAELens' loaders leave it to torch
    try:
        with warnings.catch_warnings(action="ignore"):
            sae = SAE.from_pretrained(release, sae_id)
    except GatedRepoError as error:
        raise Forbidden(
            f"The hub keeps {raw} for those who have accepted its terms; accept them on the page of "
            "its repository, and log in with `hf auth login` where the jobs worker runs."
        ) from error
    except _AWAY as error:
        if getattr(error, "errno", None) in _DISK_FULL:
            raise
        raise Unavailable(f"The hub did not give {raw} ({one_line(error)}); try again.") from error
    except _BROKEN as error:
        raise Invalid(f"SAELens cannot convert {raw} ({one_line(error)}).") from error
    name_sites(sae)
    for parameter in sae.parameters():  # safetensors takes no transposed views
        parameter.data = parameter.data.contiguous()
    sae.save_model(folder)


def name_sites(sae: SAE[Any]) -> None:
    """Let an SAE read and write where its authors say, for Gemma Scope 2: SAELens gives its transcoders
    `hook_mlp_in`, which is the residual stream in front of the norm, though they read behind it."""
    metadata = sae.cfg.metadata
    for side in ("", "_out"):
        if hook := hook_point(metadata.get(f"hf_hook_name{side}")):
            metadata[f"hook_name{side}"] = hook


def _look_up(raw: str) -> PretrainedSAELookup:
    release, sae_id = _split(raw)
    directory = get_pretrained_saes_directory()
    if release not in directory:
        raise _unknown(raw, f"no release {release!r}", release, list(directory))
    if sae_id not in directory[release].saes_map:
        names = list(directory[release].saes_map)
        raise _unknown(raw, f"no SAE {sae_id!r} in the release {release}", sae_id, names)
    return directory[release]


def _split(raw: str) -> tuple[str, str]:
    """Release and SAE id; only ids have slashes."""
    release, _, sae_id = raw.removeprefix(PREFIX).partition("/")
    return release, sae_id


def _unknown(raw: str, what: str, name: str, names: list[str]) -> Invalid:
    near = get_close_matches(name, names, _SUGGESTED, cutoff=0.4) or names[:_SUGGESTED]
    return Invalid(
        f"SAELens' directory has {what}; near it are {', '.join(near)}. GET /v1/catalog lists all.",
        path=raw,
    )
