"""A cluster of 200 simulated gateways, and an operator in this process that knows EdgeDeployments only.

The tests say themselves what a ModelVersion's verification found and, for gateways without a simulated kubelet, what
became of their pods. All else is the real control plane's: API server, DaemonSets, Deployments, garbage collection.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import choice
from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl
from modelfleet.plan.edge.edge_deployment import SETTLE_STATUS_SECONDS
from modelfleet.reconcile import edge_deployment
from tests import objects, operators
from tests.objects import RawObject
from tests.operators import Operator
from tests.replicas import nothing_to_do

GATEWAYS = 200
CRDS = Path(__file__).parents[3] / "crds"


@pytest.fixture(scope="package")
def fleet(say: Callable[[str], None]) -> Iterator[Cluster]:
    name = f"edge-{os.getpid()}"
    try:
        up = choice.up(name, gateways=GATEWAYS, wish="local", report=say)
        up.kubectl("apply", "-f", str(CRDS))
        up.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield up
    finally:
        choice.down(name, report=say)


@dataclass(frozen=True)
class Line:
    """A production line: a namespace of its own in the fleet's cluster, with an operator that serves it."""

    cluster: Cluster
    kubectl: Kubectl
    namespace: str
    operator: Operator

    def register(self, version: str = "1.0.0", artifacts: list[RawObject] | None = None, **verified: str) -> None:
        """Create a ModelVersion, and say that it was verified, or what was found instead."""
        model = objects.model_version(artifacts or [artifact("int8")], version=version)
        self.kubectl.apply(model)
        condition = {
            "type": "Verified",
            "status": "True",
            "reason": "Verified",
            "message": "",
            "lastTransitionTime": "2026-11-21T00:00:00Z",
            **verified,
        }
        digest = hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()
        status = {"snapshotHash": f"sha256:{digest}", "conditions": [condition]}
        self.patch_status("modelversion", model["metadata"]["name"], status)

    def patch_status(self, kind: str, name: str, status: RawObject) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", kind, name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def deploy(self, pools: list[RawObject], version: str = "1.0.0", **spec: Any) -> None:
        self.kubectl.apply(objects.edge_deployment(objects.name_of("m", version), pools, **spec))

    def edit(self, **spec: Any) -> None:
        self.kubectl("patch", "edgedeployment", "line", "--type=merge", "--patch", objects.merge_patch(**spec))

    def until(self, reached: Callable[[RawObject], Any]) -> RawObject:
        """Wait until the EdgeDeployment's present generation was seen and ``reached`` says so of it."""

        def seen(deployment: RawObject) -> Any:
            status = deployment.get("status", {})
            return status.get("observedGeneration") == deployment["metadata"]["generation"] and reached(status)

        return dict(self.kubectl.wait_for("edgedeployment", "line", seen)["status"])

    def until_healthy(self, version: str) -> RawObject:
        name = objects.name_of("m", version)
        return self.until(lambda at: at["phase"] == "Healthy" and at.get("stable", {}).get("modelVersion") == name)

    def eventually(self, holds: Callable[[], Any]) -> None:
        """Wait for what other controllers do in their own time: endpoints, garbage collection."""
        self.kubectl.wait_for("namespace", self.namespace, lambda _: holds())

    def serving(self, version: str) -> set[str]:
        """The nodes on which a ready pod serves this version."""
        pods = self.kubectl.list("pods", f"modelfleet.dev/model-version={objects.name_of('m', version)}")
        return {
            pod["spec"]["nodeName"]
            for pod in pods
            if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
            and "deletionTimestamp" not in pod["metadata"]
        }

    def writes(self) -> list[RawObject]:
        """The operator's writes to nodes and in this namespace: what earlier tests left in theirs is not counted."""
        places = (None, self.namespace)
        return [each for each in self.operator.writes() if each["objectRef"].get("namespace") in places]

    def until_quiet(self) -> list[RawObject]:
        """Wait until the operator has written nothing for a while, the late counts of a rollout too; its writes."""
        count, since = -1, 0.0
        for _ in self.kubectl.readings("edgedeployment", "line", timeout=120):
            now = len(self.operator.writes())
            if now != count:
                count, since = now, time.monotonic()
            elif time.monotonic() - since > SETTLE_STATUS_SECONDS + 1:
                return self.writes()
        raise AssertionError(f"the operator writes and writes: {self.operator.writes()[-5:]}")

    def events(self) -> list[str]:
        items = self.kubectl.list("events.events.k8s.io")
        return [each["reason"] for each in items if each["regarding"]["kind"] == "EdgeDeployment"]


def artifact(name: str, **fields: Any) -> RawObject:
    """An artifact that nobody fetches."""
    return {
        "name": name,
        "uri": f"https://models.example/{name}.onnx",
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "sizeBytes": 1000,
        "format": "onnx",
        "precision": name.removeprefix("gpu-"),
        **fields,
    }


@pytest.fixture
def line(fleet: Cluster, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setenv("KUBECONFIG", str(fleet.kubeconfig))
    namespace = f"line-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    fleet.kubectl("create", "namespace", namespace)
    reconcilers = {
        "ModelVersion": nothing_to_do,
        "TrainingJob": nothing_to_do,
        "EdgeDeployment": edge_deployment.reconcile,
    }
    assert fleet.audit_log is not None
    operator = Operator(operators.settings(namespace, namespace), reconcilers, fleet.audit_log)
    up = Line(fleet, fleet.kubectl.within(namespace), namespace, operator)
    up.operator.start()
    try:
        yield up
    finally:
        up.operator.stop()
        fleet.kubectl("delete", "namespace", namespace, "--wait=false")
