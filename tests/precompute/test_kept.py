"""Spills that are kept take no more disk than they may, and never go under a run."""

import os
import threading
from pathlib import Path

from worker.durable import new_folder
from worker.precompute.kept import in_use, trim


def kept(spill_dir: Path, name: str, size: int, used: float) -> Path:
    folder = spill_dir / "sae" / name
    (folder / "shard").mkdir(parents=True)
    (folder / "shard" / "value").write_bytes(b"x" * size)
    os.utime(folder, (used, used))
    return folder


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    old, older = kept(tmp_path, "b", 100, used=20), kept(tmp_path, "a", 100, used=10)
    new = kept(tmp_path, "c", 100, used=30)
    trim(tmp_path, 250)
    assert (older.exists(), old.exists(), new.exists()) == (False, True, True)
    with in_use([old]):
        pass
    trim(tmp_path, 100)
    assert (old.exists(), new.exists()) == (True, False)
    trim(tmp_path, 0)
    assert not any(path.is_dir() for path in (tmp_path / "sae").iterdir())


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    one, other = kept(tmp_path, "a", 100, used=10), kept(tmp_path, "b", 100, used=20)
    with in_use([one]), in_use([one]):
        trim(tmp_path, 0)
        assert one.exists() and not other.exists()
    trim(tmp_path, 0)
    assert not one.exists()


def test_what_crashes_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    spill = kept(tmp_path, "a", 100, used=10)
    left = spill / ".shard.0123456789abcdef"
    left.mkdir()
    (left / "value").write_bytes(b"half")
    doomed = tmp_path / "sae" / ".b.0123456789abcdef"
    doomed.mkdir()
    with new_folder(spill / "new") as being_written:
        with in_use([spill]):
            assert not left.exists() and being_written.exists()
        trim(tmp_path, 100)
        assert not doomed.exists() and being_written.exists()
    assert (spill / "new").exists() and spill.exists()


def test_several_trim_at_a_time_beside_one_who_writes(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def attempt(work) -> threading.Thread:
        def run() -> None:
            try:
                for _ in range(100):
                    work()
            except BaseException as error:  # noqa: BLE001  shown by the assertion below
                failed.append(error)

        return threading.Thread(target=run)

    def write() -> None:
        folder = tmp_path / "sae" / "a"
        with in_use([folder]), new_folder(folder / "shard") as new:
            (new / "value").write_bytes(b"x" * 1_000)

    threads = [attempt(write), *(attempt(lambda: trim(tmp_path, 0)) for _ in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
