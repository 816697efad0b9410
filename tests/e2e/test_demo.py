"""The main job: exactly what ``make demo`` shows, step by step, with its own checks."""

import pytest

from e2e import demo
from e2e.cluster.cluster import Cluster
from e2e.progress import Progress


@pytest.mark.usefixtures("installed", "train_image")
def test_demo(cluster: Cluster, namespace: str) -> None:
    demo.tell(cluster, Progress(), namespace)
