"""What planning alone costs, without a cluster: the operator's plan of one EdgeDeployment over a fleet in memory.

The plan is a pure function, so its part of the operator's CPU time can be had for 10,000 gateways on any machine in a
minute. The world here is a perfect one: what a plan writes is so at once, and every pod is ready.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from e2e.bench import fleet
from modelfleet.api import names
from modelfleet.plan import naming
from modelfleet.plan.edge import edge_deployment
from modelfleet.plan.edge.edge_deployment import Observed
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Outcome

INSTALLATION = Installation("modelfleet/fleet", "fleet", "modelfleet/runtime:1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = "2026-01-01T00:00:00Z"
CONVERGED_PLANS = 5

RawObject = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """What planning an update of a fleet cost."""

    gateways: int
    plans: int
    update_seconds: float
    """CPU time of all plans of the update."""
    converged_seconds: float
    """CPU time of one plan with nothing left to do."""
    status_bytes: int


@dataclass
class World:
    """A fleet in memory."""

    nodes: dict[str, RawObject]
    deployment: RawObject
    children: dict[tuple[str, str], RawObject] = field(default_factory=dict)
    version: str = "1.0.0"
    plans: int = 0
    seconds: float = 0.0

    def plan(self) -> Outcome:
        """One plan of what is there, its CPU time counted."""
        observed = self._observed()
        began = time.process_time()
        outcome = edge_deployment.plan(observed, INSTALLATION, NOW)
        self.seconds += time.process_time() - began
        self.plans += 1
        return outcome

    def converge(self, version: str) -> None:
        """Bring the fleet to a version."""
        self.version = version
        self.deployment["spec"]["modelVersion"] = fleet.model_version(version)["metadata"]["name"]
        self.deployment["metadata"]["generation"] += 1
        while self._carry_out(self.plan()):
            pass

    def _carry_out(self, outcome: Outcome) -> bool:
        """Make it so; whether anything changed but the status."""
        for obj in (*outcome.create, *outcome.apply):
            self.children.setdefault((obj["kind"], obj["metadata"]["name"]), obj)
        for label in outcome.label_nodes:
            labels = self.nodes[label.node]["metadata"]["labels"]
            labels.update(label.values)
            for key in [key for key, value in label.values.items() if value is None]:
                del labels[key]
        for ref in outcome.delete:
            self.children.pop((ref.kind, ref.name), None)
        changed = outcome.status is not None and outcome.status != self.deployment.get("status")
        self.deployment["status"] = outcome.status
        return changed or bool(outcome.label_nodes or outcome.delete)

    def _observed(self) -> Observed:
        model = fleet.model_version(self.version)
        verified = {"type": "Verified", "status": "True", "reason": "Verified"}
        model["status"] = {"snapshotHash": f"sha256:{self.version[0] * 64}", "conditions": [verified]}

        def of(kind: str) -> list[RawObject]:
            return [each for (held, _), each in self.children.items() if held == kind]

        return Observed(
            deployment=self.deployment,
            model_version=model,
            revisions=of("ControllerRevision"),
            daemon_sets=of("DaemonSet"),
            services=of("Service"),
            pods=[pod for node in self.nodes.values() for pod in _pods(node)],
            nodes=list(self.nodes.values()),
        )


def measure(sizes: Sequence[int]) -> list[Planned]:
    """A first rollout and an update in memory, for each size of the fleet."""
    return [_measure(size) for size in sizes]


def _measure(size: int) -> Planned:
    deployment = fleet.edge_deployment("all", "1.0.0", fleet.line_pools())
    deployment["metadata"] |= {"namespace": "fleet", "uid": "all", "generation": 1, "creationTimestamp": STAMP}
    world = World({each["metadata"]["name"]: each for each in fleet.nodes(size)}, deployment)
    world.converge("1.0.0")
    world.plans, world.seconds = 0, 0.0
    world.converge("2.0.0")
    plans, seconds = world.plans, world.seconds
    counts = deployment["status"]["counts"]
    if counts["healthy"] != size:
        raise RuntimeError(f"the plans do not bring {size} gateways to the new version: {counts}")
    for _ in range(CONVERGED_PLANS):
        world.plan()
    status = json.dumps(deployment["status"], separators=(",", ":"))
    return Planned(size, plans, seconds, (world.seconds - seconds) / CONVERGED_PLANS, len(status))


def _pods(node: RawObject) -> list[RawObject]:
    """The pods, all ready, of what the node's labels name."""
    labels = node["metadata"]["labels"]
    values = (value for key, value in labels.items() if key.startswith(names.NODE_LABEL_PREFIX))
    found = (naming.workload_of(INSTALLATION.name, value) for value in values)
    return [_pod(node["metadata"]["name"], workload) for workload in found if workload]


def _pod(node: str, workload: str) -> RawObject:
    return {
        "metadata": {
            "name": f"{workload}-{node}",
            "labels": {names.WORKLOAD_LABEL: workload, names.PLACEMENT_LABEL: "EveryNode"},
            "creationTimestamp": STAMP,
        },
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": STAMP}],
            "containerStatuses": [{"name": "serve", "ready": True, "state": {"running": {"startedAt": STAMP}}}],
        },
    }


def table(planned: Sequence[Planned]) -> Table:
    """A row for each size."""
    answer = Table(title=f"Planning alone: one EdgeDeployment, {fleet.POOLS} pools, an update in memory")
    for column in ("gateways", "plans", "CPU s per 1,000", "converged plan, CPU ms per 1,000", "status KiB"):
        answer.add_column(column, justify="right")
    for each in planned:
        answer.add_row(
            str(each.gateways),
            str(each.plans),
            f"{each.update_seconds / each.gateways * 1000:.2f}",
            f"{each.converged_seconds / each.gateways * 1e6:.1f}",
            f"{each.status_bytes / 2**10:.1f}",
        )
    return answer
