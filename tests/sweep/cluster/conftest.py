from collections.abc import Iterator

import pytest

from tests.clones import Clone
from tests.sweep.cluster.nodes import Cluster, running


@pytest.fixture(scope="session")
def cluster(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a head and two worker nodes."""
    folder = tmp_path_factory.mktemp("cluster")
    with running(folder, first_run.copy(folder / "clone"), workers=2) as cluster:
        yield cluster
