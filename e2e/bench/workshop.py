"""The cluster that the benchmark of trainings runs on: simulated nodes whose pods work a while and leave reports.

Pods of both sides, ours and the peer's, are played by the same stages: ready at once, done after twenty seconds.
"""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from e2e.bench import simulation
from e2e.bench.controller import Controller
from e2e.cluster import choice as clusters
from e2e.cluster import gateways
from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl
from e2e.progress import Progress

STAGES = Path(__file__).with_name("training_stages.yaml")
PODS = 4
"""Of each training."""
NODE_SELECTOR = {"workshop": "true"}
PODS_A_NODE = 50

_AT_ONCE = 250
_LOOK_SECONDS = 5

RawObject = dict[str, Any]


def up(name: str, jobs: int, progress: Progress) -> Cluster:
    """A cluster with simulated nodes for the pods of so many trainings; its real node takes none."""
    cluster = clusters.up(name, 0, "local", progress.say)
    simulation.slim(cluster)
    if cluster.node is not None:
        cluster.kubectl("cordon", cluster.node.name)
    cluster.gateways.start(cluster.kubeconfig, progress.say, [STAGES])
    cluster.gateways.add(nodes(jobs))
    return cluster


def nodes(jobs: int) -> list[RawObject]:
    """Nodes of a workshop, not gateways: without the taint, for the pods of all these jobs at once and their checks."""
    made = []
    for number in range(max(10, -(-jobs * (PODS + 1) // PODS_A_NODE))):
        node = gateways.node(gateways.POOLS[-1], number, NODE_SELECTOR)
        del node["metadata"]["labels"]["node-role.kubernetes.io/edge"]
        node["spec"] = {}
        made.append(node)
    return made


def apply(kubectl: Kubectl, items: Sequence[RawObject]) -> None:
    """Apply many objects, two hundred and fifty at once."""
    batches = [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda batch: kubectl.apply(*batch), batches))


def wait_for(
    kind: str, count: int, done: Callable[[], int], controller: Controller, progress: Progress, patience: float
) -> None:
    """Look every few seconds until so many objects are done; raises ``RuntimeError`` after ``patience`` seconds."""
    deadline, seen = time.monotonic() + patience, 0
    while seen < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{seen} of {count} {kind} were done after {patience:.0f} s")
        time.sleep(_LOOK_SECONDS)
        controller.expect()
        seen = done()
        progress.say(f"{seen} of {count} {kind} are done")


def largest_status(kubectl: Kubectl, kind: str) -> Callable[[], int]:
    """Reads how many bytes the largest status of a kind has."""

    def read() -> int:
        statuses = (each.get("status", {}) for each in kubectl.list(kind))
        return max((len(json.dumps(status, separators=(",", ":"))) for status in statuses), default=0)

    return read
