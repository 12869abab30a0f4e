"""Columns are written in order by a thread, whose errors come out and which leaves nothing behind."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from worker.precompute.appender import Appender

CPU = torch.device("cpu")


def test_every_file_has_its_tensors_in_order(tmp_path: Path) -> None:
    with closing(Appender(CPU)) as appender:
        for i in range(50):
            appender.append(tmp_path / "a", torch.arange(i))
            appender.append(tmp_path / "b", torch.full((3,), i / 2))
        appender.settle()
        a, b = np.fromfile(tmp_path / "a", np.int64), np.fromfile(tmp_path / "b", np.float32)
    assert a.tolist() == [j for i in range(50) for j in range(i)]
    assert b.tolist() == [i / 2 for i in range(50) for _ in range(3)]


def test_a_full_disk_comes_out_of_settle() -> None:
    with closing(Appender(CPU)) as appender:
        appender.append(Path("/dev/full"), torch.zeros(100_000))
        with pytest.raises(OSError, match="No space left") as caught:
            appender.settle()
    assert caught.value.errno == errno.ENOSPC


def test_a_full_disk_comes_out_of_a_later_append(tmp_path: Path) -> None:
    with closing(Appender(CPU)) as appender, pytest.raises(OSError, match="No space left"):
        appender.append(Path("/dev/full"), torch.zeros(100_000))
        for _ in range(10):
            appender.append(tmp_path / "a", torch.zeros(1))


def test_after_an_error_nothing_is_written_any_more(tmp_path: Path) -> None:
    """Else a folder could be removed under the thread's hands."""
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), closing(Appender(CPU)) as appender:
        appender.append(tmp_path / "a", torch.zeros(10))
        raise KeyboardInterrupt
    assert threading.active_count() == before


def test_what_waits_to_be_written_is_bounded(tmp_path: Path) -> None:
    """A disk that is slower than the model must not fill the memory."""
    slow = tmp_path / "slow"
    os.mkfifo(slow)  # writing to it waits until somebody reads
    returned = threading.Semaphore(0)
    with closing(Appender(CPU)) as appender, ThreadPoolExecutor(1) as caller:

        def append_all() -> None:
            for i in range(20):
                appender.append(slow, torch.full((5,), i))
                returned.release()

        appending = caller.submit(append_all)
        try:
            assert returned.acquire(timeout=60)
            waiting = 1
            while returned.acquire(timeout=0.5):
                waiting += 1
        finally:
            reader = os.open(slow, os.O_RDWR)
        appending.result(60)
        appender.settle()
        written = np.frombuffer(os.read(reader, 10_000), np.int64)
        os.close(reader)
    assert waiting <= 5
    assert written.tolist() == [i for i in range(20) for _ in range(5)]
