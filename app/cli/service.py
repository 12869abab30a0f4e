"""Commands that run processes: `up`, `serve`, `worker live`, `worker jobs`."""

import os
import sys

import typer

from app.settings import Settings

worker = typer.Typer(help="Run one of the workers alone.", no_args_is_help=True)


def up() -> None:
    """Run everything on this machine: API, live worker and jobs worker."""
    from app.supervisor.up import up

    up(Settings())


def serve() -> None:
    """Run the API alone."""
    from app.main import serve
    from app.store.migrate import migrate
    from app.supervisor.checks import check_data_dir, check_keys, check_port

    settings = Settings()
    check_data_dir(settings)
    check_port(settings)
    migrate(settings.shelf_url)
    check_keys(settings)
    serve(settings)


@worker.command("live")
def worker_live(
    ray: bool = typer.Option(
        False, "--ray", help="As replicas on the cluster of SAESCOPE_RAY_ADDRESS."
    ),
    replicas: int | None = typer.Option(
        None,
        min=1,
        help="How many, with --ray; as many as the cluster has room for when not given.",
    ),
) -> None:
    """Answer activation and steering requests, at the address in SAESCOPE_LIVE_URL."""
    if ray:
        _become("worker.cluster.serve", *(["--replicas", str(replicas)] if replicas else []))
    _become("worker.live.main")


@worker.command("jobs")
def worker_jobs(
    index: int = typer.Option(0, min=0, help="Which of SAESCOPE_JOBS_DEVICES it works on."),
) -> None:
    """Run jobs: load, train, precompute, evaluate, verify."""
    _become("worker.jobs.main", "--index", str(index))


def _become(module: str, *arguments: str) -> None:
    """Turn into a worker. By name: the API's side never imports torch."""
    from app.supervisor.checks import check_data_dir, check_dependencies

    check_dependencies()
    check_data_dir(Settings())
    # -P: a folder called `app` or `worker` where we are started must not be taken for ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])
