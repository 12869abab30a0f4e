"""Folders appear whole, whoever else writes them, and nothing of an attempt stays."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import pytest

from worker.durable import scratch_name, sweep, write_folder


def halves(mark: str, between: Callable[[], object]) -> Callable[[Path], None]:
    """Writes two files; calls `between` after the first."""

    def fill(folder: Path) -> None:
        (folder / "first").write_text(mark)
        between()
        (folder / "second").write_text(mark)

    return fill


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_two_who_write_the_same_folder_both_get_one_that_is_whole(tmp_path: Path) -> None:
    final, meet = tmp_path / "deep" / "final", Barrier(2, timeout=20)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write_folder, final, halves(m, meet.wait)) for m in "ab"]:
            done.result()
    found = contents(final)
    assert set(found) == {"first", "second"} and len(set(found.values())) == 1
    assert list(final.parent.iterdir()) == [final]


def test_a_process_that_starts_later_leaves_the_first_ones_files_alone(tmp_path: Path) -> None:
    """The first is in the middle of its files while another process writes all of its own."""

    def another() -> None:
        arguments = (tmp_path / "final", halves("other", lambda: None))
        process = get_context("fork").Process(target=write_folder, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == 0

    write_folder(tmp_path / "final", halves("mine", another))
    assert contents(tmp_path / "final") == {"first": "other", "second": "other"}
    assert list(tmp_path.iterdir()) == [tmp_path / "final"]


def test_what_is_there_stays_and_counts_as_used(tmp_path: Path) -> None:
    final = tmp_path / "final"
    write_folder(final, halves("old", lambda: None))
    os.utime(final, (0, 0))
    write_folder(final, halves("new", lambda: None))
    assert contents(final) == {"first": "old", "second": "old"}
    assert final.stat().st_mtime > 0


def test_an_attempt_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_folder(tmp_path / "final", halves("x", fail))
    assert not any(tmp_path.iterdir())


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    write_folder(tmp_path / "final", halves("x", lambda: None))
    (tmp_path / "plain").mkdir()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("final", "plain")]
    assert modes[0] == modes[1]


def test_what_is_being_filled_is_not_swept_away_and_what_a_crash_left_is(tmp_path: Path) -> None:
    """By another process, as the lock tells them apart, whatever is inside."""

    def sweep_elsewhere() -> None:
        process = get_context("fork").Process(target=sweep, args=(tmp_path,))
        process.start()
        process.join()

    left = scratch_name(tmp_path / "final")
    left.mkdir()
    alone = scratch_name(tmp_path / "other")
    alone.with_name(f"{alone.name}.lock").touch()
    write_folder(tmp_path / "final", halves("mine", sweep_elsewhere))
    assert contents(tmp_path / "final") == {"first": "mine", "second": "mine"}
    assert list(tmp_path.iterdir()) == [tmp_path / "final"]
