"""Progress of jobs."""

from app.store import progress
from app.store.engine import Shelf
from app.store.progress import JobProgress


def test_the_last_report_counts(shelf: Shelf) -> None:
    progress.put_progress(shelf, "a", "tokens", 0.1)
    progress.put_progress(shelf, "a", "encode", 0.5, rate=10.5, eta=3.0, metrics={"l0": 16.0})
    progress.put_progress(shelf, "b", None, 0)
    found = progress.get_progress(shelf, ["a", "b", "unknown"])
    assert found.keys() == {"a", "b"}
    assert found["a"].updated_at is not None
    assert found["a"] == JobProgress(
        "a", "encode", 0.5, 10.5, 3.0, {"l0": 16.0}, updated_at=found["a"].updated_at
    )


def test_a_report_does_not_take_back_a_wish_to_stop(shelf: Shelf) -> None:
    progress.request_cancel(shelf, "a")
    progress.put_progress(shelf, "a", "encode", 0.5)
    assert progress.cancel_requested(shelf, "a")
    progress.clear_cancel(shelf, "a")
    assert not progress.cancel_requested(shelf, "a")
    assert progress.get_progress(shelf, ["a"])["a"].done == 0.5
    assert not progress.cancel_requested(shelf, "unknown")


def test_a_deleted_job_is_forgotten(shelf: Shelf) -> None:
    progress.put_progress(shelf, "a", "encode", 0.5)
    progress.delete_progress(shelf, "a")
    assert progress.get_progress(shelf, ["a"]) == {}
