"""Running services for the flow tests: one a database, kept for the whole test run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.service import Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`saescope up` with the bundled model, ready, on SQLite."""
    running = Service(tmp_path_factory.mktemp("service") / "data").start()
    try:
        yield running.wait_ready()
    finally:
        running.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real models and texts beside the checkout; tests that need them skip without."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder
