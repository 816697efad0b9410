"""A control plane without nodes, the operator in this process, and tests that play the kubelet.

All else is real: API server, Job controller, scheduler, quotas, garbage collection. A test says what became of a pod
by writing the status that a kubelet would.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.kubectl import Kubectl
from modelfleet.plan import job_state
from modelfleet.reconcile import model_version as versions
from modelfleet.reconcile import training_job as training
from tests import operators
from tests.objects import RawObject
from tests.operators import Operator
from tests.plane import Plane, control_plane_without_nodes
from tests.replicas import nothing_to_do

CRDS = Path(__file__).parents[3] / "crds"
DIGEST = "77aa" * 16


@pytest.fixture(scope="package")
def workshop(say: Callable[[str], None]) -> Iterator[Plane]:
    with control_plane_without_nodes(f"training-{os.getpid()}") as up:
        up.kubectl("apply", "-f", str(CRDS))
        up.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=180s")
        say("ran on: an API server, controllers and a scheduler without nodes")
        yield up


@pytest.fixture(scope="package")
def operator(workshop: Plane) -> Iterator[Operator]:
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(workshop.kubeconfig)
    reconcilers = {
        "ModelVersion": versions.reconcile,
        "TrainingJob": training.reconcile,
        "EdgeDeployment": nothing_to_do,
    }
    workshop.kubectl.apply(*operators.progress("default"))
    settings = operators.settings("training", "default").model_copy(update={"progress": operators.told()})
    up = Operator(settings, reconcilers, workshop.audit_log)
    up.start()
    try:
        yield up
    finally:
        up.stop()
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before


@dataclass(frozen=True)
class Bench:
    """A namespace of the test's own, where the operator works and the test is the kubelet."""

    kubectl: Kubectl
    operator: Operator

    def until(self, kind: str, name: str, reached: Callable[[RawObject], Any]) -> RawObject:
        return self.kubectl.wait_for(kind, name, reached)

    def job(self, name: str) -> RawObject:
        """The Job, once it is there and has its pods."""
        return self.until("job", name, lambda job: job.get("status", {}).get("active") == job["spec"]["completions"])

    def finish(self, job: str, message: str = "", code: int = 0, container: str = "") -> None:
        """End all pods of a Job; rank 0 leaves this termination message."""
        template = self.job(job)["spec"]["template"]["spec"]
        for pod in self.pods(job):
            rank = pod["metadata"].get("annotations", {}).get(job_state.COMPLETION_INDEX, "0")
            ended = {"exitCode": code, "message": message if rank == "0" else "", "reason": "Error" if code else ""}
            name = container or template["containers"][0]["name"]
            self.say(pod, "Failed" if code else "Succeeded", name, {"terminated": ended})

    def pods(self, job: str) -> list[RawObject]:
        return self.kubectl.list("pods", f"{job_state.JOB_NAME_LABEL}={job}")

    def say(self, pod: RawObject, phase: str, container: str, state: RawObject) -> None:
        """Write the status of a pod with one container in this state."""
        status = {"name": container, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        key = "initContainerStatuses" if container in (job_state.FETCH, job_state.SOURCE) else "containerStatuses"
        patch = json.dumps({"status": {"phase": phase, key: [status]}})
        self.kubectl(
            "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={patch}"
        )

    def ready(self, job: str) -> None:
        """All pods of a Job run and are ready."""
        self.job(job)
        for pod in self.pods(job):
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T00:00:00Z"}
            patch = json.dumps({"status": {"phase": "Running", "conditions": [condition]}})
            name = pod["metadata"]["name"]
            self.kubectl("patch", "pod", name, "--subresource=status", "--type=strategic", f"--patch={patch}")

    def bind(self, pod: RawObject, node: str = "nowhere") -> None:
        """Put a pod on a node, as the scheduler would; there need be none of that name."""
        metadata = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"]},
            "target": {"kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
        self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))

    def events(self, name: str) -> set[str]:
        items = self.kubectl.list("events.events.k8s.io")
        return {each["reason"] for each in items if each["regarding"]["name"] == name}


@pytest.fixture
def bench(workshop: Plane, operator: Operator, request: pytest.FixtureRequest) -> Iterator[Bench]:
    name = f"bench-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    workshop.kubectl("create", "namespace", name)
    yield Bench(workshop.kubectl.within(name), operator)
    workshop.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def alone(bench: Bench) -> Iterator[Bench]:
    """No operator but those that the test starts."""
    bench.operator.stop()
    try:
        yield bench
    finally:
        bench.operator.stop()
        bench.operator.start()


def artifact(name: str = "fp32", **fields: Any) -> RawObject:
    return {
        "name": name,
        "uri": f"s3://models/m/{name}.onnx",
        "sha256": DIGEST,
        "sizeBytes": 1000,
        "format": "onnx",
        "precision": "fp32",
        **fields,
    }


def report(*artifacts: RawObject, **metrics: str) -> str:
    """The termination message of a step that did its work."""
    body = {"uri": "s3://models/m/results.json", "sha256": DIGEST, "metrics": metrics, "artifacts": artifacts}
    return json.dumps(body)


def no_results() -> str:
    """The termination message of ``recall`` where the store has no results."""
    return json.dumps({"file": "results.json", "reason": "Unreachable", "message": "not found in the store"})


def found(**file: Any) -> str:
    """The termination message of ``verify`` about the one artifact."""
    return json.dumps({"artifacts": [{"name": "fp32", "verified": True, "sizeBytes": 1000, **file}]})


def step(name: str, *after: str, **fields: Any) -> RawObject:
    body = {"name": name, **({} if "trainer" in fields else {"image": "registry.example/step:1"}), **fields}
    return {**body, "dependsOn": [{"name": each} for each in after]} if after else body


def training_job(*steps: RawObject, **spec: Any) -> RawObject:
    output = {"storageUri": "s3://models/m", "modelVersionName": "m-1-0-0", "secretRef": {"name": "store"}}
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "nightly"},
        "spec": {"model": "m", "version": "1.0.0", "steps": list(steps), "output": output, **spec},
    }


def model_version(*artifacts: RawObject, version: str = "1.0.0", **spec: Any) -> RawObject:
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"m-{version.replace('.', '-')}"},
        "spec": {"model": "m", "version": version, "artifacts": list(artifacts) or [artifact()], **spec},
    }
