"""One id, one line and one trace for a request, through both processes."""

import re

import pytest

from tests.observe.conftest import SAE, Scene, of_api, of_live, together

pytestmark = together
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("stream", [False, True])
def test_both_processes_log_a_request_under_its_id(scene: Scene, stream: bool) -> None:
    own = f"mine-{stream}.1"
    answer = scene.api.client.post(
        "/v1/steer", json=scene.steer(stream=stream), headers={"X-Request-Id": own}
    )
    assert answer.status_code == 200 and answer.headers.get_list("x-request-id") == [own]
    line = scene.line(of_api, request_id=own, route="/v1/steer")
    assert line["process"] == "api" and line["method"] == "POST" and line["status"] == 200
    beside = scene.line(of_live, request_id=own, route="/steer")
    assert beside["process"] == "live" and 0 < beside["ms"] <= line["ms"]


@pytest.mark.parametrize("sent", [None, "", "two words", "x" * 65, "a\tb", "é"])
def test_an_id_that_is_not_plain_is_not_taken(scene: Scene, sent: str | None) -> None:
    headers = {} if sent is None else {"X-Request-Id": sent.encode()}
    answer = scene.api.client.get(f"/v1/models/{scene.world.id}/saes/{SAE}", headers=headers)
    made = answer.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", made)
    line = scene.line(of_api, request_id=made)
    assert line["route"] == "/v1/models/{model}/saes/{sae}" and "trace_id" in line


def test_a_refused_request_has_an_id_too(scene: Scene) -> None:
    answer = scene.api.client.get("/v1/models", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert scene.line(of_api, request_id=answer.headers["x-request-id"])["route"] == "unknown"


def test_one_trace_through_both_processes(scene: Scene) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = scene.api.client.post("/v1/steer", json=scene.steer(), headers=headers)
    assert answer.status_code == 200, answer.text
    wanted = {"POST /v1/steer", "live /steer", "POST /steer", "waiting", "prefill", "decode"}
    found = scene.collector.wait(TRACE, wanted.issubset)
    parents = {
        "POST /v1/steer": PARENT,
        "live /steer": found["POST /v1/steer"][1].span_id.hex(),
        "POST /steer": found["live /steer"][1].span_id.hex(),
    }
    inner = found["POST /steer"][1].span_id.hex()
    for name in wanted:
        service, span = found[name]
        assert span.parent_span_id.hex() == parents.get(name, inner), name
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert service == f"saescope-{'api' if '/v1' in name or 'live' in name else 'live'}"
    waiting, prefill, decode = (found[name][1] for name in ("waiting", "prefill", "decode"))
    assert waiting.end_time_unix_nano <= prefill.end_time_unix_nano <= decode.end_time_unix_nano
    told = {one.key: one.value.int_value for one in decode.attributes}
    assert told == {"rows": 2, "tokens": 16}


def test_a_capture_is_in_the_trace(scene: Scene) -> None:
    trace = TRACE[::-1]
    headers = {"traceparent": f"00-{trace}-{PARENT}-01"}
    body = {"model": scene.world.id, "saes": [SAE], "texts": ["A text of its own"]}
    assert scene.api.client.post("/v1/activations", json=body, headers=headers).status_code == 200
    found = scene.collector.wait(trace, {"capture", "POST /activations"}.issubset)
    assert found["capture"][1].parent_span_id == found["POST /activations"][1].span_id
