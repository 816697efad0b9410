"""The operator's requests over a rollout, an update, the way back, and a minute of nothing.

The operator runs as a user's would, two replicas in pods; the gateways are simulated.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from e2e import project
from e2e.audit import AuditLog, Request, tally, writes
from e2e.cluster.cluster import Cluster
from e2e.helm import NAMESPACE
from e2e.kubectl import Kubectl, is_true
from e2e.progress import Progress

OPERATOR = f"system:serviceaccount:{NAMESPACE}:modelfleet"
POOLS = ("cuda", "arm-edge", "x86")
QUIET_SECONDS = 60
SETTLING_SECONDS = 15
WAVES = [{"name": "pilot", "nodes": 5}, {"name": "half", "nodes": "50%"}, {"name": "all", "nodes": "100%"}]


@dataclass(frozen=True)
class Count:
    """What the operator asked of the API server during one thing that happened."""

    what: str
    requests: list[Request]

    @property
    def writes(self) -> list[Request]:
        """The writes, the Lease's renewals apart."""
        return writes(self.requests)


def model_version(files: project.Files, version: str) -> dict[str, object]:
    """A version whose one artifact is a few bytes: simulated gateways load nothing."""
    data = f"weights {version}".encode()
    return project.model_version(files, f"bench/{version}/model.onnx", data, "bench", version)


def edge_deployment(name: str) -> dict[str, object]:
    """All simulated gateways, in three pools and three waves."""
    toleration = {"key": "node-role.kubernetes.io/edge", "operator": "Exists", "effect": "NoSchedule"}
    pools = [{"name": pool, "nodeSelector": {"pool": pool}, "tolerations": [toleration]} for pool in POOLS]
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": "fleet"},
        "spec": {"modelVersion": name, "pools": pools, "strategy": {"waves": WAVES}},
    }


def measure(cluster: Cluster, kubectl: Kubectl, gateways: int, progress: Progress) -> list[Count]:
    """Two versions verified; a first rollout, an update, a way back; then a minute of nothing."""
    if cluster.audit_log is None:
        raise RuntimeError("this cluster's audit log is out of reach")
    audit, files, counts = AuditLog(cluster.audit_log), project.Files(cluster.store), []
    kubectl.apply(files.secret(kubectl.namespace))

    def counted(what: str, act: Callable[[], None]) -> None:
        audit.mark()
        act()
        # What is left of the writes for it: the last settled counts of the status.
        time.sleep(SETTLING_SECONDS)
        counts.append(Count(what, audit.since_mark(OPERATOR)))
        progress.keep(f"{what}: {len(counts[-1].writes)} writes: {dict(tally(counts[-1].writes))}")

    def verify(version: str) -> None:
        kubectl.apply(model_version(files, version))
        name = f"bench-{version.replace('.', '-')}"
        kubectl.wait_for("modelversion", name, lambda observed: is_true(observed, "Ready"))

    def roll_out(name: str) -> None:
        kubectl.apply(edge_deployment(name))
        kubectl.wait_for(
            "edgedeployment",
            "fleet",
            lambda observed: is_true(observed, "Ready") and observed["status"]["counts"]["healthy"] == gateways,
            timeout=1800,
            seen=lambda observed: progress.say(observed.get("status", {}).get("message", "")),
        )

    counted("one version verified", lambda: verify("1.0.0"))
    verify("2.0.0")
    counted("first rollout", lambda: roll_out("bench-1-0-0"))
    counted("update", lambda: roll_out("bench-2-0-0"))
    counted("way back", lambda: roll_out("bench-1-0-0"))
    counted(f"{QUIET_SECONDS} s converged", lambda: time.sleep(QUIET_SECONDS))
    return counts


def table(counts: Sequence[Count], gateways: int) -> Table:
    """The counts, a row each, per gateway where that means something."""
    answer = Table(title=f"The operator's requests, {gateways} gateways in {len(POOLS)} pools")
    for column in ("", "writes", "writes a gateway", "reads"):
        answer.add_column(column, justify="left" if not column else "right")
    for count in counts:
        reads = [request for request in count.requests if request.verb in ("get", "list")]
        made = len(count.writes)
        answer.add_row(count.what, str(made), f"{made / gateways:.2f}", str(len(reads)))
    return answer
