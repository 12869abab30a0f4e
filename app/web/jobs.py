"""Jobs: a list, and one at work, with its curves as they grow."""

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.jobs import FINAL, JobQuery
from app.api.params import JobId
from app.api.state import Use
from app.web.page import page

router = APIRouter(include_in_schema=False)


@router.get("/jobs")
async def jobs_page(
    request: Request, services: Use, query: Annotated[JobQuery, Query()]
) -> Response:
    """All jobs, newest first."""
    jobs = await services.jobs()
    items, following = await asyncio.to_thread(jobs.list, **query.model_dump())
    asked = query.model_dump(exclude={"cursor"}, exclude_none=True)
    return page(
        services,
        request,
        "jobs.html",
        jobs=items,
        older=following and asked | {"cursor": following},
    )


@router.get("/jobs/{job}")
async def job_page(request: Request, services: Use, job: JobId) -> Response:
    """One job. Its script follows it until it ends."""
    jobs = await services.jobs()
    view = await asyncio.to_thread(jobs.get, job)
    return page(
        services,
        request,
        "job.html",
        job=view,
        ended=view.state in FINAL,
        has_curve="curve" in (view.result or {}),
        spec=json.dumps(view.spec, indent=2, ensure_ascii=False),
    )
