"""Running services for the flow tests, one a database, kept for the whole test run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.service import Service

DATABASES = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"service-{name}"))
    for name in ("sqlite", "postgres")
]


@pytest.fixture(scope="session", params=DATABASES)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """`saescope up` with the bundled model, ready, in a folder of its own."""
    folder = tmp_path_factory.mktemp("service")
    running = Service(folder / "data", folder, **database(request)).start()
    try:
        yield running.wait_ready()
    finally:
        running.stop()


def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The setting of the database that the fixture's parameter names."""
    if request.param == "sqlite":
        return {}
    return {"SAESCOPE_DATABASE_URL": request.getfixturevalue("postgres")()}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real models and texts beside the checkout; tests that need them skip without."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder
