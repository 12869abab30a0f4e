"""`saescope keys`: who may ask, and what was done with their keys."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from app.keys import SCOPES, Scope
from app.settings import Settings
from app.store.engine import Shelf

app = typer.Typer(help="Make, list and revoke keys; see what was done.", no_args_is_help=True)


@app.command("create")
def create(
    scope: str = typer.Option(..., help=f"What it may do: {', '.join(SCOPES)}."),
    name: str = typer.Option("", help="Whose it is, for the list."),
    per_minute: int | None = typer.Option(None, min=1, help="Requests a minute."),
    per_day: int | None = typer.Option(None, min=1, help="Requests a day (UTC)."),
) -> None:
    """Make a key and print it: it is shown this once."""
    from app.store import audit, keys

    wanted = _scope(scope)
    with _shelf() as shelf:
        key, text = keys.create(shelf, name, wanted, per_minute, per_day)
        audit.put(shelf, audit.LOCALLY, f"keys create {key.id} --scope {wanted}", "done")
    print(text)


@app.command("list")
def list_keys() -> None:
    """List keys; what they are is not kept."""
    from app.store import keys

    with _shelf() as shelf:
        found = keys.all_of_them(shelf)
    for key in found:
        limits = [f"{key.per_minute:,} a minute"] if key.per_minute else []
        limits += [f"{key.per_day:,} a day"] if key.per_day else []
        used = f"used {key.used_at:%Y-%m-%d %H:%M}" if key.used_at else "never used"
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else used
        print(
            "  ".join(filter(None, [key.id, f"{key.scope:5}", state, ", ".join(limits), key.name]))
        )


@app.command("revoke")
def revoke(
    key: str = typer.Argument(help="Id of the key: what stands behind `saescope_`."),
) -> None:
    """Let a key be none any more; the API knows it within seconds."""
    from app.store import audit, keys

    with _shelf() as shelf:
        keys.revoke(shelf, key)
        audit.put(shelf, audit.LOCALLY, f"keys revoke {key}", "done")


@app.command("audit")
def show_audit(
    limit: int = typer.Option(50, min=1, max=10_000, help="How many, newest first."),
) -> None:
    """List what changed something: when, by whom, what, and how it ended."""
    from app.store import audit

    with _shelf() as shelf:
        for entry in audit.latest(shelf, limit):
            print(f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.who}  {entry.action}  {entry.outcome}")


def _scope(text: str) -> Scope:
    from app.errors import Invalid

    for scope in SCOPES:
        if scope == text:
            return scope
    raise Invalid(f"--scope is {text!r}; allowed: {', '.join(SCOPES)}.")


@contextmanager
def _shelf() -> Iterator[Shelf]:
    from app.store.engine import open_shelf
    from app.store.migrate import migrate
    from app.supervisor.checks import check_data_dir

    settings = Settings()
    check_data_dir(settings)
    migrate(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    try:
        yield shelf
    finally:
        shelf.close()
