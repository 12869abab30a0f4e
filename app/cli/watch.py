"""Watch a job in a terminal; a jobs client for commands."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import typer

from app.console import Bar, fail, out, say
from app.contract.jobs import FINAL, JobView
from app.jobs import Jobs
from app.news import POLL_S
from app.settings import Settings
from app.store import audit
from app.store.engine import open_shelf
from app.store.migrate import migrate
from app.supervisor.checks import check_data_dir
from app.supervisor.lock import jobs_worker_runs

Tell = Callable[[dict[str, Any]], None]
"""Prints what a job has come to."""


@contextmanager
def open_jobs(settings: Settings) -> Iterator[Jobs]:
    """The jobs of this data folder or database, with up-to-date tables."""
    check_data_dir(settings)
    migrate(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    jobs = Jobs(settings.jobs_url, shelf)
    try:
        yield jobs
    finally:
        jobs.close()
        shelf.close()


def note(settings: Settings, action: str) -> None:
    """Write down what a command did with jobs, as is done for requests."""
    with closing(open_shelf(settings.shelf_url)) as shelf:
        audit.put(shelf, audit.LOCALLY, action, "done")


def print_result(result: dict[str, Any]) -> None:
    """As JSON."""
    out.print_json(data=result)


def watch(settings: Settings, jobs: Jobs, view: JobView, tell: Tell = print_result) -> None:
    """Show a job until it has ended, then its result; exit code 1 unless it is done.

    Ctrl-C stops watching and leaves the job alone.
    """
    if view.state == "queued" and not jobs_worker_runs(settings):
        say(
            "No jobs worker runs on this data folder, so the job waits; start one with `saescope "
            "worker jobs`, or everything with `saescope up`."
        )
    try:
        view = _follow(jobs, view)
    except KeyboardInterrupt:
        say(
            f"The job goes on. Watch it: saescope jobs watch {view.id}\n"
            f"Stop it: saescope jobs cancel {view.id}"
        )
        raise typer.Exit(130) from None
    if view.state == "failed":
        fail((view.error or {}).get("detail", "The job failed."))
        raise typer.Exit(1)
    if view.state == "cancelled":
        fail(f"The job was cancelled; `saescope jobs retry {view.id}` goes on with it.")
        raise typer.Exit(1)
    tell(view.result or {})


def _follow(jobs: Jobs, view: JobView) -> JobView:
    with Bar(view.kind) as bar:
        bar.show(view)
        while view.state not in FINAL:
            time.sleep(POLL_S)
            view = jobs.get(view.id)
            bar.show(view)
    return view
