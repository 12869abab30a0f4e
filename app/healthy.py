"""`python -m app.healthy app | live | jobs`: whether that process works, for the health checks of
containers.

The exit status is 0 when it does, else 1 with a sentence. Nothing but the standard library and settings
for those that answer requests: it runs every few seconds.
"""

import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from app.contract.queues import executor_id
from app.errors import Unavailable
from app.secret import shared_token
from app.settings import Settings

PATIENCE_S = 5


def main() -> None:
    """Look at the process that is named."""
    checks = {"app": check_app, "live": check_live, "jobs": check_jobs}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit(f"usage: python -m app.healthy {' | '.join(checks)}")
    try:
        checks[sys.argv[1]](Settings())
    except (OSError, HTTPException) as error:
        sys.exit(f"{sys.argv[1]} does not answer ({error}).")
    except Unavailable as error:
        sys.exit(f"{sys.argv[1]} {error.detail}")


def check_app(settings: Settings) -> None:
    """The API always answers under the address that it is bound to, whatever the allowed hosts."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    _get(local, settings.port, "/healthz", {"Host": settings.bound_host})


def check_live(settings: Settings) -> None:
    """The live worker answers who has the shared token."""
    url = urlsplit(settings.live_url)
    token = {"Authorization": f"Bearer {shared_token(settings)}"}
    _get(url.hostname or "", url.port or 80, "/health", token)


def check_jobs(settings: Settings) -> None:
    """The first jobs worker of this machine has no port: its lease tells, where there is one database
    file its lock."""
    worker = executor_id(settings.machine, 0)
    if not (_leased(settings, worker) if settings.machine else _locked(settings, worker)):
        raise Unavailable(f"does not work: nobody holds the place of {worker}.")


def _leased(settings: Settings, worker: str) -> bool:
    from sqlalchemy.exc import SQLAlchemyError

    from app.store.engine import open_shelf
    from app.store.leases import all_workers

    with closing(open_shelf(settings.shelf_url, "saescope healthy", pool=1)) as shelf:
        try:
            return any(one.holds for one in all_workers(shelf) if one.name == worker)
        except SQLAlchemyError as error:
            raise Unavailable(f"cannot be looked at in the database: {error}") from error


def _locked(settings: Settings, worker: str) -> bool:
    from app.supervisor.lock import is_locked

    path = settings.data_dir / f"{worker}.lock"
    return path.exists() and is_locked(path)


def _get(host: str, port: int, path: str, headers: dict[str, str]) -> None:
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers=headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise Unavailable(f"answers {status}.")


if __name__ == "__main__":
    main()
