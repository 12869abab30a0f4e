"""The kinds of jobs as DBOS workflows of durable steps: `check`, the work, `clean`.

DBOS decides that a job goes on after a crash: it runs the step in flight again. The work itself
decides from where: it goes on from the units it has committed (checkpoints, shards, ranges).

A `Problem` becomes the job's error. Anything else becomes a short sentence for the caller, with
the traceback in the worker's log.
"""

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dbos import DBOS, DBOSClient, PortableWorkflowError
from dbos import error as dbos_errors
from pydantic import TypeAdapter

from app.contract.jobs import JobSpec
from app.contract.queues import MAX_STARTS
from app.errors import Problem
from app.store.leases import Lease, Lost, fenced
from worker.jobs.away import outliving, told, waiting_out
from worker.jobs.evaluate import check_evaluate, evaluate_sae
from worker.jobs.export_job import check_export, export_evidence
from worker.jobs.import_job import check_import, import_evidence
from worker.jobs.job import Bench, Job
from worker.jobs.keeper import Keeper
from worker.jobs.load import check_load, load
from worker.jobs.precompute import check_precompute, precompute_features
from worker.jobs.report import Report
from worker.jobs.train import check_train, train_sae
from worker.jobs.verify import check_verify, verify_evidence
from worker.progress import Cancelled

log = logging.getLogger("saescope.jobs")

Check = Callable[[Job[Any]], None]
Work = Callable[[Job[Any]], dict[str, Any]]

KINDS: dict[str, tuple[Check, Work]] = {
    "load": (check_load, load),
    "train": (check_train, train_sae),
    "precompute": (check_precompute, precompute_features),
    "evaluate": (check_evaluate, evaluate_sae),
    "verify": (check_verify, verify_evidence),
    "import": (check_import, import_evidence),
    "export": (check_export, export_evidence),
}


def register(bench: Bench, client: DBOSClient, keeper: Keeper) -> None:
    """Make the workflows known to DBOS; before it is launched."""
    for kind, (check, work) in KINDS.items():
        workflow = _workflow(bench, client, keeper, kind, check, work)
        # The first start is no recovery.
        DBOS.workflow(name=kind, max_recovery_attempts=MAX_STARTS - 1)(workflow)


def _workflow(
    bench: Bench, client: DBOSClient, keeper: Keeper, kind: str, check: Check, work: Work
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def run(body: dict[str, Any]) -> dict[str, Any]:
        job_id = DBOS.workflow_id
        assert job_id is not None
        with keeper.at_work(job_id) as lease:
            job = begun(job_id, body, lease)
            DBOS.run_step({"name": "check"}, _guarded, check, job)
            result = DBOS.run_step({"name": kind}, _guarded, work, job)
            DBOS.run_step({"name": "clean"}, _guarded, clean, job)
            return result

    def begun(job_id: str, body: dict[str, Any], lease: Lease) -> Job[Any]:
        shelf = fenced(bench.shelf, lease)
        ours = turn(client, job_id)
        is_ours = ours is not None and ours[0] == lease.worker
        report = Report(shelf, job_id, kind, lambda: is_ours and turn(client, job_id) == ours)
        spec: Any = TypeAdapter(JobSpec).validate_python(body)
        return Job(job_id, spec, replace(bench, shelf=shelf), report)

    return run


def clean(job: Job[Any]) -> None:
    """Remove what the job kept to go on from."""
    shutil.rmtree(job.checkpoints, ignore_errors=True)


def turn(client: DBOSClient, job_id: str) -> tuple[str | None, int | None] | None:
    """Which worker took the job from its queue, and when; None when nobody works on it.

    It changes when the job is cancelled or deleted, also when it was queued again meanwhile and
    another worker has it. While the database is away there is no answer, and the work waits: by the
    time that it is back, another worker may have the job.
    """
    found = waiting_out(
        lambda: client.list_workflows(workflow_ids=[job_id], load_input=False, load_output=False),
        patience_s=math.inf,
    )
    if not found or found[0].status != "PENDING":
        return None
    return found[0].executor_id, found[0].dequeued_at


def _guarded(step: Callable[[Job[Any]], Any], job: Job[Any]) -> Any:
    """Run a step; what goes wrong leaves it in the form in which DBOS stores errors."""
    try:
        return outliving(lambda: _run(step, job))
    except (Cancelled, Lost) as error:
        log.info("Job %s is let go: it was cancelled, or another worker has it. %s", job.id, error)
        raise dbos_errors.DBOSWorkflowCancelledError(f"Job {job.id} was cancelled.") from None
    except Problem as problem:
        # The sentence may repeat what was read; who may see the job gets it.
        log.warning("Job %s failed (%s); /v1/jobs/%s says why", job.id, problem.slug, job.id)
        raise _stored(problem) from problem
    except Exception as error:
        log.exception("Job %s ended with an error", job.id)
        raise _stored(told(error) or _unexpected(error)) from error


def _run(step: Callable[[Job[Any]], Any], job: Job[Any]) -> Any:
    job.report(step.__name__.split("_")[0], 0, 0)
    return step(job)


def _unexpected(error: Exception) -> Problem:
    told = f"{type(error).__name__}: {error}"[:300]
    return Problem(f"The job stopped at an unexpected error; its worker's log has more. ({told})")


def _stored(problem: Problem) -> PortableWorkflowError:
    return PortableWorkflowError(
        problem.detail, type(problem).__name__, problem.status, problem.body()
    )
