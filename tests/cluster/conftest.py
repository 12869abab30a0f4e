"""One cluster for all tests of a process; without Ray they are skipped visibly."""

from collections.abc import Iterator

import pytest

from tests.cluster.ray_cluster import RayCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A cluster; its token is that of this process too."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'saescope[ray]'")
    cluster = RayCluster()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.env.items():
            patch.setenv(name, value)
        yield cluster
    cluster.close()
