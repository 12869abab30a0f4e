"""`saescope jobs`: what was asked for, how it stands, and what to do about it."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast, get_args

import typer

from app.contract.jobs import JobState, JobView

if TYPE_CHECKING:
    from app.jobs import Jobs

app = typer.Typer(help="List, show, watch, cancel, retry and delete jobs.", no_args_is_help=True)
_JOB = typer.Argument(help="Id of the job.", metavar="JOB")


@app.command("list")
def list_jobs(
    state: str | None = typer.Option(None, help=f"Only {', '.join(get_args(JobState))}."),
    limit: int = typer.Option(20, min=1, max=100, help="How many, newest first."),
) -> None:
    """List jobs, newest first."""
    with _jobs() as jobs:
        found, more = jobs.list(limit, state=_state(state))
    for view in found:
        print(_line(view))
    if more:
        print(f"There are more than {limit}; give a larger --limit.")


@app.command("show")
def show(job: str = _JOB) -> None:
    """Print all that is known of a job, as JSON."""
    from app.console import out

    with _jobs() as jobs:
        out.print_json(jobs.get(job).model_dump_json())


@app.command("watch")
def watch_job(job: str = _JOB) -> None:
    """Show a job's progress until it has ended."""
    from app.cli.watch import watch
    from app.settings import Settings

    with _jobs() as jobs:
        watch(Settings(), jobs, jobs.get(job))


@app.command("cancel")
def cancel(job: str = _JOB) -> None:
    """Stop a job; what it has committed stays."""
    with _jobs() as jobs:
        _say(jobs.cancel(job))
    _note(f"jobs cancel {job}")


@app.command("retry")
def retry(job: str = _JOB) -> None:
    """Queue a failed or cancelled job again; it goes on where it stopped."""
    with _jobs() as jobs:
        _say(jobs.retry(job))
    _note(f"jobs retry {job}")


@app.command("delete")
def delete(job: str = _JOB) -> None:
    """Forget a job that has ended; what it made stays."""
    with _jobs() as jobs:
        jobs.delete(job)
    _note(f"jobs delete {job}")


def _jobs() -> "AbstractContextManager[Jobs]":
    from app.cli.watch import open_jobs
    from app.settings import Settings

    return open_jobs(Settings())


def _note(action: str) -> None:
    from app.cli.watch import note
    from app.settings import Settings

    note(Settings(), action)


def _state(state: str | None) -> JobState | None:
    from app.errors import BadRequest

    if state is not None and state not in get_args(JobState):
        raise BadRequest(f"--state is one of {', '.join(get_args(JobState))}.")
    return cast(JobState | None, state)


def _line(view: JobView) -> str:
    from app.console import pace

    when = f"{view.created_at.astimezone():%Y-%m-%d %H:%M}"
    line = f"{view.id}  {when}  {view.kind:<10}  {view.state:<9}  {view.progress:>4.0%}"
    return f"{line}  {_what(view)}  {view.phase or ''} {pace(view)}".rstrip()


def _what(view: JobView) -> str:
    saes = view.spec.get("saes") or [view.spec.get("sae")]
    return " ".join([view.spec["model"], *filter(None, saes)])


def _say(view: JobView) -> None:
    from app.console import say

    say(f"Job {view.id} is {view.state}.")
