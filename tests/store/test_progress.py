"""Progress of jobs."""

from app.store import progress
from app.store.engine import Shelf
from app.store.progress import JobProgress


def test_the_last_report_counts(shelf: Shelf) -> None:
    for job in ("a", "b"):
        assert progress.add_job(shelf, job) == job
    progress.put_progress(shelf, "a", "tokens", 0.1)
    progress.put_progress(shelf, "a", "encode", 0.5, rate=10.5, eta=3.0, metrics={"l0": 16.0})
    found = progress.get_progress(shelf, ["a", "b", "unknown"])
    assert found.keys() == {"a", "b"}
    assert found["a"].updated_at is not None
    assert found["a"] == JobProgress(
        "a", "encode", 0.5, 10.5, 3.0, {"l0": 16.0}, updated_at=found["a"].updated_at
    )


def test_a_key_stands_for_one_job_until_it_is_deleted(shelf: Shelf) -> None:
    assert progress.add_job(shelf, "a", "key") == "a"
    assert progress.add_job(shelf, "b", "key") == "a"
    for job, there in (("a", True), ("b", False)):
        with progress.kept(shelf, job) as found:
            assert found == there
    progress.delete_progress(shelf, "a")
    assert progress.add_job(shelf, "b", "key") == "b"


def test_a_late_report_does_not_bring_a_deleted_job_back(shelf: Shelf) -> None:
    progress.add_job(shelf, "a")
    progress.put_progress(shelf, "a", "encode", 0.5)
    progress.delete_progress(shelf, "a")
    progress.put_progress(shelf, "a", "encode", 0.6)
    assert progress.get_progress(shelf, ["a"]) == {}
