"""The service in this process: who waits for whom, and what stays behind."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.live import ActivationsAnswer, ActivationsRequest
from app.settings import Settings
from app.store.engine import open_shelf
from app.store.migrate import migrate
from tests.live.process import register
from tests.live.world import TEXTS, World
from worker.live import render
from worker.live.library import Library
from worker.live.service import LiveService

Use = Callable[[LiveService], Awaitable[Any]]


@pytest.fixture
def serve(tmp_path: Path, world: World) -> Callable[[Use], Any]:
    """Runs something on an event loop with the service over a shelf that has the model."""
    settings = Settings(data_dir=tmp_path)
    migrate(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    register(shelf, world)

    async def used(use: Use) -> Any:
        service = LiveService(Library(shelf, torch.device("cpu"), torch.float32), settings)
        service.start()
        try:
            return await use(service)
        finally:
            service.stop()

    return lambda use: asyncio.run(used(use))


def test_a_large_answer_lets_others_to_the_desk(serve: Callable[[Use], Any]) -> None:
    began, came = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        began.set()
        while not came.is_set():
            yield b"x"

    async def use(service: LiveService) -> bytes:
        large = asyncio.ensure_future(service._joined(pieces()))
        assert await asyncio.to_thread(began.wait, 10)
        await service._at_desk(came.set)
        return await large

    assert set(serve(use)) == {ord("x")}


def test_pieces_are_the_answer(
    serve: Callable[[Use], Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tokens than a piece has, a feature asked for twice, features in their order."""
    asked = ActivationsRequest(
        model=world.id,
        saes=["1-topk", "1-pre"],
        texts=[TEXTS[0], TEXTS[1]],
        features={"1-pre": [5, 3, 5]},
    )
    raw = serve(lambda service: service.activations(asked))
    monkeypatch.setattr(render, "_TOKENS", 5)
    assert serve(lambda service: service.activations(asked)) == raw
    first, second = ActivationsAnswer.model_validate_json(raw).results
    for result in (first, second):
        top, features = result.saes["1-topk"].top, result.saes["1-pre"].features
        assert top and len(top) == len(result.tokens) and any(top)
        assert features and list(features) == [5, 3]
        assert {len(column) for column in features.values()} == {len(result.tokens)}
    assert raw.count(b'"5":') == 2
