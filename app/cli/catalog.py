"""`saescope catalog`: search the pretrained SAEs that can be loaded, without any service or hub."""

import subprocess
import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from app.store.catalog import CatalogEntry
    from app.store.engine import Shelf

HEADS = ("PATH", "MODEL", "HOOK POINT", "L0", "EXPLAINED VARIANCE")
UNKNOWN = "unknown"


def catalog(
    words: list[str] = typer.Argument(
        None,
        help="Names or their beginnings, from release, SAE id, model or repository.",
        metavar="[WORDS]...",
    ),
    model: str | None = typer.Option(
        None, help="Only SAEs of this model, as the catalog spells it."
    ),
    limit: int = typer.Option(20, min=1, max=100, help="How many."),
) -> None:
    """List pretrained SAEs that others have published; `saescope load MODEL PATH` loads one."""
    from app.console import say
    from app.settings import Settings
    from app.store import catalog as store
    from app.store.engine import open_shelf
    from app.store.migrate import migrate

    url = Settings().shelf_url
    migrate(url)
    shelf = open_shelf(url)
    _fill(shelf)
    page = store.entries(shelf, " ".join(words or []), model, limit)
    shelf.close()
    for line in table([HEADS, *map(_row, page.items)]):
        print(line)
    if page.next_cursor:
        say(f"There are more than {limit}; give more words, or a larger --limit.")
    elif not page.items:
        say("Nothing in the catalog has all of these words.")


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of columns that are as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in padded]


def _fill(shelf: "Shelf") -> None:
    """Let the worker's reader put the catalog there when no jobs worker has done it yet."""
    from app.store import catalog as store

    if store.source(shelf) is None:
        # -P: a folder called `app` or `worker` where we are started must not be taken for ours.
        subprocess.run([sys.executable, "-P", "-m", "worker.catalog"], check=True)


def _row(entry: "CatalogEntry") -> tuple[str, ...]:
    l0, variance = entry.l0, entry.explained_variance
    return (
        entry.path,
        entry.model,
        entry.hook_name or UNKNOWN,
        UNKNOWN if l0 is None else f"{l0:g}",
        UNKNOWN if variance is None else f"{variance:.3f}",
    )
