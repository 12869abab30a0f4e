"""Start app, worker live and worker jobs, keep them alive, end them together.

1. Refuse what cannot work; hold the data folder.
2. Bring the tables of shelf and jobs to their newest form.
3. Start the children and look after them, on the main thread, until a signal comes.
4. Meanwhile, on another thread, prepare the bundled model and say when everything is ready.
5. End the children: SIGTERM, some grace, SIGKILL.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version

from sqlalchemy.exc import SQLAlchemyError

from app.console import say
from app.errors import Problem
from app.jobs import Jobs, migrate_jobs
from app.settings import Settings
from app.store.engine import open_shelf
from app.store.migrate import migrate
from app.supervisor.checks import check_data_dir, check_dependencies, check_keys, with_ports
from app.supervisor.children import Child
from app.supervisor.first_start import Stopped, prepare
from app.supervisor.lock import only_one
from app.supervisor.welcome import api_url, welcome, when_ready

GRACE_S = 10.0
ECHO_S = 1.0
TICK_S = 0.1
AGAIN_S = 2.0
"""Seconds until a database that failed is asked again."""


def up(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. Raises a `Problem` when it cannot start."""
    check_dependencies()
    check_data_dir(settings)
    with only_one(settings):
        settings = with_ports(settings)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        say(f"saescope {version('saescope')}, data in {settings.data_dir}")
        migrate(settings.shelf_url)
        check_keys(settings)
        migrate_jobs(settings.jobs_url)
        _supervise(settings, _children(settings), stop)


def _children(settings: Settings) -> list[Child]:
    logs = settings.data_dir / "logs"
    logs.mkdir(exist_ok=True)
    env = os.environ | {
        "SAESCOPE_DATA_DIR": str(settings.data_dir),
        "SAESCOPE_PORT": str(settings.port),
        "SAESCOPE_LIVE_URL": settings.live_url,
        "PYTHONUNBUFFERED": "1",
    }
    commands = {"app": ["-m", "app.cli.main", "serve"], "live": ["-m", "worker.live.main"]}
    for index in range(len(settings.jobs_devices)):
        name = f"jobs-{index}" if index else "jobs"
        commands[name] = ["-m", "worker.jobs.main", "--index", str(index)]
    return [
        Child(name, command, env, logs / f"{name}.log", say) for name, command in commands.items()
    ]


def _supervise(settings: Settings, children: list[Child], stop: threading.Event) -> None:
    guide = threading.Thread(target=_guide, args=(settings, stop), daemon=True)
    guide.start()
    try:
        while not stop.is_set():
            for child in children:
                child.tick()
            stop.wait(TICK_S)
    finally:
        stop.set()
        _end(children)
    guide.join(timeout=1.0)


def _end(children: list[Child]) -> None:
    """End all at once. A second signal cuts the grace short; one right behind the first does not:
    `timeout` and `make` send theirs to us and to our process group."""
    say("Stopping ...")
    began = time.monotonic()
    again = threading.Event()

    def hurry(*_: object) -> None:
        if time.monotonic() - began > ECHO_S:
            again.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hurry)
    for child in children:
        child.signal(signal.SIGTERM)
    for child in children:
        child.end(lambda: time.monotonic() - began > GRACE_S or again.is_set())
    say("Stopped.")


def _guide(settings: Settings, stop: threading.Event) -> None:
    """Lead a newcomer from an empty data folder to a first answer, past a database that fails."""
    while not stop.is_set():
        try:
            return _lead(settings, stop.is_set)
        except Stopped:
            return
        except SQLAlchemyError as error:
            why = str(getattr(error, "orig", error)).strip().partition("\n")[0]
            say(f"The database does not answer ({why}); trying again in {AGAIN_S:g} s.")
            stop.wait(AGAIN_S)


def _lead(settings: Settings, stopping: Callable[[], bool]) -> None:
    with (
        closing(open_shelf(settings.shelf_url)) as shelf,
        closing(Jobs(settings.jobs_url, shelf)) as jobs,
    ):
        when_ready(settings, "/healthz", stopping)
        say(f"The API answers at {api_url(settings)} (its documentation: {api_url(settings)}/docs)")
        try:
            prepare(jobs, shelf, stopping)
            when_ready(settings, "/readyz", stopping)
            say(welcome(settings, shelf))
        except Problem as problem:
            say(f"The bundled model is not ready: {problem.detail} What is there is served.")
