"""The control plane that a benchmark of thousands of gateways runs on: the real one, without what nothing here needs.

Every controller that a rollout passes through runs: DaemonSets, ReplicaSets, Jobs, the scheduler, garbage collection.
Those that would only take the machine's time from all that is measured are left out, the endpoints of Services above
all: they write the addresses of hundreds of pods anew for each pod.
"""

from pathlib import Path
from typing import Final

from e2e.cluster.cluster import Cluster
from e2e.cluster.processes import Processes

PART: Final = "kube-controller-manager"
CONTROLLERS: Final = (
    "clusterrole-aggregation-controller",
    "daemonset-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
)


def slim(cluster: Cluster) -> None:
    """Start the controllers of a cluster of our own again, with only those that a rollout needs."""
    processes = Processes(cluster.folder)
    line = Path(f"/proc/{processes.pid(PART)}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    processes.stop(PART)
    # Simulated gateways are Ready until somebody says otherwise: looking at 10,000 of them every few seconds is idle.
    further = [f"--controllers={','.join(CONTROLLERS)}", "--node-monitor-period=10m"]
    processes.start(PART, [*(word.decode() for word in line), *further])
