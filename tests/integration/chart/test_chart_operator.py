"""The operator with the rights, the policies and the configuration that the chart gives it, at its real work."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.audit import AuditLog
from e2e.helm import NAMESPACE, Helm
from e2e.kubectl import Kubectl, RawObject, is_true
from modelfleet import settings
from modelfleet.__main__ import RECONCILERS
from modelfleet.application import Application
from modelfleet.cluster.connection import load_configuration
from tests import progress_client
from tests.operators import POD_ADDRESS
from tests.plane import Plane
from tests.replicas import Replica, until

STORE = {"name": "store"}
STEP = "modelfleet.dev/step"
POOL, LAB = "chart-test", "chart-lab"


@pytest.fixture
def chosen(chart_helm: Helm, tmp_path: Path) -> settings.Settings:
    """The configuration that the chart renders, on a free port of this host."""
    (config,) = (obj for obj in chart_helm.template() if obj["kind"] == "ConfigMap")
    content = yaml.safe_load(config["data"]["config.yaml"]) | {"httpHost": "127.0.0.1", "httpPort": 0}
    content["progress"] |= {"host": "127.0.0.1", "port": 0, "address": POD_ADDRESS}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return settings.load(str(path))


@pytest.fixture
async def replica(
    chosen: settings.Settings,
    chart_plane: Plane,
    chart_kubectl: Kubectl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Replica]:
    """A replica that has nothing but its service account's token."""
    token = chart_kubectl.within(NAMESPACE)("create", "token", "modelfleet").strip()
    content = yaml.safe_load(chart_plane.kubeconfig.read_text())
    content["users"] = [{"name": user["name"], "user": {"token": token}} for user in content["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(path))
    application = Application(chosen, RECONCILERS, await load_configuration())
    stop = asyncio.Event()
    up = Replica(application, stop, asyncio.create_task(application.run(stop)))
    try:
        await until(lambda: application.port or up.task.done(), "the probes to answer")
        yield up
    finally:
        stop.set()
        await up.task


@pytest.fixture
def nodes(chart_kubectl: Kubectl) -> list[str]:
    """Two Ready gateways and a Ready node for replicas; the gateways' names."""
    pools = {"gateway-0": POOL, "gateway-1": POOL, "lab": LAB}
    room = {"cpu": "4", "memory": "16Gi", "pods": "20"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    status = {"conditions": [ready], "allocatable": room, "capacity": room}
    for name, pool in pools.items():
        labels = {"pool": pool, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        chart_kubectl.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        patch = json.dumps({"status": status})
        chart_kubectl("patch", "node", name, "--subresource=status", "--type=merge", "--patch", patch)
        chart_kubectl("taint", "node", name, "node.kubernetes.io/not-ready-", check=False)
    return [name for name, pool in pools.items() if pool == POOL]


def object_of(kind: str, name: str, spec: dict[str, Any]) -> RawObject:
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


MODEL_VERSION = object_of(
    "ModelVersion",
    "m-1-0-0",
    {
        "model": "m",
        "version": "1.0.0",
        "artifacts": [
            {
                "name": "fp32",
                "uri": "https://models.plant.example/m.onnx",
                "sha256": "0" * 64,
                "sizeBytes": 1,
                "format": "onnx",
                "precision": "fp32",
            }
        ],
    },
)
TRAINING_JOB = object_of(
    "TrainingJob",
    "training",
    {
        "model": "trained",
        "version": "1.0.0",
        "trainer": {"image": "train:1", "command": ["torchrun", "train.py"], "numNodes": 2, "numProcPerNode": 1},
        "initializer": {
            "dataset": {"storageUri": "s3://data/set.npz", "digest": f"sha256:{'0' * 64}", "secretRef": STORE}
        },
        "output": {"storageUri": "s3://models/trained", "modelVersionName": "trained-1-0-0", "secretRef": STORE},
    },
)
GATEWAYS = {"name": "gateways", "nodeSelector": {"pool": POOL}}
REPLICAS = {"name": "lab", "nodeSelector": {"pool": LAB}, "placement": "Replicas"}


def edge_deployment(*pools: dict[str, Any]) -> RawObject:
    strategy = {"maxUnavailable": "100%"}
    return object_of("EdgeDeployment", "line", {"modelVersion": "m-1-0-0", "pools": list(pools), "strategy": strategy})


async def test_it_does_its_work_and_is_refused_nothing(
    replica: Replica, chart_plane: Plane, chart_kubectl: Kubectl, nodes: list[str], operator_user: str
) -> None:
    """From first to last of every kind of write it makes; the audit log has no refusal."""
    audit = AuditLog(chart_plane.audit_log)
    audit.mark()
    await until(replica.is_ready, "the replica to be ready")
    await until(replica.leads, "the replica to lead")
    lease = chart_kubectl.within(NAMESPACE).get("lease", "modelfleet")
    assert lease is not None

    def children(kind: str, label: str = "app.kubernetes.io/managed-by=modelfleet") -> Callable[[], list[RawObject]]:
        return lambda: chart_kubectl.list(kind, label)

    chart_kubectl.apply(MODEL_VERSION, TRAINING_JOB)
    await until(children("jobs", "modelfleet.dev/model-version=m-1-0-0"), "the verification Job")
    await until(children("jobs", "modelfleet.dev/training-job=training"), "the training Job")
    await until(children("services", "modelfleet.dev/training-job=training"), "the rendezvous Service")
    await until(children("pods", "modelfleet.dev/training-job=training"), "the training pods")
    (job,), pods = children("jobs", "modelfleet.dev/training-job=training")(), children("pods", STEP)()
    token = progress_client.token(chart_kubectl, pods[0])

    async def told() -> bool:
        answer = await asyncio.to_thread(
            progress_client.post, job, replica.application.progress.port, token, progress_client.said(40)
        )
        return answer.code == 200

    await until(told, "a pod to be heard")
    await until(
        lambda: (chart_kubectl.get("tj", "training") or {})["status"].get("trainerStatus"), "its progress to be shown"
    )
    chart_kubectl("patch", "trainingjob", "training", "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    await until(
        lambda: not chart_kubectl.list("jobs", "modelfleet.dev/training-job=training"), "the training Job to be deleted"
    )

    # What the verifying pod would report, had it a node to run on.
    verified = {"type": "Verified", "status": "True", "reason": "Verified", "message": "", "observedGeneration": 1}
    verified["lastTransitionTime"] = "2026-11-21T12:00:00Z"
    patch = json.dumps({"status": {"conditions": [verified], "verification": {"settledAttempt": 1}}})
    chart_kubectl("patch", "mv", "m-1-0-0", "--subresource=status", "--type=merge", "--patch", patch)
    await until(lambda: is_true(chart_kubectl.get("mv", "m-1-0-0") or {}, "Ready"), "the ModelVersion to be Ready")

    chart_kubectl.apply(edge_deployment(GATEWAYS, REPLICAS))
    for kind in ("controllerrevisions", "daemonsets", "deployments", "services"):
        await until(children(kind, "modelfleet.dev/edge-deployment=line"), f"the {kind} of the rollout")
    await until(lambda: all(map(labelled(chart_kubectl), nodes)), "the gateways to be moved")
    chart_kubectl.apply(edge_deployment(GATEWAYS))
    for kind in ("deployments", "services"):
        gone = children(kind, "modelfleet.dev/edge-deployment=line")
        await until(lambda gone=gone: not gone(), f"the {kind} to go with their pool")  # type: ignore[misc]
    chart_kubectl.apply(edge_deployment(GATEWAYS | {"nodeSelector": {"pool": "elsewhere"}}))
    await until(lambda: not any(map(labelled(chart_kubectl), nodes)), "the gateways to be let go")
    chart_kubectl("delete", "ed,tj", "--all")
    # While it says that it is used, it is not deleted.
    await until(
        lambda: not any(each["status"].get("usedBy") for each in chart_kubectl.list("mv")),
        "the ModelVersions to be unused",
    )
    chart_kubectl("delete", "mv", "--all")

    refused = [request for request in audit.since_mark(operator_user) if request.code == 403]
    assert refused == []


def labelled(kubectl: Kubectl) -> Callable[[str], bool]:
    def has_label(node: str) -> bool:
        found = kubectl.get("node", node)
        assert found is not None
        return any(key.startswith("node.modelfleet.dev/") for key in found["metadata"]["labels"])

    return has_label
