"""The service in this process: who waits for whom, and what stays behind."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.live import ActivationsAnswer, ActivationsRequest, SteerRequest, SweepRequest
from app.contract.reading import ActiveAnswer, ActiveRequest, RankRequest, StatesRequest
from app.errors import Invalid, TooLarge, Unavailable
from app.settings import Settings
from app.store.engine import open_shelf
from app.store.migrate import migrate
from tests.live.process import register
from tests.live.world import SITES, TEXTS, World, entry
from worker.live import render
from worker.live.answer import Generation
from worker.live.capture import CaptureJob
from worker.live.library import Library
from worker.live.reading.active import active
from worker.live.reading.rank import rank
from worker.live.reading.states import states
from worker.live.resident import Held
from worker.live.service import LiveService

Use = Callable[[LiveService], Awaitable[Any]]
Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path, world: World) -> Serve:
    """Runs something on an event loop with the service over a shelf that has the model."""
    migrate(Settings(data_dir=tmp_path).shelf_url)
    shelf = open_shelf(Settings(data_dir=tmp_path).shelf_url)
    register(shelf, world)

    async def used(use: Use, **settings: Any) -> Any:
        library = Library(shelf, torch.device("cpu"), torch.float32)
        service = LiveService(library, Settings(data_dir=tmp_path, **settings))
        service.start()
        try:
            return await use(service)
        finally:
            service.stop()

    return lambda use, **settings: asyncio.run(used(use, **settings))


def steer(world: World, **fields: Any) -> SteerRequest:
    body = {"model": world.id, "prompt": TEXTS[0], "interventions": [], "max_new_tokens": 6}
    return SteerRequest.model_validate(body | fields)


async def answer(service: LiveService, request: SteerRequest) -> Any:
    """Without the times."""
    told = await service.answer(*await service.prepare(request))
    return {name: part for name, part in told.items() if name != "timings"}


@asynccontextmanager
async def held_up(service: LiveService) -> AsyncIterator[None]:
    """The model thread does something long meanwhile."""
    go_on = threading.Event()
    service.desk.thread.call(go_on.wait)
    try:
        yield
    finally:
        go_on.set()


def test_what_needs_no_model_does_not_wait_for_its_thread(serve: Serve, world: World) -> None:
    """Requests that cannot fit among it: they are refused before they queue."""
    refused = [
        {"prompt": "salt and flour " * 20},
        {"max_new_tokens": 60},
        {"interventions": [entry(hook=SITES["post"], vector=[1.0] * 31).model_dump()]},
        {"interventions": [entry(sae="1-post", feature=96).model_dump()]},
    ]

    async def use(service: LiveService) -> None:
        steered = steer(world, interventions=[entry(sae="1-post", feature=7).model_dump()])
        before = await answer(service, steered)
        async with held_up(service):
            waiting = asyncio.ensure_future(answer(service, steered))
            for fields in refused:
                with pytest.raises(Invalid):
                    await service.prepare(steer(world, **fields))
            texts = ActivationsRequest(model=world.id, saes=["1-post"], texts=["salt " * 80])
            with pytest.raises(Invalid):
                await service.activations(texts)
            assert service.health().models == [world.id]
            assert not waiting.done()
        assert await waiting == before

    serve(use)


def test_who_has_waited_too_long_is_told_and_the_next_is_served(serve: Serve, world: World) -> None:
    async def use(service: LiveService) -> None:
        before = await answer(service, steer(world))
        async with held_up(service):
            waiting = [asyncio.ensure_future(answer(service, steer(world))) for _ in range(3)]
            await asyncio.sleep(1.5)
        for one in waiting:
            with pytest.raises(Unavailable, match="within 1 s"):
                await one
        assert await answer(service, steer(world)) == before
        assert (service.health().running, service.health().waiting) == (0, 0)

    serve(use, live_timeout_s=1.0)


def test_nothing_of_a_request_stays_behind(serve: Serve, world: World) -> None:
    """Answered, swept, captured, refused on the way, left in a stream, left before it began."""
    steering = [
        entry(sae="1-post", feature=7, amount=4.0, method="clamp").model_dump(),
        entry(sae="1-transcoder", feature=3, when={"sae": "0-mlp", "feature": 1, "above": 0}),
    ]
    huge = [entry(sae="1-post", feature=7, amount=3e38).model_dump()]
    texts = ActivationsRequest(model=world.id, saes=["1-topk"], texts=list(TEXTS))
    doses = SweepRequest(
        model=world.id,
        prompt="x",
        max_new_tokens=3,
        interventions=[entry(sae="1-z", feature=1)],
        strengths=[0, 1, 2, 3, 4],
    )

    async def everything(service: LiveService) -> None:
        plain = steer(world, interventions=steering, report=True)
        before = await answer(service, plain)
        leaving = [asyncio.ensure_future(answer(service, plain)) for _ in range(4)]
        streams = [service.events(*await service.prepare(plain)) for _ in range(4)]
        others = [answer(service, plain), service.sweep(doses), service.activations(texts)]
        work = asyncio.gather(*others)
        for stream in streams:
            await anext(stream)
            await stream.aclose()
        for one in leaving:
            one.cancel()
        with pytest.raises(Invalid):
            await answer(service, steer(world, interventions=huge))
        await work
        assert await answer(service, plain) == before

    async def use(service: LiveService) -> None:
        others = {id(one) for one in kept()}  # that fixtures of other tests hold
        await everything(service)
        while service.health().running or service.health().waiting:
            await asyncio.sleep(0.01)
        deadline = time.monotonic() + 10
        while {id(one) for one in kept()} - others and time.monotonic() < deadline:
            await asyncio.sleep(0.01)  # a thread lets go of its last request after it is answered
        assert not {id(one) for one in kept()} - others and not service._news
        steering = service.desk.library.residents[world.id].engine._forward._steering
        assert not any(steering._rows)
        for one in (one for site in steering._sites.values() for one in site.ranks):
            assert not any(one.edits) and not one.direction.any() and not one.terms.any()

    serve(use)


def kept() -> list[object]:
    """What requests are made of, as far as anything still refers to it."""
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, (Generation, CaptureJob, Held))]


def test_a_large_answer_lets_others_to_the_desk(serve: Serve) -> None:
    began, came = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        began.set()
        while not came.is_set():
            yield b"x"

    async def use(service: LiveService) -> bytes:
        large = asyncio.ensure_future(service.desk.joined(pieces()))
        assert await asyncio.to_thread(began.wait, 10)
        await service.desk.at_desk(came.set)
        return await large

    assert set(serve(use)) == {ord("x")}


def test_pieces_are_the_answer(serve: Serve, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More tokens than a piece has, a feature asked for twice, features in their order."""
    asked = ActivationsRequest(
        model=world.id,
        saes=["1-topk", "1-pre"],
        texts=[TEXTS[0], TEXTS[1]],
        features={"1-pre": [5, 3, 5]},
    )
    raw = serve(lambda service: service.activations(asked))
    monkeypatch.setattr(render, "_ENTRIES", 5)
    assert serve(lambda service: service.activations(asked)) == raw
    first, second = ActivationsAnswer.model_validate_json(raw).results
    for result in (first, second):
        top, features = result.saes["1-topk"].top, result.saes["1-pre"].features
        assert top and len(top) == len(result.tokens) and any(top)
        assert features and list(features) == [5, 3]
        assert {len(column) for column in features.values()} == {len(result.tokens)}
    assert raw.count(b'"5":') == 2


def test_an_answer_that_turns_out_too_large_is_refused(serve: Serve, world: World) -> None:
    """Where the request alone does not tell, and where it does; who fits beside it is answered."""
    texts = {"model": world.id, "texts": list(TEXTS)}
    large = [
        lambda desk: active(desk, ActiveRequest(sae="1-standard", **texts)),
        lambda desk: rank(desk, RankRequest(saes=["1-standard"], skip_bos=True, limit=1, **texts)),
        lambda desk: active(desk, ActiveRequest(sae="1-standard", top_k=20, **texts)),
        lambda desk: rank(desk, RankRequest(saes=["1-topk"], skip_bos=True, limit=20, **texts)),
        lambda desk: states(desk, StatesRequest(hooks=[SITES["post"], SITES["act"]], **texts)),
    ]
    small = ActiveRequest(model=world.id, sae="1-standard", texts=["x"])

    async def use(service: LiveService) -> None:
        beside = asyncio.ensure_future(active(service.desk, small))
        for ask in large:
            with pytest.raises(
                TooLarge, match=r"one answer may have 300 \(SAESCOPE_MAX_VALUES"
            ) as told:
                await ask(service.desk)
            assert told.value.fields["limit"] == 300 < told.value.fields["values"]
        (told,) = ActiveAnswer.model_validate_json(await beside).results
        assert told.tokens[-1] == "x" and all(told.top)

    serve(use, max_values=300)


def test_what_others_read_leaves_nothing_behind(serve: Serve, world: World) -> None:
    asked = RankRequest(model=world.id, saes=["1-topk"], texts=list(TEXTS), skip_bos=True, limit=3)

    async def use(service: LiveService) -> None:
        others = {id(one) for one in kept()}
        async with held_up(service):
            leaving = [asyncio.ensure_future(rank(service.desk, asked)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for one in leaving:
                one.cancel()
        await rank(service.desk, asked)
        leaving.clear()
        deadline = time.monotonic() + 10
        while {id(one) for one in kept()} - others and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert not {id(one) for one in kept()} - others

    serve(use)
