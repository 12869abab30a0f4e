"""Jobs without a worker: the same functions on a real shelf."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.jobs import ExportSpec, ImportSpec
from app.settings import Settings
from app.store.engine import Shelf
from tests.flow.conftest import shared_data
from worker.jobs.export_job import check_export, export_evidence
from worker.jobs.import_job import check_import, import_evidence
from worker.jobs.job import Bench, Job
from worker.progress import Progress

__all__ = ["shared_data"]
Run = Callable[..., dict[str, Any]]


def silent(*_: Any, **__: Any) -> None:
    """A progress that nobody watches."""


@pytest.fixture
def run(shelf: Shelf, tmp_path: Path) -> Run:
    """Checks a job, unless it is `checked`, and does it; `report` may stop it."""
    return runner(shelf, tmp_path)


def runner(shelf: Shelf, folder: Path) -> Run:
    settings = Settings(data_dir=folder / "data", model_roots=[str(folder)])
    bench = Bench(settings, shelf, torch.device("cpu"), 1.0)

    def run(
        spec: ImportSpec | ExportSpec,
        id: str = "job",
        report: Progress = silent,
        checked: bool = False,
    ) -> dict[str, Any]:
        if isinstance(spec, ImportSpec):
            job = Job(id, spec, bench, report)
            check_import(job)
            return import_evidence(job)
        other = Job(id, spec, bench, report)
        if not checked:
            check_export(other)
        return export_evidence(other)

    return run
