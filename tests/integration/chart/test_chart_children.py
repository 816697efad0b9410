"""What the operator builds passes the policies that hold the operator: the two must not drift apart."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.kubectl import Kubectl
from modelfleet.plan.edge import edge_deployment
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.version import model_version

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
INSTALLATION = Installation("test/modelfleet", "modelfleet-system", "modelfleet/runtime:1")


@pytest.fixture
def stored(chart_kubectl: Kubectl) -> Any:
    """Puts an object, and a status, into the cluster and reads it back as the operator would see it."""

    def store(kind: str, name: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> RawObject:
        metadata = {"name": name, "namespace": "default"}
        chart_kubectl.apply({"apiVersion": "modelfleet.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
        if status:
            patch = json.dumps({"status": status})
            chart_kubectl("patch", kind, name, "--subresource=status", "--type=merge", "--patch", patch)
        found = chart_kubectl.get(kind, name)
        assert found is not None
        return found

    return store


@pytest.fixture
def operator(chart_kubectl: Kubectl, operator_user: str) -> Kubectl:
    return chart_kubectl.impersonating(operator_user)


def dry_run(operator: Kubectl, created: Iterable[RawObject], applied: Iterable[RawObject] = ()) -> list[str]:
    """Send the objects as the operator does, storing nothing; their kinds."""
    kinds = []
    for obj in created:
        operator("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(obj))
        kinds.append(obj["kind"])
    for obj in applied:
        words = ("apply", "--server-side", "--field-manager=modelfleet", "--dry-run=server", "-f", "-")
        operator(*words, stdin=json.dumps(obj))
        kinds.append(obj["kind"])
    return sorted(kinds)


MODEL = {
    "model": "defect",
    "version": "1.0.0",
    "artifacts": [
        {
            "name": "int8",
            "uri": "s3://models/defect/int8.onnx",
            "sha256": "0" * 64,
            "sizeBytes": 1000,
            "format": "onnx",
            "precision": "int8",
            "platforms": ["linux/amd64"],
            "credentialsSecretRef": {"name": "store"},
        }
    ],
}


def test_a_verification_job(stored: Any, operator: Kubectl) -> None:
    outcome = model_version.plan(
        stored("ModelVersion", "defect-1-0-0", MODEL), model_version.Observed(), INSTALLATION, NOW
    )
    assert dry_run(operator, outcome.create, outcome.apply) == ["Job"]


@pytest.mark.parametrize("image", [None, "registry.plant.example/own-server:1"])
def test_serving_workloads(stored: Any, operator: Kubectl, image: str | None) -> None:
    verified = {
        "type": "Verified",
        "status": "True",
        "reason": "Verified",
        "message": "",
        "lastTransitionTime": "2026-11-21T12:00:00Z",
        "observedGeneration": 1,
    }
    model = stored(
        "ModelVersion", "defect-1-0-0", MODEL, {"snapshotHash": f"sha256:{'1' * 64}", "conditions": [verified]}
    )
    serving = {"imagePullSecrets": [{"name": "registry"}], "ports": {"http": 8080, "grpc": 8081}}
    deployment = stored(
        "EdgeDeployment",
        f"line-{'own' if image else 'default'}",
        {
            "modelVersion": "defect-1-0-0",
            "strategy": {"maxUnavailable": "100%"},
            "serving": serving | ({"image": image} if image else {}),
            "pools": [
                {"name": "gateways", "nodeSelector": {"pool": "gateways"}},
                {"name": "lab", "nodeSelector": {"pool": "lab"}, "placement": "Replicas", "replicas": 2},
            ],
        },
    )
    observed = edge_deployment.Observed(deployment, model, nodes=[node("gw-1", "gateways"), node("lab-1", "lab")])
    outcome = edge_deployment.plan(observed, INSTALLATION, NOW)
    kinds = dry_run(operator, outcome.create, outcome.apply)
    assert kinds == ["ControllerRevision", "DaemonSet", "Deployment", "Service"]


def node(name: str, pool: str) -> RawObject:
    """A Ready node, as the view holds it."""
    labels = {"pool": pool, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T11:00:00Z"}
    room = {"cpu": "4", "memory": "16Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": name, "labels": labels, "resourceVersion": "1"},
        "spec": {},
        "status": {
            "conditions": [ready],
            "allocatable": room,
            "capacity": room,
            "nodeInfo": {"operatingSystem": "linux", "architecture": "amd64"},
        },
    }
