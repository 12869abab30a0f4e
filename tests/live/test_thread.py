"""The model thread by itself."""

import time
from collections.abc import Iterator

import pytest

from tests.live.world import TEXTS, World
from worker.live.answer import Generation
from worker.live.capture import CaptureJob
from worker.live.kinds import OfSae
from worker.live.thread import ModelThread
from worker.tokens import encode_text


@pytest.fixture
def thread() -> Iterator[ModelThread]:
    running = ModelThread(lambda _changed: None)
    running.start()
    yield running
    running.stop()


def wait_for(generation: Generation) -> None:
    deadline = time.monotonic() + 60
    while generation.ended is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def captures(world: World) -> CaptureJob:
    text = encode_text(world.model, TEXTS[0])
    return CaptureJob([text], [OfSae("1-topk", world.dictionary("1-topk"), (1,), 8)])


def test_stop_does_not_wait_for_a_long_turn() -> None:
    thread = ModelThread(lambda _changed: None)
    thread.start()
    thread.call(lambda: time.sleep(30))
    began = time.monotonic()
    thread.stop()
    assert time.monotonic() - began < 5


def test_captures_are_served_while_texts_are_generated(world: World, thread: ModelThread) -> None:
    held = world.held()
    long, job = world.generation(held, "x", max_new_tokens=60), captures(world)
    long.answers[0].eos_ids = frozenset()
    lengths: list[int] = []
    job.answer.add_done_callback(lambda _: lengths.append(len(long.answers[0].tokens)))
    thread.generate(held, long)
    thread.capture(held, job)
    wait_for(long)
    assert job.answer.done() and lengths[0] < 60


def test_a_turn_that_raises_fails_who_it_served_and_the_thread_goes_on(
    world: World, thread: ModelThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the engine's own, which what it catches itself never is."""
    held = world.held()
    lost, job = world.generation(held, TEXTS[0]), captures(world)

    def fault() -> set[Generation]:
        raise ZeroDivisionError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(held.engine, "step", fault)
        thread.call(lambda: (thread.generate(held, lost), thread.capture(held, job))).result()
        wait_for(lost)
    assert lost.problem is not None and "a fault" in lost.problem.detail
    assert job.answer.exception(10) is lost.problem
    after = world.generation(held, TEXTS[1])
    thread.generate(held, after)
    wait_for(after)
    assert after.problem is None and len(after.answers[0].tokens) == 12
