"""What the submitter and the jobs worker must agree on to meet in DBOS' tables."""

from app.contract.jobs import JobState

APPLICATION = "saescope"
VERSION = "1"
"""Pinned: DBOS' own default is a hash of the code, so an upgrade would orphan waiting jobs."""

QUEUE_OF_KIND = {
    "load": "light", "train": "heavy", "precompute": "heavy", "evaluate": "light", "verify": "light",
    "import": "light", "export": "light",
}  # fmt: skip
"""Each queue runs one job at a time in a worker, so a load never waits behind a training."""

STATES: dict[str, JobState] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "done",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "cancelled",
}
"""What DBOS' states of a workflow are to us."""

MAX_STARTS = 20
"""Starts of a job, of which the last must not end with its worker's death: then it counts as failed."""


def executor_id(machine: str, index: int) -> str:
    """Stable name of the `index`-th jobs worker of a machine; a restart recovers what it left
    running. There is one machine alone, and no name for it, where the database is a file."""
    return f"jobs-{machine}-{index}" if machine else f"jobs-{index}"
