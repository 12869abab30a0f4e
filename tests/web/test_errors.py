"""People get pages for errors, programs get problems."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.api.conftest import NOBODY, broken_client_of, client_of
from tests.databases import prepare

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The API over an empty shelf, without a live worker."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("empty"), live_url=NOBODY)
    prepare(settings.shelf_url)
    with client_of(settings) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/nothing", 404, "There is no GET /nothing"),
        ("/models/nope", 404, "There is no model &#39;nope&#39;"),
        ("/models/%3Cscript%3E", 422, "path.model"),
        ("/models/m/saes/s?sort=size", 422, "sort"),
        ("/models/m/saes/s/features/1e9", 422, "path.index"),
        ("/text?token=-1", 422, "token"),
        ("/jobs/none", 404, "none"),
        ("/static/0/app.py", 404, "There is no file app.py"),
        ("/static/0/..%2Fpage.py", 404, "There is no"),
    ],
)
def test_errors_are_pages_for_people(
    empty: TestClient, path: str, status: int, sentence: str
) -> None:
    answer = empty.get(path, headers=BROWSER)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert sentence in answer.text and "<h1>" in answer.text
    for headers in ({"accept": "*/*"}, BROWSER | {"hx-request": "true"}):
        told = empty.get(path, headers=headers)
        assert told.status_code == status
        assert told.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/models/nope", "/v1/nothing", "/docs/nothing"])
def test_the_api_answers_with_problems_even_to_a_browser(empty: TestClient, path: str) -> None:
    answer = empty.get(path, headers=BROWSER)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/", "/text", "/steer", "/jobs"])
def test_pages_of_an_empty_service_say_what_to_do(empty: TestClient, path: str) -> None:
    answer = empty.get(path, headers=BROWSER)
    assert answer.status_code == 200, answer.text
    assert 'class="empty"' in answer.text


def test_what_breaks_is_a_page_too(tmp_path: Path) -> None:
    with broken_client_of(Settings(data_dir=tmp_path, live_url=NOBODY)) as client:
        answer = client.get("/", headers=BROWSER)
    assert answer.status_code >= 500 and "<h1>" in answer.text


def test_those_in_the_setting_may_frame_what_may_be_embedded(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, live_url=NOBODY, frame_ancestors=["'self'", "https://notes.example"]
    )
    prepare(settings.shelf_url)
    with client_of(settings) as client:
        policies = [
            client.get(path).headers["content-security-policy"].partition("frame-ancestors ")[2]
            for path in ("/?embed=true", "/?embed=false", "/")
        ]
    assert policies == ["'self' https://notes.example", "'none'", "'none'"]
