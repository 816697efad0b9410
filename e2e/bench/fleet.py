"""What a fleet costs the operator: one EdgeDeployment over thousands of gateways, and a thousand over one each.

Counts by the API server's audit log; CPU time and memory by the kernel. The ModelVersions are stated verified before
the operator starts, as no simulated gateway loads anything.
"""

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from e2e.bench.controller import Controller
from e2e.bench.meter import Meter, Spent
from e2e.cluster import gateways
from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl, is_true
from e2e.progress import Progress

NAMESPACE = "fleet"
POOLS = 20
QUIET_SECONDS = 60
WRITES_A_GATEWAY = 2
"""At most, on its Node: one for the pod that comes up beside the one that serves, one to hand over."""
PATIENCE_SECONDS = 3600
TOLERATION = {"key": gateways.TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}

RawObject = dict[str, Any]
Order = Literal["PrefetchFirst", "StopFirst"]
"""``strategy.recreateOrder``."""


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


def line_pools() -> list[RawObject]:
    """The pools of an EdgeDeployment over all of these gateways."""
    return [{"name": f"line-{n:02d}", "nodeSelector": {"line": f"line-{n:02d}"}} for n in range(POOLS)]


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


def edge_deployment(name: str, version: str, pools: Iterable[RawObject], order: Order = "PrefetchFirst") -> RawObject:
    """A deployment of a version of the benchmark's model."""
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": name},
        "spec": {
            "modelVersion": f"bench-{version.replace('.', '-')}",
            "pools": [{**pool, "tolerations": [TOLERATION]} for pool in pools],
            "strategy": {"recreateOrder": order},
        },
    }


class Bench:
    """One cluster, and the operator on it."""

    def __init__(self, cluster: Cluster, operator: Controller, progress: Progress) -> None:
        self.cluster = cluster
        self.kubectl: Kubectl = cluster.kubectl.within(NAMESPACE)
        self.operator = operator
        self.progress = progress
        self.meter = Meter(operator, self._largest_status, progress)
        self.restarts = 0

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

    def one_deployment(
        self, gateways_: int, version: str, what: str, order: Order = "PrefetchFirst", written: int | None = None
    ) -> Spent:
        """One EdgeDeployment over so many gateways, in as many pools as there are lines; gateways join as needed.

        ``written``: how many of them are moved; default: all.
        """

        def act() -> None:
            self.scale(gateways_)
            self.kubectl.apply(edge_deployment("all", version, line_pools(), order))
            self.kubectl.wait_for(
                "edgedeployment",
                "all",
                lambda seen: is_true(seen, "Ready") and seen["status"]["counts"]["healthy"] == gateways_,
                timeout=PATIENCE_SECONDS,
                seen=lambda seen: self.progress.say(seen.get("status", {}).get("message", "")),
            )
            self.operator.expect()

        moved = gateways_ if written is None else written
        spent = self.meter.measure(what, moved, act)
        if spent.on_nodes > WRITES_A_GATEWAY * moved:
            raise RuntimeError(f"{what}: {spent.on_nodes} writes on {moved} gateways")
        return spent

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

        return self.meter.measure(what, count, act)

    def restart(self, what: str, objects: int) -> Spent:
        """Stop the operator, change something while it is away, and start it: until its first write."""
        self.operator.stop()
        limit = 6 + self.restarts % 2
        self.restarts += 1
        patch = f'{{"spec":{{"revisionHistoryLimit":{limit}}}}}'
        self.kubectl("patch", "edgedeployment", "all", "--type=merge", f"--patch={patch}")

        def wrote(deployment: RawObject) -> bool:
            return bool(deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"])

        def wait() -> None:
            self.kubectl.wait_for("edgedeployment", "all", wrote, timeout=PATIENCE_SECONDS)

        return self.meter.measure_start(what, objects, wait)

    def quiet(self, objects: int) -> Spent:
        """A minute in which nothing happens."""
        return self.meter.measure(
            f"{QUIET_SECONDS} s converged", objects, lambda: time.sleep(QUIET_SECONDS), settling=0
        )

    def _until_all_ready(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        ready = 0
        while ready < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{ready} of {count} EdgeDeployments became ready")
            time.sleep(5)
            self.operator.expect()
            found = self.kubectl.list("edgedeployments")
            ready = sum(is_true(each, "Ready") for each in found if each["metadata"]["name"].startswith("one-"))
            self.progress.say(f"{ready} of {count} are ready")

    def _largest_status(self) -> int:
        deployments = self.kubectl.list("edgedeployments")
        return max((len(json.dumps(each.get("status", {}), separators=(",", ":"))) for each in deployments), default=0)
