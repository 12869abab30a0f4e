"""The model thread by itself."""

import time

from worker.live.thread import ModelThread


def test_stop_does_not_wait_for_a_long_turn() -> None:
    thread = ModelThread(lambda _changed: None)
    thread.start()
    thread.call(lambda: time.sleep(30))
    began = time.monotonic()
    thread.stop()
    assert time.monotonic() - began < 5
