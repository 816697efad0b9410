"""The main job: exactly what ``make demo`` shows, step by step, with its own checks."""

from collections.abc import Callable

from e2e import demo
from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl
from e2e.progress import Progress


def test_demo(cluster: Cluster, installed: Kubectl, say: Callable[[str], None], capsys: object) -> None:
    demo.tell(cluster, Progress(), namespace="vision")
