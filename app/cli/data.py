"""Commands that look after the data: `backup`, `restore`, `gc`."""

from pathlib import Path

import typer

from app.console import say
from app.settings import Settings


def backup(file: Path = typer.Argument(help="New file to write.", metavar="FILE")) -> None:
    """Write models, SAEs, evidence and jobs to one file. Everything may go on running."""
    from app.backup.save import backup
    from app.errors import NotFound

    if not file.parent.is_dir():
        raise NotFound(f"There is no folder {file.parent}; make it, or choose another.")
    backup(_settings(), file)
    say(f"Wrote {file} ({file.stat().st_size / 1e6:,.1f} MB).")


def restore(
    file: Path = typer.Argument(help="File that `saescope backup` wrote.", metavar="FILE"),
    force: bool = typer.Option(False, "--force", help="Replace what is there."),
) -> None:
    """Put a backup into a data folder and database, SQLite or Postgres; nothing may run there."""
    from app.backup.restore import restore
    from app.errors import Conflict, NotFound
    from app.supervisor.lock import jobs_worker_runs, only_one

    if not file.is_file():
        raise NotFound(f"There is no file {file}.")
    settings = _settings()
    with only_one(settings):
        if jobs_worker_runs(settings):
            raise Conflict(f"A jobs worker runs on {settings.data_dir}; stop it first.")
        restore(settings, file, force=force)
    say(f"Restored {file} to {settings.data_dir}.")


def gc() -> None:
    """Free the space of what was deleted or replaced."""
    from app.store import audit
    from app.store.engine import open_shelf
    from app.store.garbage import collect_garbage
    from app.store.migrate import migrate

    settings = _settings()
    migrate(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    freed = collect_garbage(shelf, settings.data_dir)
    audit.trim(shelf)
    shelf.close()
    say(
        f"Freed the evidence of {freed.features:,} features, {freed.corpora} corpora and "
        f"{freed.folders} folders ({freed.folder_bytes / 1e6:,.1f} MB)."
    )


def _settings() -> Settings:
    from app.supervisor.checks import check_data_dir

    settings = Settings()
    check_data_dir(settings)
    return settings
