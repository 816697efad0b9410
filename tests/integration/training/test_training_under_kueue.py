"""TrainingJobs in the queues of a real Kueue: admission, waiting, preemption, suspension. The test is the kubelet."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.cluster import kueue
from e2e.kubectl import condition, is_true
from tests.integration.training.conftest import Bench, artifact, report, step, training_job
from tests.objects import RawObject
from tests.plane import OnLoopback, Plane

QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
GPU_NODES = {"example.com/accelerator": "a100"}
CPUS = 4
"""What the queue has to give away."""
STOPPED = 143
"""How a program ends that is told to stop: 128 + SIGTERM; the train library's, too."""


@pytest.fixture(scope="module")
def queues(workshop: Plane, say: Callable[[str], None]) -> Iterator[Plane]:
    """Kueue, on the control plane of these tests, for as long as this module's tests run."""
    folder = workshop.processes.folder
    kueue.start(folder, workshop.processes, OnLoopback(0, folder.token).loopback, say)
    try:
        workshop.kubectl.apply(
            *(
                {
                    "apiVersion": kueue.API_VERSION,
                    "kind": "WorkloadPriorityClass",
                    "metadata": {"name": name},
                    "value": value,
                }
                for name, value in {"nightly": 10, "urgent": 1000}.items()
            )
        )
        say("ran on: Kueue 0.14.0")
        yield workshop
    finally:
        kueue.stop(folder, workshop.processes)


@dataclass(frozen=True)
class Queue:
    """A namespace with a queue of its own: so many CPUs on nodes of a kind."""

    bench: Bench
    name: str
    ran: list[str] = field(default_factory=list)

    def submit(self, name: str, *steps: RawObject, labels: RawObject | None = None, **spec: Any) -> None:
        obj = training_job(*steps, **spec)
        version = {"first": "1.0.0", "second": "2.0.0"}[name]
        obj["spec"] |= {"version": version}
        obj["spec"]["output"] = obj["spec"]["output"] | {"modelVersionName": f"m-{version.replace('.', '-')}"}
        obj["metadata"] = {"name": name, "labels": {QUEUE: "gpu"} if labels is None else labels}
        self.bench.kubectl.apply(obj)

    def until(self, name: str, phase: str, admitted: str) -> RawObject:
        def reached(job: RawObject) -> bool:
            status = job.get("status", {})
            return status.get("phase") == phase and condition(job, "Admitted").get("status") == admitted

        return self.bench.until("trainingjob", name, reached)

    def until_used(self, cpus: int) -> None:
        """Wait until so many CPUs are given away."""

        def reached(found: RawObject) -> bool:
            (flavor,) = found["status"]["flavorsReservation"]
            return bool(flavor["resources"][0]["total"] == str(cpus))

        self.bench.until("clusterqueue", self.name, reached)

    def run(self, job: str) -> list[RawObject]:
        """Have all pods of a Job running on nodes; the pods."""
        container = self.bench.job(job)["spec"]["template"]["spec"]["containers"][0]["name"]
        pods = self.bench.pods(job)
        for pod in pods:
            self.bench.bind(pod, self.name)
            self.bench.say(pod, "Running", container, {"running": {}})
        return pods

    def end(self, pods: list[RawObject], job: str = "", seen: Callable[[RawObject], Any] | None = None) -> None:
        """What the kubelet does with running pods that were deleted: their programs end, then they are gone.

        Not before the Job controller has ``seen`` of this ``job`` how they ended.
        """
        for pod in pods:
            name = pod["metadata"]["name"]
            self.bench.until("pod", name, lambda found: found["metadata"].get("deletionTimestamp"))
            container = pod["spec"]["containers"][0]["name"]
            self.bench.say(pod, "Failed", container, {"terminated": {"exitCode": STOPPED, "reason": "Error"}})
        if seen is not None:
            self.bench.until("job", job, seen)
        for pod in pods:
            self.bench.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")

    def workloads(self) -> list[RawObject]:
        return self.bench.kubectl.list("workloads.kueue.x-k8s.io")


@pytest.fixture
def queue(queues: Plane, bench: Bench) -> Iterator[Queue]:
    name = bench.kubectl.namespace
    # There before its pods: those of a node that is not are collected after a while.
    bench.kubectl.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    resources = [{"name": "cpu", "nominalQuota": CPUS}]
    bench.kubectl.apply(
        {
            "apiVersion": kueue.API_VERSION,
            "kind": "ResourceFlavor",
            "metadata": {"name": name},
            "spec": {"nodeLabels": GPU_NODES},
        },
        {
            "apiVersion": kueue.API_VERSION,
            "kind": "ClusterQueue",
            "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "preemption": {"withinClusterQueue": "LowerPriority"},
                "resourceGroups": [
                    {"coveredResources": ["cpu"], "flavors": [{"name": name, "resources": resources}]},
                ],
            },
        },
        local_queue(name, "gpu"),
    )
    yield Queue(bench, name)
    bench.kubectl("delete", "node", name)


def local_queue(namespace: str, name: str) -> RawObject:
    return {
        "apiVersion": kueue.API_VERSION,
        "kind": "LocalQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterQueue": namespace},
    }


def gang(name: str = "train", *after: str, cpus: int = CPUS, **fields: Any) -> RawObject:
    """A step on two nodes that takes so many CPUs."""
    resources = {"requests": {"cpu": str(cpus // 2)}}
    trainer = {"image": "registry.example/train:1", "numNodes": 2, "resourcesPerNode": resources}
    return step(name, *after, trainer=trainer, **fields)


def test_a_gang_is_admitted_whole_and_the_next_one_waits_for_it(queue: Queue) -> None:
    queue.submit("first", gang())
    queue.until("first", "Running", "True")
    pods = queue.run("first-train-1")
    assert [pod["spec"]["nodeSelector"] for pod in pods] == [GPU_NODES] * 2, "the nodes that Kueue chose"
    (workload,) = queue.workloads()
    assert condition(workload, "Admitted")["status"] == "True"
    queue.until_used(CPUS)

    queue.submit("second", gang())
    waiting = queue.until("second", "Pending", "False")
    assert "it waits for admission by queue gpu" in condition(waiting, "Ready")["message"]
    why = "insufficient unused quota for cpu"
    queue.bench.until("trainingjob", "second", lambda job: why in condition(job, "Admitted")["message"])
    assert queue.bench.pods("second-train-1") == []

    queue.bench.finish("first-train-1", report(artifact()))
    queue.bench.until("trainingjob", "first", lambda job: is_true(job, "Ready"))
    queue.until("second", "Running", "True")
    queue.bench.finish("second-train-1", report(artifact(sha256="bb" * 32)))
    done = queue.bench.until("trainingjob", "second", lambda job: is_true(job, "Ready"))
    assert (done["status"]["attempt"], done["status"]["restarts"]) == (1, 0)


def test_a_preempted_gang_goes_on_with_the_same_job_and_nothing_is_counted(queue: Queue) -> None:
    checkpoint = {"path": "/checkpoints", "volumeClaimName": "checkpoints", "intervalSeconds": 60}
    low, high = ({QUEUE: "gpu", PRIORITY: name} for name in ("nightly", "urgent"))
    queue.submit("first", gang(), labels=low, checkpoint=checkpoint)
    queue.until("first", "Running", "True")
    before = queue.run("first-train-1")
    queue.submit("second", gang(), labels=high)
    queue.until("first", "Pending", "False")
    queue.end(before, "first-train-1", lambda job: job["status"].get("terminating") == 0)
    queue.until("second", "Running", "True")
    # Whatever code its programs ended with when they were stopped: the Job waits, and has not failed.
    first = queue.bench.kubectl.get("job", "first-train-1")
    assert first is not None
    assert {each["type"] for each in first["status"]["conditions"]} == {"Suspended"}
    queue.bench.finish("second-train-1", report(artifact()))
    queue.bench.until("trainingjob", "second", lambda job: is_true(job, "Ready"))

    queue.until("first", "Running", "True")
    queue.bench.job("first-train-1")
    after = queue.bench.pods("first-train-1")
    assert not {pod["metadata"]["uid"] for pod in before} & {pod["metadata"]["uid"] for pod in after}
    assert [checkpoints(pod) for pod in after] == [checkpoints(pod) for pod in before], "goes on from where it saved"
    queue.bench.finish("first-train-1", report(artifact(sha256="bb" * 32)))
    done = queue.bench.until("trainingjob", "first", lambda job: is_true(job, "Ready"))
    assert (done["status"]["attempt"], done["status"]["restarts"]) == (1, 0)
    assert {"Preempted", "Registered"} <= queue.bench.events("first")
    assert "StepFailed" not in queue.bench.events("first")


def checkpoints(pod: RawObject) -> dict[str, str]:
    env = pod["spec"]["containers"][0]["env"]
    return {each["name"]: each["value"] for each in env if each["name"].startswith("CHECKPOINT_")}


def test_each_step_reserves_for_itself_and_suspension_gives_it_back(queue: Queue) -> None:
    prepare = step("prepare", image="registry.example/prepare:1", resources={"requests": {"cpu": "1"}})
    queue.submit("first", prepare, gang("train", "prepare"))
    queue.until("first", "Running", "True")
    queue.until_used(1)
    assert len(queue.workloads()) == 1, "nothing is held for a step that has not begun"
    queue.bench.finish("first-prepare-1", report(rows="5"))
    queue.bench.job("first-train-1")
    queue.until_used(CPUS)
    pods = queue.run("first-train-1")

    queue.submit("second", gang())
    queue.until("second", "Pending", "False")
    suspend(queue, "first", suspended=True)
    queue.end(pods)
    queue.until("second", "Running", "True")
    suspend(queue, "first", suspended=False)
    queue.until("first", "Pending", "False")
    queue.bench.finish("second-train-1", report(artifact()))
    queue.bench.job("first-train-2")
    assert queue.until("first", "Running", "True")["status"]["restarts"] == 0


def suspend(queue: Queue, name: str, *, suspended: bool) -> None:
    patch = json.dumps({"spec": {"suspend": suspended}})
    queue.bench.kubectl("patch", "trainingjob", name, "--type=merge", f"--patch={patch}")


def test_where_a_namespace_has_a_default_queue_all_that_runs_waits_in_it(queue: Queue) -> None:
    policy = {"rules": [{"name": "memory", "onExitCodes": [137], "action": "FailJob"}]}
    queue.bench.kubectl.apply(local_queue(queue.name, "default"))
    queue.submit("first", gang(cpus=2 * CPUS), labels={}, failurePolicy=policy)
    queue.bench.until("job", "first-train-1", lambda job: job["metadata"]["labels"].get(QUEUE) == "default")
    waiting = queue.bench.until("trainingjob", "first", lambda job: condition(job, "Ready").get("reason") == "Queued")
    assert "queue default" in condition(waiting, "Ready")["message"]
    quota(queue, 2 * CPUS)
    pods = queue.run("first-train-1")
    # Somebody drains the queue: what runs is stopped.
    hold(queue, "HoldAndDrain")
    queue.bench.until("trainingjob", "first", lambda job: job["status"]["phase"] == "Pending")
    queue.bench.until("job", "first-train-1", lambda job: condition(job, "Suspended").get("status") == "True")
    queue.end(pods, "first-train-1", lambda job: condition(job, "FailureTarget"))
    hold(queue, "None")
    # Nobody knew that this Job would be queued, so it had a rule on exit codes, and failed by those of stopped pods.
    queue.bench.job("first-train-2")
    again = queue.bench.until("trainingjob", "first", lambda job: job["status"]["phase"] == "Running")
    assert again["status"]["restarts"] == 0
    assert "Preempted" in queue.bench.events("first")
    # The verification waits there, too.
    hold(queue, "Hold")
    queue.bench.finish("first-train-2", report(artifact()))
    version = queue.bench.until(
        "modelversion", "m-1-0-0", lambda each: condition(each, "Verified").get("reason") == "Queued"
    )
    assert "Job verify-m-1-0-0-1: it waits for admission by queue default" in condition(version, "Verified")["message"]


def quota(queue: Queue, cpus: int) -> None:
    patch = [{"op": "replace", "path": "/spec/resourceGroups/0/flavors/0/resources/0/nominalQuota", "value": cpus}]
    queue.bench.kubectl("patch", "clusterqueue", queue.name, "--type=json", f"--patch={json.dumps(patch)}")


def hold(queue: Queue, policy: str) -> None:
    patch = json.dumps({"spec": {"stopPolicy": policy}})
    queue.bench.kubectl("patch", "clusterqueue", queue.name, "--type=merge", f"--patch={patch}")
