"""Nothing that users send comes into a log or a trace: a word is sent in every place of every request,
good, bad and failing, and looked for in all that the processes say."""

import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from app.settings import Settings
from app.store.engine import Shelf, open_shelf
from tests.api.conftest import NOBODY
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.observe.conftest import SAE, Scene, of_api, of_live, together
from tests.store import builders
from worker.live.reading.routes import READINGS

pytestmark = together
WORD = "xyzzyquux"
LIVE_PATHS = [*READINGS, "/tokenize", "/activations", "/steer", "/sweep", "/complete", "/search"]
SECRETS = {
    "Authorization": f"Bearer {WORD}",
    "x-api-key": WORD,
    "Cookie": f"saescope_key={WORD}",
    "User-Agent": WORD,
    "X-Request-Id": f"{WORD} {WORD}",
    "traceparent": WORD,
}
BAD = [f'{{"{WORD}": "{WORD}"}}', f'"{WORD}"', f"{{{WORD}", f'{{"model": {{"{WORD}": 1}}}}']


def ask(client: httpx.Client, method: str, path: str, **request: Any) -> int:
    """The status of an answer that may break off."""
    try:
        return client.request(method, path, **request).status_code
    except httpx.RemoteProtocolError:
        return 0


def good(scene: Scene) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests that succeed, with the word as prompt, text and message."""
    model, prompt = scene.world.id, f"The {WORD} is"
    messages = [{"role": "user", "content": prompt}]
    feature = {"modelId": model, "source": SAE, "index": "3"}
    searched = {"modelId": model, "sourceSet": "post", "selectedLayers": [SAE]}
    for stream in (False, True):
        yield "/v1/steer", scene.steer(prompt=prompt, stream=stream, report=True)
        yield "/v1/steer", scene.steer(prompt=None, messages=messages, stream=stream)
        sampled = {"model": model, "max_tokens": 5, "stream": stream}
        yield "/v1/completions", {**sampled, "prompt": prompt, "stop": [WORD]}
        yield "/v1/chat/completions", {**sampled, "messages": messages}
    yield "/v1/activations", {"model": model, "saes": [SAE], "texts": [prompt, WORD]}
    yield "/v1/features/search", {"model": model, "saes": [SAE], "text": prompt}
    contrast = {"positive": [prompt], "negative": ["A cat"]}
    yield "/v1/features/search", {"model": model, "saes": [SAE], "contrast": contrast}
    yield "/v1/steer/sweep", scene.steer(prompt=prompt, strengths=[1.0])
    yield "/inference/v1/tokenize", {"model": model, "text": prompt}
    yield "/inference/v1/apply-chat-template", {"model": model, "messages": messages}
    one = {"model": model, "source": SAE, "index": "3", "prompt": prompt}
    yield "/inference/v1/activation/single", one
    yield "/api/activation/new", {"feature": feature, "customText": prompt}
    yield "/api/search-all", {**searched, "text": prompt, "sortIndexes": []}
    entry = {"modelId": model, "layer": SAE, "index": 3, "strength": 3}
    sampled = {"temperature": 1, "n_tokens": 5, "freq_penalty": 0, "strength_multiplier": 2}
    steered = {"modelId": model, "features": [entry], "seed": 1, **sampled}
    yield "/api/steer", {**steered, "prompt": prompt}
    chat = {"defaultChatMessages": messages, "steeredChatMessages": messages}
    yield "/api/steer-chat", {**steered, **chat, "steer_special_tokens": True}


def refused(scene: Scene) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests that nobody can fulfil, for a reason that is found later."""
    model, many = scene.world.id, f"{WORD} " * 400
    yield "/v1/steer", scene.steer(prompt=many)
    yield "/v1/steer", scene.steer(prompt=WORD, steering=[{"sae": WORD, "feature": 1}])
    vector = {"hook": WORD, "vector": [1.0], "strength": 1.0}
    yield "/v1/steer", scene.steer(prompt=WORD, steering=[vector], stream=True)
    yield "/v1/steer", scene.steer(prompt=WORD, model=WORD)
    yield "/v1/steer", scene.steer(prompt=WORD, messages=[{"role": WORD, "content": WORD}])
    yield "/v1/activations", {"model": model, "saes": [SAE], "texts": [many]}
    messages = [{"role": WORD, "content": WORD}]
    yield "/v1/chat/completions", {"model": model, "messages": messages}


def everywhere(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(method, path) of every operation, with the word in the place of what a path names."""
    for path, operations in document["paths"].items():
        for method in operations:
            yield method.upper(), re.sub(r"\{[^}]*\}", WORD, path)


def send_bad_ones(client: httpx.Client, operations: list[tuple[str, str]]) -> int:
    """How many requests that are wrong in their form were sent."""
    query = dict.fromkeys(("q", "text", "cursor", "limit", "sort", "prompt", WORD), WORD)
    json = {"Content-Type": "application/json"}
    for method, path in operations:
        ask(client, method, path, params=query, headers=SECRETS)
        for body in BAD if method != "GET" else ():
            ask(client, method, path, content=body, headers=json | SECRETS)
        ask(client, method, path, content=WORD, headers={"Content-Type": WORD})
        ask(client, method, path, params=query)
    return len(operations)


def send_no_http(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{WORD} /{WORD} {WORD}/1.1\r\n{WORD}\r\n\r\n".encode())
        connection.recv(100)


@contextmanager
def without(shelf: Shelf, table: str) -> Iterator[None]:
    """A shelf on which every statement about a table fails."""
    with shelf.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {table}_away"))
    try:
        yield
    finally:
        with shelf.write() as connection:
            connection.execute(text(f"ALTER TABLE {table}_away RENAME TO {table}"))


def test_no_word_of_a_request_is_in_a_log_or_a_trace(scene: Scene) -> None:
    api, live = scene.api.client, scene.live.client
    for path, body in good(scene):
        answer = api.post(path, json=body)
        assert answer.status_code == 200, (path, answer.text)
    told = [api.post(path, json=body) for path, body in refused(scene)]
    assert all(one.status_code in (400, 404, 413, 422) for one in told), told
    assert any(WORD in one.text for one in told), "who asks is told"
    operations = [*everywhere(api.get("/openapi.json").json())]
    assert send_bad_ones(api, operations) > 60
    pages = [("GET", f"/{path}") for path in ("", "text", "login", f"find/{WORD}", WORD)]
    send_bad_ones(api, [*pages, ("POST", "/login")])
    send_bad_ones(live, [("POST", path) for path in LIVE_PATHS])
    for url in (scene.api.url, scene.live.settings.live_url):
        send_no_http(url)
    with without(scene.live.shelf, "models"):
        for path in LIVE_PATHS:
            ask(live, "POST", path, json=scene.steer(model=WORD, text=WORD))
        for path, body in (*good(scene), *refused(scene)):
            ask(api, "POST", path, json=body | {"model": WORD})
    die_in_the_middle(scene)
    words = of_api(scene) + of_live(scene)
    assert "Traceback" not in words and '"traceback"' in words, "something failed, and was logged"
    assert '"status":422' in words and '"status":503' in words and "/v1/steer" in words
    assert WORD not in words
    assert not any(WORD.encode() in body for body in scene.collector.bodies)


def die_in_the_middle(scene: Scene) -> None:
    """The live worker is killed under a stream, and asked while it is away."""
    assert scene.live.process
    body = scene.steer(prompt=WORD, stream=True, max_new_tokens=40)
    with scene.api.client.stream("POST", "/v1/steer", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        scene.live.process.send_signal(signal.SIGKILL)
        scene.live.process.wait()
        list(lines)
    try:
        for path, body in good(scene):
            answer = scene.api.client.post(path, json=body)
            assert answer.status_code == 503
            if "/v1/steer" in path:
                assert answer.json()["request_id"] == answer.headers["x-request-id"]
    finally:
        scene.live.start()


def test_a_statement_that_fails_is_told_without_what_it_asked_for(
    tmp_path: Path, postgres: Callable[[], str]
) -> None:
    """On Postgres a table that is gone is nothing that anybody expects: 500 and a traceback."""
    settings = Settings(data_dir=tmp_path, database_url=postgres(), live_url=NOBODY)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    builders.fill(shelf)
    server = ServerProcess(settings).start()
    try:
        with without(shelf, "saes"):
            path = f"/v1/models/tiny/saes/{WORD}/features"
            answer = server.client.get(path, params={"q": WORD})
            assert answer.status_code == 500
            told = answer.json()
            assert told["request_id"] == answer.headers["x-request-id"]
    finally:
        server.stop()
        shelf.close()
    words = server.log.read_text()
    assert "sqlalchemy.exc.ProgrammingError: (message left out" in words
    assert f"request_id={told['request_id']}" in words and "app/store/" in words
    assert WORD not in words
