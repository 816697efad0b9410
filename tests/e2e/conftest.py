"""Real pods on the real node, the operator in a pod of its own under the chart's RBAC."""

import pytest

from e2e import project
from e2e.cluster.cluster import Cluster


@pytest.fixture(scope="session")
def files(cluster: Cluster) -> project.Files:
    """The store, through its S3 API."""
    return project.Files(cluster.store)


@pytest.fixture(scope="session")
def train_image(images: dict[str, str]) -> str:
    """The image whose Python has the train library."""
    return images["train"]
