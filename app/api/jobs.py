"""Jobs: submit, look up, watch, cancel, retry, delete."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.openapi.models import Example
from pydantic import BaseModel, Field

from app.api import sse
from app.api.params import JobId, PageQuery
from app.api.problems import documented
from app.api.state import Use
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES, BUNDLED_SPLIT
from app.contract.jobs import FINAL, JobKind, JobSpec, JobState, JobView
from app.observe import KEY

router = APIRouter(tags=["jobs"])
_ENDED = "ended"
"""Id of a job's last event; who has seen it need not connect again."""

_CORPUS = {"bundled": BUNDLED_MODEL, "documents": 200}
EXAMPLES: dict[str, Example] = {
    "load": {
        "summary": "Register an SAE that comes with the project",
        "value": {
            "kind": "load",
            "model": BUNDLED_MODEL,
            "sae": BUNDLED_SAES[0],
            "path": f"bundled:{BUNDLED_MODEL}/{BUNDLED_SAES[0]}",
        },
    },
    "train": {
        "summary": "Train a small SAE, in about a minute",
        "value": {
            "kind": "train",
            "model": BUNDLED_MODEL,
            "sae": "2-my-topk",
            "hook_name": "blocks.2.hook_resid_post",
            "corpus": _CORPUS,
            "d_sae": 256,
            "k": 8,
            "training_tokens": 20_000,
        },
    },
    "precompute": {
        "summary": "Compute the evidence of neurons and of an SAE that splits them, on a small corpus",
        "value": {
            "kind": "precompute",
            "model": BUNDLED_MODEL,
            "saes": [*BUNDLED_SPLIT],
            "corpus": _CORPUS,
        },
    },
    "evaluate": {
        "summary": "Measure how well an SAE stands for its hook point",
        "value": {
            "kind": "evaluate",
            "model": BUNDLED_MODEL,
            "sae": BUNDLED_SAES[1],
            "tokens": 5_000,
        },
    },
    "verify": {
        "summary": "Audit the stored evidence of an SAE",
        "value": {"kind": "verify", "model": BUNDLED_MODEL, "sae": BUNDLED_SAES[0]},
    },
    "export": {
        "summary": "Write the evidence of an SAE in Neuronpedia's layout",
        "value": {"kind": "export", "model": BUNDLED_MODEL, "sae": BUNDLED_SAES[0]},
    },
    "import": {
        "summary": "Take over evidence in Neuronpedia's layout, of a few features",
        "value": {"kind": "import", "path": "bundled:evidence", "sae": "2-imported"},
    },
}
_LOCATION = {
    "description": "Address of the job.",
    "schema": {"type": "string"},
    "required": True,
}
_EVENTS = {
    sse.MEDIA_TYPE: {
        "schema": {"type": "string"},
        "example": 'event: progress\ndata: {"id":"...","state":"running","progress":0.4}\n\n'
        'id: ended\nevent: done\ndata: {"id":"...","state":"done","progress":1.0}\n\n',
    }
}


class JobList(BaseModel):
    """A page of jobs, newest first."""

    items: list[JobView]
    next_cursor: str | None


class JobQuery(PageQuery):
    """Which jobs."""

    state: JobState | None = Field(default=None, description="Only jobs in this state.")
    kind: JobKind | None = Field(default=None, description="Only jobs of this kind.")


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    status_code=202,
    responses={
        202: {"headers": {"Location": _LOCATION}},
        **documented(403, 409, 413, 415, 422, 503),
    },
)
async def submit_job(
    services: Use,
    response: Response,
    spec: Annotated[JobSpec, Body(openapi_examples=EXAMPLES)],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A key of your own: the same key answers with the job that it first made, "
            "so that a request can be repeated without running twice.",
        ),
    ] = None,
) -> JobView:
    """Queue a job: `load` registers a model or an SAE from a folder, `train` trains an SAE,
    `precompute` computes the evidence of every feature of some SAEs, `verify` computes a random
    sample of it anew and tells the largest difference, `evaluate` measures how well an SAE stands
    for its hook point, `import` takes over evidence that Neuronpedia or SAEDashboard wrote, `export`
    writes it in Neuronpedia's layout.

    The answer is the job as it stands; `Location` is its address, and `/events` under it tells
    how it goes on. Files, hook points and widths are checked within seconds after the job begins.
    A job that cannot work fails with the reason before any work is done.
    """
    jobs = await services.jobs()
    view = await asyncio.to_thread(jobs.submit, spec, idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{view.id}"
    return view


@router.get("/v1/jobs", summary="List the jobs", responses=documented(422, 503))
async def list_jobs(services: Use, query: Annotated[JobQuery, Query()]) -> JobList:
    """All jobs that were not deleted, newest first."""
    jobs = await services.jobs()
    items, next_cursor = await asyncio.to_thread(jobs.list, **query.model_dump())
    return JobList(items=items, next_cursor=next_cursor)


@router.get("/v1/jobs/{job}", summary="Look a job up", responses=documented(404, 422, 503))
async def get_job(services: Use, job: JobId) -> JobView:
    """A job as it stands: state, progress from 0 to 1, phase, rate and time left; the result when
    it is done, the problem when it failed."""
    jobs = await services.jobs()
    return await asyncio.to_thread(jobs.get, job)


@router.get(
    "/v1/jobs/{job}/events",
    summary="Watch a job",
    response_class=Response,
    responses={
        200: {"content": _EVENTS, "description": "Server-sent events until the job has ended."},
        204: {"description": "The job's end was already sent (Last-Event-ID); stop connecting."},
        **documented(404, 422, 503),
    },
)
async def watch_job(
    request: Request,
    services: Use,
    job: JobId,
    last_event_id: Annotated[str | None, Header(description="Sent by browsers.")] = None,
) -> Response:
    """Server-sent events: `progress` with the job whenever it changes, and `done` with the job
    when it has ended in any way (`state` says how), which closes the stream."""
    if last_event_id == _ENDED:
        return Response(status_code=204)
    key = request.scope.get(KEY)
    services.streams.check(key)
    jobs = await services.jobs()
    views = jobs.events(job)
    first = await anext(views)
    return sse.event_stream(_frames(first, views), services.streams, key)


async def _frames(
    first: JobView, following: AsyncGenerator[JobView, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(following):
        yield _frame(first)
        async for view in following:
            yield _frame(view)


def _frame(view: JobView) -> bytes:
    body = view.model_dump_json().encode()
    if view.state in FINAL:
        return sse.frame("done", body, id=_ENDED)
    return sse.frame("progress", body)


@router.post(
    "/v1/jobs/{job}/cancel", summary="Cancel a job", responses=documented(403, 404, 409, 422, 503)
)
async def cancel_job(services: Use, job: JobId) -> JobView:
    """Stop a job. What it has committed stays, and a retry goes on from there."""
    jobs = await services.jobs()
    return await asyncio.to_thread(jobs.cancel, job)


@router.post(
    "/v1/jobs/{job}/retry", summary="Retry a job", responses=documented(403, 404, 409, 422, 503)
)
async def retry_job(services: Use, job: JobId) -> JobView:
    """Queue a failed or cancelled job again; it goes on from its last committed unit."""
    jobs = await services.jobs()
    return await asyncio.to_thread(jobs.retry, job)


@router.delete(
    "/v1/jobs/{job}",
    summary="Delete a job",
    status_code=204,
    response_class=Response,
    responses=documented(403, 404, 409, 422, 503),
)
async def delete_job(services: Use, job: JobId) -> None:
    """Forget a job that has ended. What it made stays."""
    jobs = await services.jobs()
    await asyncio.to_thread(jobs.delete, job)
