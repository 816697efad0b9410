"""What a fleet costs the operator: one EdgeDeployment over thousands of gateways, and a thousand over one each.

Counts by the API server's audit log; CPU time and memory by the kernel. The ModelVersions are stated verified before
the operator starts, as no simulated gateway loads anything.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from e2e.audit import AuditLog, Request, writes
from e2e.bench.operator_process import OPERATOR, OperatorProcess
from e2e.cluster import gateways
from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl, is_true
from e2e.progress import Progress

NAMESPACE = "fleet"
POOLS = 20
SETTLING_SECONDS = 15
QUIET_SECONDS = 60
PATIENCE_SECONDS = 3600
TOLERATION = {"key": gateways.TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}

RawObject = dict[str, Any]


@dataclass(frozen=True)
class Spent:
    """What something cost the operator."""

    what: str
    objects: int
    """Gateways or deployments that it was about."""
    requests: Sequence[Request]
    cpu_seconds: float
    peak_bytes: int
    status_bytes: int
    """Of the largest status."""

    @property
    def made(self) -> int:
        """Writes, the Lease apart."""
        return len(writes(list(self.requests)))

    @property
    def reads(self) -> int:
        """Gets and lists, the Lease apart; a watch is one request however long it lasts."""
        return sum(each.verb in ("get", "list") and each.resource != "leases" for each in self.requests)


def nodes(count: int) -> list[RawObject]:
    """``count`` gateways in ``POOLS`` pools, Ready from the start."""
    kinds = [gateways.POOLS[index % len(gateways.POOLS)] for index in range(POOLS)]
    made = []
    for number in range(count):
        pool = number % POOLS
        node = gateways.node(kinds[pool], number, {"line": f"line-{pool:02d}", "gateway": f"g{number:05d}"})
        node["metadata"]["name"] = f"gw-{number:05d}"
        node["metadata"]["labels"]["kubernetes.io/hostname"] = f"gw-{number:05d}"
        made.append(node)
    return made


def model_version(version: str) -> RawObject:
    """A version with builds for every kind of gateway; its bytes are nowhere."""
    digit = version[0]
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"bench-{version.replace('.', '-')}"},
        "spec": {
            "model": "bench",
            "version": version,
            "artifacts": [
                {
                    "name": precision,
                    "uri": f"https://models.example/bench/{version}/{precision}.onnx",
                    "sha256": digit * 64,
                    "sizeBytes": 1_000_000,
                    "format": "onnx",
                    "precision": precision,
                }
                for precision in ("fp32", "int8")
            ],
        },
    }


def edge_deployment(name: str, version: str, pools: Iterable[RawObject]) -> RawObject:
    """A deployment of a version of the benchmark's model."""
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": name},
        "spec": {
            "modelVersion": f"bench-{version.replace('.', '-')}",
            "pools": [{**pool, "tolerations": [TOLERATION]} for pool in pools],
        },
    }


class Bench:
    """One cluster, and the operator on it as a process whose costs are read around each thing that happens."""

    def __init__(self, cluster: Cluster, operator: OperatorProcess, progress: Progress) -> None:
        if cluster.audit_log is None:
            raise RuntimeError("this cluster's audit log is out of reach")
        self.cluster = cluster
        self.kubectl: Kubectl = cluster.kubectl.within(NAMESPACE)
        self.operator = operator
        self.progress = progress
        self.audit = AuditLog(cluster.audit_log)
        self.spent: list[Spent] = []

    def register(self) -> None:
        """Two versions, stated verified; the operator must not run yet."""
        self.cluster.kubectl("create", "namespace", NAMESPACE, check=False)
        for version in ("1.0.0", "2.0.0"):
            model = model_version(version)
            self.kubectl.apply(model)
            verified = {
                "type": "Verified",
                "status": "True",
                "reason": "Verified",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            status = {
                "snapshotHash": f"sha256:{version[0] * 64}",
                "verification": {"attempt": 1, "settledAttempt": 1},
                "conditions": [verified],
            }
            self.kubectl(
                "patch",
                "modelversion",
                model["metadata"]["name"],
                "--subresource=status",
                "--type=merge",
                f"--patch={json.dumps({'status': status})}",
            )

    def scale(self, count: int) -> None:
        """Add gateways until there are ``count``."""
        present = set(self.cluster.gateways.names())
        self.cluster.gateways.add([node for node in nodes(count) if node["metadata"]["name"] not in present])

    def one_deployment(self, gateways_: int, version: str, what: str) -> Spent:
        """One EdgeDeployment over so many gateways, in as many pools as there are lines; gateways join as needed."""
        pools = [{"name": f"line-{n:02d}", "nodeSelector": {"line": f"line-{n:02d}"}} for n in range(POOLS)]

        def act() -> None:
            self.scale(gateways_)
            self.kubectl.apply(edge_deployment("all", version, pools))
            self.kubectl.wait_for(
                "edgedeployment",
                "all",
                lambda seen: is_true(seen, "Ready") and seen["status"]["counts"]["healthy"] == gateways_,
                timeout=PATIENCE_SECONDS,
                seen=lambda seen: self.progress.say(seen.get("status", {}).get("message", "")),
            )

        return self._measured(what, gateways_, act)

    def many_deployments(self, count: int, version: str, what: str) -> Spent:
        """``count`` EdgeDeployments, one gateway each, all at once."""
        items = [
            edge_deployment(f"one-{n:05d}", version, [{"name": "gateway", "nodeSelector": {"gateway": f"g{n:05d}"}}])
            for n in range(count)
        ]

        def act() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda start: self.kubectl.apply(*items[start : start + 250]), range(0, count, 250)))
            self._until_all_ready(count)

        return self._measured(what, count, act)

    def restart(self, what: str, objects: int) -> Spent:
        """Stop the operator, change something while it is away, and start it: until its first write."""
        self.operator.stop()
        self.kubectl("patch", "edgedeployment", "all", "--type=merge", '--patch={"spec":{"revisionHistoryLimit":6}}')
        self.audit.mark()
        self.operator.start()

        def wrote(deployment: RawObject) -> bool:
            return bool(deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"])

        self.kubectl.wait_for("edgedeployment", "all", wrote, timeout=PATIENCE_SECONDS)
        return self._note(what, objects, 0.0)

    def quiet(self, objects: int) -> Spent:
        """A minute in which nothing happens."""
        return self._measured(f"{QUIET_SECONDS} s converged", objects, lambda: time.sleep(QUIET_SECONDS), settling=0)

    def _until_all_ready(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        ready = 0
        while ready < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{ready} of {count} EdgeDeployments became ready")
            time.sleep(5)
            found = self.kubectl.list("edgedeployments")
            ready = sum(is_true(each, "Ready") for each in found if each["metadata"]["name"].startswith("one-"))
            self.progress.say(f"{ready} of {count} are ready")

    def _measured(self, what: str, objects: int, act: Callable[[], None], settling: float = SETTLING_SECONDS) -> Spent:
        before = self.operator.cost()
        self.audit.mark()
        act()
        # What is left to write for it: the last settled counts of the status.
        time.sleep(settling)
        return self._note(what, objects, before.cpu_seconds)

    def _note(self, what: str, objects: int, cpu_before: float) -> Spent:
        cost = self.operator.cost()
        deployments = self.kubectl.list("edgedeployments")
        sizes = [len(json.dumps(each.get("status", {}), separators=(",", ":"))) for each in deployments]
        spent = Spent(
            what,
            objects,
            self.audit.since_mark(OPERATOR),
            cost.cpu_seconds - cpu_before,
            cost.peak_bytes,
            max(sizes, default=0),
        )
        self.spent.append(spent)
        self.progress.keep(f"{what}: {spent.made} writes, {spent.reads} reads, {spent.cpu_seconds:.1f} CPU s")
        return spent


def growth(costs: Sequence[Spent]) -> float:
    """The exponent by which CPU time grows with size (1: linear), by least squares over logarithms."""
    points = [(math.log(each.objects), math.log(each.cpu_seconds)) for each in costs]
    mean_x, mean_y = (sum(each[axis] for each in points) / len(points) for axis in (0, 1))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def table(title: str, costs: Sequence[Spent]) -> Table:
    """A row for each thing that happened."""
    answer = Table(title=title)
    columns = ("", "objects", "writes", "writes each", "reads each", "CPU s per 1,000", "peak MiB", "status KiB")
    for column in columns:
        answer.add_column(column, justify="left" if not column else "right")
    for cost in costs:
        answer.add_row(
            cost.what,
            str(cost.objects),
            str(cost.made),
            f"{cost.made / cost.objects:.2f}",
            f"{cost.reads / cost.objects:.3f}",
            f"{cost.cpu_seconds / cost.objects * 1000:.2f}",
            f"{cost.peak_bytes / 2**20:.0f}",
            f"{cost.status_bytes / 2**10:.1f}",
        )
    return answer
