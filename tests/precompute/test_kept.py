"""Spills that are kept take no more disk than they may, and never go under a run."""

import os
from pathlib import Path

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
