"""A cluster of 200 simulated gateways, and an operator in this process that knows EdgeDeployments only.

The tests say themselves what a ModelVersion's verification found and, for gateways without a simulated kubelet, what
became of their pods. All else is the real control plane's: API server, DaemonSets, Deployments, garbage collection.
"""

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import choice
from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl
from modelfleet import application
from modelfleet.reconcile import edge_deployment
from modelfleet.settings import LeaseSetting, Settings
from tests import objects
from tests.objects import RawObject
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


@dataclass
class Operator:
    """The operator in a thread of its own; it can be stopped and started at any time."""

    namespace: str
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    thread: threading.Thread | None = None
    problem: BaseException | None = None

    def start(self) -> None:
        self.loop, self.stopping = asyncio.new_event_loop(), asyncio.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def stop(self) -> None:
        if self.thread is not None:
            self.loop.call_soon_threadsafe(self.stopping.set)
            self.thread.join()
            self.thread = None
        assert self.problem is None, self.problem

    def _run(self) -> None:
        settings = Settings(
            installation_name=self.namespace,
            namespace=self.namespace,
            runtime_image="modelfleet/runtime:none",
            http_host="127.0.0.1",
            http_port=0,
            lease=LeaseSetting(duration_seconds=3.0, renew_deadline_seconds=2.0, retry_period_seconds=0.5),
        )
        reconcilers = {
            "ModelVersion": nothing_to_do,
            "TrainingJob": nothing_to_do,
            "EdgeDeployment": edge_deployment.reconcile,
        }

        async def operate() -> None:
            replica = await application.build(settings, reconcilers)
            await replica.run(self.stopping)

        try:
            self.loop.run_until_complete(operate())
        except Exception as error:
            self.problem = error
        finally:
            self.loop.close()


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

    def events(self) -> list[str]:
        items = self.kubectl.list("events.events.k8s.io")
        return [each["reason"] for each in items if each["regarding"]["kind"] == "EdgeDeployment"]

    def writes(self) -> list[RawObject]:
        """The operator's write requests so far, its Lease's apart, from the audit log."""
        assert self.cluster.audit_log is not None
        lines = self.cluster.audit_log.read_text().splitlines()
        requests = [json.loads(line) for line in lines if "modelfleet-operator/" in line and "/leases" not in line]
        return [each for each in requests if each["verb"] not in ("get", "list", "watch")]


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
    up = Line(fleet, fleet.kubectl.within(namespace), namespace, Operator(namespace))
    up.operator.start()
    try:
        yield up
    finally:
        up.operator.stop()
        fleet.kubectl("delete", "namespace", namespace, "--wait=false")
