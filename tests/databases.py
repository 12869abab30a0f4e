"""Migrated databases, copied from one that was migrated: hundreds of tests need one, and `migrate` takes
four times as long as a copy."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from app.store.migrate import migrate

_TEMPLATE = "migrated"


def prepare(url: str) -> None:
    """Bring an empty database, or one that is not there yet, to the newest revision."""
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        path = Path(target.database or "")
        assert not path.exists(), "only an empty database is replaced by a copy"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_file(), path)
    else:
        _copy_on_server(target)


@cache
def _file() -> Path:
    folder = tempfile.mkdtemp(prefix="saescope-migrated-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "shelf.db")
    migrate(f"sqlite:///{path}")
    assert not path.with_name("shelf.db-wal").exists(), "its journal is not in the file"
    return path


def _copy_on_server(target: URL) -> None:
    server = target.set(drivername="postgresql", database="postgres")
    address = server.render_as_string(hide_password=False)
    _make_template(address)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{target.database}"'.encode())
        connection.execute(f'CREATE DATABASE "{target.database}" TEMPLATE {_TEMPLATE}'.encode())


@cache
def _make_template(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_TEMPLATE}".encode())
    url = make_url(address).set(drivername="postgresql+psycopg", database=_TEMPLATE)
    migrate(url.render_as_string(hide_password=False))
