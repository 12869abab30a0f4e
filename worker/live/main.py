"""`python -m worker.live.main`: the live worker as a process.

It listens on the host and port of `SAESCOPE_LIVE_URL`. SIGTERM and SIGINT end it: running answers
get a few seconds to complete.
"""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from urllib.parse import urlsplit

import uvicorn

from app import logs, traces
from app.errors import Problem
from app.secret import shared_token
from app.settings import Settings
from app.store.use import using

GRACE_S = 5
"""Seconds that open connections have at shutdown."""
KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open: longer than the API keeps one, so that the API never
sends a request into a connection that is just being closed."""


def main() -> int:
    """Serve until a signal comes; the exit status is 1 when it cannot start."""
    # While torch is imported, and once more when uvicorn has closed the connections. A forward or a
    # load under way is not waited for: nothing is written here.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    settings = Settings()
    logs.set_up("live", settings)
    traces.set_up("live")
    used = ExitStack()
    try:
        used.enter_context(using(settings.data_dir))
        listener = _listen(settings.live_url)
        # torch takes seconds to import: only now, when an address in use is already found out.
        from worker.live.assemble import assemble

        server = assemble(settings, shared_token(settings))
    except (Problem, OSError) as problem:
        print(f"saescope worker live: {problem}", file=sys.stderr)
        return 1
    config = uvicorn.Config(
        server,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    running = uvicorn.Server(config)
    running.run(sockets=[listener])
    os._exit(0 if running.started else 1)


def _listen(url: str) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise OSError(
            f"cannot listen on {host}:{port} ({error.strerror}); end what uses it, or set "
            "SAESCOPE_LIVE_URL to another port."
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
