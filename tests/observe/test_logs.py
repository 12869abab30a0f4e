"""What a line of a log is, and what of an error is in it."""

import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError

from app import logs, traces
from app.settings import Settings

WORD = "xyzzyquux"


class Number(BaseModel):
    value: int


def validation() -> None:
    Number.model_validate({"value": WORD})


def chained() -> None:
    try:
        validation()
    except ValueError as error:
        raise RuntimeError(WORD) from error


def meanwhile() -> None:
    try:
        raise KeyError(WORD)
    finally:
        validation()


def grouped() -> None:
    raise ExceptionGroup(WORD, [ValueError(WORD), ExceptionGroup(WORD, [KeyError(WORD)])])


def statement() -> None:
    raise OperationalError(f"SELECT '{WORD}'", {"q": WORD}, Exception("no such table: models"))


ERRORS = [validation, chained, meanwhile, grouped, statement]


@pytest.fixture
def kept() -> Iterator[None]:
    """Puts logging back as it was."""
    root, showing = logging.getLogger(), warnings.showwarning
    before = list(root.handlers), root.level
    yield
    root.handlers, root.level, warnings.showwarning = *before, showing


@pytest.fixture
def said(kept: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], str]]:
    """Sets logging up; what was logged since."""

    def set_up(**settings: str) -> Callable[[], str]:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up("api", Settings.model_validate(settings))
        return stream.getvalue

    return set_up


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("fails", ERRORS)
def test_an_error_is_told_without_its_message(
    said: Callable[..., Callable[[], str]], fails: Callable[[], None], form: str
) -> None:
    told = said(log_format=form)
    try:
        fails()
    except Exception:
        logging.getLogger("worker.live.http").exception("/steer failed")
    text = told()
    assert WORD not in text
    assert "/steer failed" in text and f"in {fails.__name__}" in text
    assert "no such table: models" in text if fails is statement else "message left out" in text
    if form == "json":
        assert json.loads(text)["traceback"].startswith("  File") and text.count("\n") == 1
    else:
        assert text.splitlines()[0].endswith("ERROR worker.live.http: /steer failed")


def test_debug_tells_messages_too(said: Callable[..., Callable[[], str]]) -> None:
    told = said(log_level="debug")
    try:
        chained()
    except RuntimeError:
        logging.getLogger("app.api").exception("it failed")
    assert told().count(WORD) >= 2


def test_what_nobody_waited_for_is_told_without_its_message(
    said: Callable[..., Callable[[], str]],
) -> None:
    told = said()

    async def left_alone() -> None:
        async def fails() -> None:
            raise ValueError(WORD)

        task = asyncio.ensure_future(fails())
        await asyncio.wait([task])

    asyncio.run(left_alone())
    gc.collect()
    assert "Task exception was never retrieved" in told() and WORD not in told()
    warnings.warn(WORD, UserWarning, stacklevel=1)
    assert "UserWarning at" in told() and WORD not in told()


def test_lines_of_other_libraries_have_our_form(said: Callable[..., Callable[[], str]]) -> None:
    told = said(log_format="json")
    token = logs.REQUEST_ID.set("mine")
    try:
        for name in ("uvicorn.error", "dbos", "transformers", "aiohttp.client"):
            logging.getLogger(name).error("wrong\n")
        logging.getLogger("aiohttp.client").info("not asked for")
    finally:
        logs.REQUEST_ID.reset(token)
    lines = [json.loads(line) for line in told().splitlines()]
    assert [line["logger"] for line in lines[:2]] == ["uvicorn.error", "dbos"]
    for line in lines:
        assert line["message"] == "wrong" and line["level"] == "ERROR"
        assert line["request_id"] == "mine" and line["process"] == "api"
        assert line["time"].endswith("Z")
    assert "not asked for" not in told()


def test_traces_that_cannot_be_sent_are_one_sentence(
    said: Callable[..., Callable[[], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = said()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    traces.set_up("api")
    assert "Install saescope[otel]" in told() and "Traceback" not in told()
    with traces.calling("x") as headers:
        assert headers == {}


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    program = (
        "import sys, app.main, app.traces; app.traces.set_up('api'); "
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', "
        "'opentelemetry.exporter', 'dbos', 'torch'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
