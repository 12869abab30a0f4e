"""Jobs over HTTP, on DBOS' real tables of both databases; no worker runs here."""

import json
import signal
import time
from typing import Any

import httpx
from fastapi.testclient import TestClient

from app.api.jobs import JobList
from app.contract.jobs import JobView
from app.store.progress import put_progress
from tests.api.server import ServerProcess, events_of
from tests.api.test_lookups import checked
from tests.api.test_problems import problem_of
from tests.live.process import LiveProcess

LOAD = {"kind": "load", "model": "tiny", "path": "models/tiny"}
TRAIN = {"kind": "train", "model": "tiny", "sae": "1-mine", "hook_name": "blocks.1.hook_resid_post"}


def submit(client: TestClient | httpx.Client, spec: dict[str, Any], **headers: str) -> str:
    answer = client.post("/v1/jobs", json=spec, headers=headers)
    assert answer.status_code == 202, answer.text
    view = JobView.model_validate_json(answer.content, strict=True)
    assert answer.headers["location"] == f"/v1/jobs/{view.id}"
    return view.id


def test_a_job_from_submit_to_delete(client: TestClient) -> None:
    job = submit(client, TRAIN)
    view = checked(JobView, client.get(f"/v1/jobs/{job}"))
    assert (view["kind"], view["state"], view["progress"]) == ("train", "queued", 0.0)
    assert view["spec"] | TRAIN == view["spec"]
    assert view["spec"]["training_tokens"] == 1_000_000
    assert view["created_at"].endswith("Z")
    assert "cancel it first" in problem_of(client.delete(f"/v1/jobs/{job}"), 409)["detail"]
    retried = client.post(f"/v1/jobs/{job}/retry")
    assert "only failed and cancelled" in problem_of(retried, 409)["detail"]
    assert checked(JobView, client.post(f"/v1/jobs/{job}/cancel"))["state"] == "cancelled"
    assert checked(JobView, client.post(f"/v1/jobs/{job}/retry"))["state"] == "queued"
    assert checked(JobView, client.post(f"/v1/jobs/{job}/cancel"))["state"] == "cancelled"
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    problem_of(client.get(f"/v1/jobs/{job}"), 404)


def test_a_whole_number_may_have_a_point(client: TestClient) -> None:
    job = submit(client, TRAIN | {"training_tokens": 5e4, "lr": 1})
    assert '"training_tokens":50000,' in client.get(f"/v1/jobs/{job}").text
    client.post(f"/v1/jobs/{job}/cancel")


def test_a_job_without_a_curve_says_so(client: TestClient) -> None:
    job = submit(client, TRAIN)
    problem = problem_of(client.get(f"/v1/jobs/{job}/curve.svg"), 409)
    assert "(train, queued) has no curve" in problem["detail"]
    problem_of(client.get("/v1/jobs/nobody/curve.svg"), 404)
    client.post(f"/v1/jobs/{job}/cancel")


def test_an_idempotency_key_makes_one_job(client: TestClient) -> None:
    key = {"Idempotency-Key": "mine-1"}
    job = submit(client, LOAD, **key)
    assert submit(client, LOAD, **key) == job
    assert submit(client, LOAD) != job
    other = client.post("/v1/jobs", json=TRAIN, headers=key)
    assert "already used for another job" in problem_of(other, 409)["detail"]
    empty = client.post("/v1/jobs", json=LOAD, headers={"Idempotency-Key": ""})
    assert "header.idempotency-key" in problem_of(empty, 422)["detail"]


def test_list_newest_first_in_pages(client: TestClient) -> None:
    jobs = [submit(client, spec) for spec in (LOAD, TRAIN, LOAD, TRAIN, LOAD)]
    client.post(f"/v1/jobs/{jobs[0]}/cancel")
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = checked(JobList, client.get("/v1/jobs", params=query))
        seen += [view["id"] for view in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == jobs[::-1]
    trains = checked(JobList, client.get("/v1/jobs", params={"kind": "train"}))["items"]
    assert [view["id"] for view in trains] == [jobs[3], jobs[1]]
    cancelled = checked(JobList, client.get("/v1/jobs", params={"state": "cancelled"}))["items"]
    assert [view["id"] for view in cancelled] == [jobs[0]]


def test_events_of_a_job_that_has_ended(client: TestClient) -> None:
    job = submit(client, LOAD)
    client.post(f"/v1/jobs/{job}/cancel")
    answer = client.get(f"/v1/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    ((name, data),) = events_of(answer)
    assert name == "done"
    assert JobView.model_validate_json(data, strict=True).state == "cancelled"
    again = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "ended"})
    assert (again.status_code, again.content) == (204, b"")


def test_events_come_as_they_happen(server: ServerProcess, live: LiveProcess) -> None:
    job = submit(server.client, LOAD)
    gzip = {"Accept-Encoding": "gzip"}
    with server.client.stream("GET", f"/v1/jobs/{job}/events", headers=gzip) as answer:
        assert answer.headers["cache-control"] == "no-store"
        assert "content-encoding" not in answer.headers
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines) == "event: progress"
        assert json.loads(next(lines).removeprefix("data: "))["state"] == "queued"
        server.client.post(f"/v1/jobs/{job}/cancel")
        put_progress(live.shelf, job, "copying", 0.5)
        names = [line for line in lines if line.startswith("event: ")]
    assert names[-1] == "event: done"


def test_head_of_an_event_stream_ends(server: ServerProcess) -> None:
    job = submit(server.client, LOAD)
    answer = server.client.head(f"/v1/jobs/{job}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    server.client.post(f"/v1/jobs/{job}/cancel")


def test_the_server_stops_under_an_open_stream(server: ServerProcess, live: LiveProcess) -> None:
    own = ServerProcess(live.settings).start()
    job = submit(own.client, LOAD)
    with own.client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: progress"
        began = time.monotonic()
        assert own.process
        own.process.send_signal(signal.SIGTERM)
        for _line in lines:
            pass
    assert own.process.wait(20) in (0, -signal.SIGTERM)
    assert time.monotonic() - began < 20
    assert "Traceback" not in own.log.read_text()
    server.client.post(f"/v1/jobs/{job}/cancel")
