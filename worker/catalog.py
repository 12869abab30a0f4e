"""`python -m worker.catalog`: puts SAELens' directory of pretrained SAEs on the shelf.

SAELens ships it as a file of 1.5 MB that takes a second to read, so this is a process of its own,
and does nothing when the file is the one that the shelf was filled from. The file is read as it
is: SAELens' own reader fills in an L0 of 0 and an explained variance of 1 where nothing is known.
Neither SAELens nor torch is imported.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from app.settings import Settings
from app.store import catalog
from app.store.catalog import CatalogEntry
from app.store.engine import Shelf, open_shelf
from app.store.migrate import migrate

FORMAT = 1
"""To be raised when the same file is to be read in another way."""

_NAMED = re.compile(
    r"blocks\.(\d+)\.(?:attn\.)?(hook_(?:resid_(?:pre|mid|post)|attn_out|mlp_out|z))"
)
_LAYER = re.compile(r"layer_?(\d+)|L(\d+)[RAM]\b")
_SITES: dict[str, dict[str, str]] = {
    "gemma_2": {"-res/": "hook_resid_post", "-mlp/": "hook_mlp_out", "-att/": "attn.hook_z"},
    "gemma_2_transcoder": {"": "ln2.hook_normalized"},
    "gemma_3": {
        "resid_post": "hook_resid_post",
        "attn_out": "attn.hook_z",
        "mlp_out": "hook_mlp_out",
        "transcoder": "mlp.hook_in",
        "clt": "mlp.hook_in",
    },
    "dictionary_learning_1": {"": "hook_resid_post"},
    "goodfire": {"": "hook_resid_post"},
    "qwen_scope": {"": "hook_resid_post"},
    "llama_scope": {"LXR-": "hook_resid_post", "LXA-": "hook_attn_out", "LXM-": "hook_mlp_out"},
    "llama_scope_r1_distill": {"": "hook_resid_post"},
    "mwhanna_transcoder": {"": "mlp.hook_in"},
}
"""By format: what stands in repository or path, and the site in a block that it means. These are the
rules of SAELens' loaders, which need more than the directory for some of them, and of
`worker.hub.name_sites`."""


def main() -> None:
    """Fill the shelf of the settings, where it is not."""
    settings = Settings()
    migrate(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    fill(shelf)
    shelf.close()


def fill(shelf: Shelf) -> None:
    """Put the installed directory on the shelf, unless it is there."""
    made_from = installed()
    if catalog.source(shelf) != made_from:
        catalog.replace(shelf, made_from, read_directory(directory_file()))


def installed() -> str:
    """What a catalog of the installed SAELens is made from."""
    digest = hashlib.sha256(directory_file().read_bytes()).hexdigest()[:16]
    return f"sae-lens {version('sae-lens')} {digest} {FORMAT}"


def directory_file() -> Path:
    """SAELens' directory of pretrained SAEs."""
    spec = find_spec("sae_lens")
    assert spec and spec.origin
    return Path(spec.origin).with_name("pretrained_saes.yaml")


def read_directory(file: Path) -> Iterator[CatalogEntry]:
    """All entries by release, in the file's order within one. Of two entries with one id SAELens
    takes the last."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    releases = yaml.load(file.read_text(), Loader=loader)
    for release in sorted(releases):
        saes = {str(sae["id"]): sae for sae in releases[release]["saes"]}
        yield from (_entry(release, releases[release], sae) for sae in saes.values())


def _entry(release: str, common: dict[str, Any], sae: dict[str, Any]) -> CatalogEntry:
    layout = common.get("conversion_func") or "sae_lens"
    return CatalogEntry(
        release=release,
        sae_id=str(sae["id"]),
        model=common["model"],
        repo=common["repo_id"],
        format=layout,
        hook_name=hook_point(layout, common["repo_id"], str(sae["id"]), str(sae["path"])),
        neuronpedia_id=sae.get("neuronpedia"),
        l0=_known(sae.get("l0")),
        explained_variance=_known(sae.get("variance_explained")),
    )


def hook_point(layout: str, repo: str, sae_id: str, path: str) -> str | None:
    """The hook point that an SAE reads at, where its names tell; None where only its files do."""
    if named := _NAMED.search(sae_id):
        layer, hook = named.groups()
        return f"blocks.{layer}.{'attn.' * (hook == 'hook_z')}{hook}"
    if layout == "gemma_2" and "embedding" in path:
        return "hook_embed"
    place = f"{repo}/{path}"
    site = next((site for part, site in _SITES.get(layout, {}).items() if part in place), None)
    layer = _LAYER.search(path) or _LAYER.search(sae_id)
    return f"blocks.{layer[1] or layer[2]}.{site}" if site and layer else None


def _known(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


if __name__ == "__main__":
    main()
