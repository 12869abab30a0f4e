"""ETags, 304, gzip and HEAD."""

import gzip

import pytest
from fastapi.testclient import TestClient

from app.store import read, write
from app.store.engine import Shelf
from tests.store import builders

FEATURE = "/v1/models/tiny/saes/0-res/features/3"
LOOKUPS = [
    "/v1/models",
    "/v1/models/tiny",
    "/v1/models/tiny/saes",
    "/v1/models/tiny/saes/0-res",
    "/v1/models/tiny/saes/0-res/features",
    "/v1/models/tiny/saes/0-res/features?sort=density&limit=3",
    FEATURE,
]
PLAIN = {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("path", LOOKUPS)
def test_known_answers_are_304(reader: TestClient, path: str) -> None:
    tag = reader.get(path).headers["etag"]
    assert not tag.startswith("W/")
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = reader.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert answer.headers["vary"] == "Accept-Encoding"
    assert reader.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_every_lookup_has_a_tag_of_its_own(reader: TestClient) -> None:
    tags = [reader.get(path).headers["etag"] for path in LOOKUPS]
    assert len(set(tags)) == len(tags)


def test_gzip_and_plain_bytes_have_different_tags(reader: TestClient) -> None:
    plain = reader.get(FEATURE, headers=PLAIN)
    packed = reader.get(FEATURE, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert plain.content == packed.content
    assert plain.headers["etag"] != packed.headers["etag"]
    known = {"If-None-Match": packed.headers["etag"]}
    assert reader.get(FEATURE, headers=known | PLAIN).status_code == 200
    assert reader.get(FEATURE, headers=known | {"Accept-Encoding": "gzip"}).status_code == 304


def test_small_answers_are_not_packed(reader: TestClient) -> None:
    small = reader.get("/v1/models/tiny", headers={"Accept-Encoding": "gzip"})
    assert len(small.content) < 1_000
    assert "content-encoding" not in small.headers


def test_what_changes_changes_the_tag(client: TestClient, shelf: Shelf) -> None:
    paths = (FEATURE, "/v1/models/tiny/saes/0-res", "/v1/models/tiny/saes")
    before = {path: client.get(path).headers["etag"] for path in paths}
    builders.put_run(shelf, builders.corpus(), "run-2", seed=1)
    for path in paths:
        answer = client.get(path, headers={"If-None-Match": before[path]})
        assert answer.status_code == 200
        assert answer.headers["etag"] != before[path]
    tag = client.get(paths[1]).headers["etag"]
    fingerprint = read.sae(shelf, "tiny", "0-res").fingerprint
    write.set_evaluation(shelf, "tiny", "0-res", fingerprint, {"l0": 3.0})
    assert client.get(paths[1]).headers["etag"] != tag


@pytest.mark.parametrize("path", [*LOOKUPS, "/healthz", "/docs", "/docs/swagger-ui.css"])
def test_head_is_get_without_the_body(reader: TestClient, path: str) -> None:
    get, head = reader.get(path, headers=PLAIN), reader.head(path, headers=PLAIN)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag"):
        assert head.headers.get(name) == get.headers.get(name)


def test_gzip_really_is(reader: TestClient) -> None:
    with reader.stream("GET", FEATURE, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert gzip.decompress(raw) == reader.get(FEATURE, headers=PLAIN).content
