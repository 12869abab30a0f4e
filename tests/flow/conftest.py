"""Running services for the flow tests, one a database, which end with them."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.service import Service

DATABASES = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"service-{name}"))
    for name in ("sqlite", "postgres")
]
on_sqlite = pytest.mark.parametrize("service", DATABASES[:1], indirect=True, scope="package")
"""For what no database has a part in."""
slow_on_postgres = pytest.mark.parametrize(
    "service",
    [DATABASES[0], pytest.param("postgres", marks=[*DATABASES[1].marks, pytest.mark.slow])],
    indirect=True,
    scope="package",
)
"""For what other tests do on Postgres in parts."""


@pytest.fixture(scope="package", params=DATABASES)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """`saescope up` with the bundled model, ready, in a folder of its own. Its first start was killed
    in the middle of its work."""
    folder, settings = tmp_path_factory.mktemp("service"), {}
    if request.param == "postgres":
        settings["SAESCOPE_DATABASE_URL"] = request.getfixturevalue("postgres")()
    running = Service(folder / "data", folder, **settings).start()
    try:
        running.wait_printed("tokens (", 300)
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        yield running.start().wait_ready()
    finally:
        running.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real models and texts beside the checkout; tests that need them skip without."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder
