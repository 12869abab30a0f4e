"""What can be wrong before anything is started, each in one sentence."""

import socket
from contextlib import closing
from urllib.parse import urlsplit

from app.dependencies import missing, not_installed
from app.errors import Unavailable
from app.settings import Settings, writable
from app.store import keys
from app.store.engine import open_shelf


def check_dependencies() -> None:
    """Raises Unavailable when a package that workers need is missing; imports none of them."""
    if names := missing("worker"):
        raise Unavailable(not_installed(names))


def check_data_dir(settings: Settings) -> None:
    """Raises Unavailable when no file can be made in the data folder."""
    if not writable(settings.data_dir):
        raise Unavailable(
            f"The data folder {settings.data_dir} cannot be written to; set SAESCOPE_DATA_DIR to a "
            "folder of yours."
        )


def check_port(settings: Settings) -> None:
    """Raises Unavailable when the API's port is in use."""
    _check_free(settings.host, settings.port, "SAESCOPE_PORT")


def check_keys(settings: Settings) -> None:
    """Raises Unavailable when others can reach the API and nobody has a key: then it would be everyone's,
    or nobody's."""
    if settings.is_loopback:
        return
    with closing(open_shelf(settings.shelf_url)) as shelf:
        if any(key.revoked_at is None for key in keys.all_of_them(shelf)):
            return
    raise Unavailable(
        f"SAESCOPE_HOST is {settings.host}, where others can reach the service, and there is no key. "
        "Make one with `saescope keys create --scope admin`, or set SAESCOPE_HOST=127.0.0.1."
    )


def with_ports(settings: Settings) -> Settings:
    """The settings with the ports that the processes will listen on, all of them free now.

    Raises Unavailable when one is in use.
    """
    check_port(settings)
    ports: dict[str, int | str] = {"port": settings.port or _free_port(settings.host)}
    if "live_url" in settings.model_fields_set:
        live = urlsplit(settings.live_url)
        _check_free(live.hostname or "", live.port or 80, "SAESCOPE_LIVE_URL")
    else:
        ports["live_url"] = f"http://127.0.0.1:{_free_port('127.0.0.1')}"
    return settings.model_copy(update=ports)


def _check_free(host: str, port: int, setting: str) -> None:
    try:
        with _listener(host, port):
            pass
    except OSError as error:
        raise Unavailable(
            f"Port {port} on {host} cannot be listened on ({error.strerror or error}); stop what "
            f"uses it, or set {setting} to another."
        ) from None


def _free_port(host: str) -> int:
    with _listener(host, 0) as listener:
        return listener.getsockname()[1]


def _listener(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
