"""`python -m app.healthy app | live`: whether that process answers, for the health checks of containers.

The exit status is 0 when it does, else 1 with a sentence. Standard library and settings only: it runs
every few seconds.
"""

import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from app.secret import shared_token
from app.settings import Settings

PATIENCE_S = 5


def main() -> None:
    """Ask the process that is named."""
    checks = {"app": app_status, "live": live_status}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit(f"usage: python -m app.healthy {' | '.join(checks)}")
    try:
        status = checks[sys.argv[1]](Settings())
    except (OSError, HTTPException) as error:
        sys.exit(f"{sys.argv[1]} does not answer ({error}).")
    if status != 200:
        sys.exit(f"{sys.argv[1]} answers {status}.")


def app_status(settings: Settings) -> int:
    """The API always answers under the address that it is bound to, whatever the allowed hosts."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return _get(local, settings.port, "/healthz", {"Host": settings.bound_host})


def live_status(settings: Settings) -> int:
    """The live worker answers who has the shared token."""
    url = urlsplit(settings.live_url)
    token = {"Authorization": f"Bearer {shared_token(settings)}"}
    return _get(url.hostname or "", url.port or 80, "/health", token)


def _get(host: str, port: int, path: str, headers: dict[str, str]) -> int:
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    main()
