"""One job at work, and the process-wide things that it works with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from app.contract.jobs import (
    EvaluateSpec,
    ExportSpec,
    ImportSpec,
    LoadSpec,
    PrecomputeSpec,
    TrainSpec,
    VerifySpec,
)
from app.errors import Invalid
from app.settings import Settings
from app.store.engine import Shelf
from worker.models import resolve_device
from worker.progress import Progress

SpecT = TypeVar(
    "SpecT", LoadSpec, TrainSpec, PrecomputeSpec, EvaluateSpec, VerifySpec, ImportSpec, ExportSpec
)


@dataclass(frozen=True)
class Bench:
    """What all jobs of a worker process share."""

    settings: Settings
    shelf: Shelf
    device: torch.device
    checkpoint_seconds: float
    """Seconds of training between two checkpoints."""

    @property
    def dtype(self) -> torch.dtype:
        """Number format in which models run."""
        return getattr(torch, self.settings.dtype)


@dataclass(frozen=True)
class Job(Generic[SpecT]):
    """A job that is being checked or worked on."""

    id: str
    spec: SpecT
    bench: Bench
    report: Progress

    @property
    def checkpoints(self) -> Path:
        """Folder of what this job keeps between starts."""
        return self.bench.settings.data_dir / "checkpoints" / self.id


def device_of(settings: Settings, index: int) -> torch.device:
    """Device of the `index`-th jobs worker. Raises Invalid when there is none of that number."""
    if index >= len(settings.jobs_devices):
        raise Invalid(
            f"There is no jobs worker {index}: SAESCOPE_JOBS_DEVICES names "
            f"{len(settings.jobs_devices)} devices, counted from 0."
        )
    return resolve_device(settings.jobs_devices[index])
