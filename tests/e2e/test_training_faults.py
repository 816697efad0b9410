"""Trainings in real pods that are struck midway: they end, from their checkpoint, as one that nobody disturbed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.cluster import RealNode
from e2e.cluster.commands import wait_until
from e2e.kubectl import Kubectl, is_true
from e2e.project import Files
from tests import objects, volume
from tests.volume import Volume

# Kubernetes takes the taint off up to 5 s after the node is Ready: who tolerates it for less is evicted once more.
LOST = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 6}


@pytest.fixture
def disk(kubectl: Kubectl, node: RealNode) -> Iterator[Volume]:
    with volume.claimed(kubectl, node) as made:
        yield made


def training(files: Files, namespace: str, name: str, steps: list[objects.RawObject], **spec: Any) -> objects.RawObject:
    policy = {"checkpoint": volume.checkpoint(), "backoffLimit": 0}
    return objects.training_job(files, namespace, steps, name=name, model=name, **(policy | spec))


def running_pods(kubectl: Kubectl, job: str) -> list[objects.RawObject]:
    """The pods of a Job by rank."""
    pods = kubectl.list("pods", f"batch.kubernetes.io/job-name={job}")
    return sorted(pods, key=lambda pod: pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])


def ended(kubectl: Kubectl, name: str) -> dict[str, objects.RawObject]:
    """The steps of a job that succeeded, by name."""
    done = kubectl.wait_for("trainingjob", name, lambda job: is_true(job, "Ready"), timeout=600)
    return {step["name"]: step for step in done["status"]["steps"]}


def metrics(step: objects.RawObject) -> dict[str, str]:
    return dict(step["results"]["metrics"])


def check_went_on(disk: Volume, job: str, step: objects.RawObject, struck_after: int) -> None:
    """Its last attempt went on from the newest checkpoint, and no more epochs were run again than lie between two."""
    begun, last, saved = int(metrics(step)["begun_at"]), step["attempt"], disk.saved(job)
    ran = [epoch for attempt, epoch in disk.epochs(job) if attempt == last]
    assert ran == list(range(begun + 1, volume.EPOCHS + 1))
    assert begun == max(epoch for attempt, epochs in saved.items() if attempt < last for epoch in epochs)
    # Whatever the first attempt's processes did afterwards, it saved nothing more.
    assert 0 < max(saved[1]) <= struck_after
    assert struck_after - max(saved[1]) <= volume.AT_MOST_REPEATED


def test_trainings_go_on_when_a_rank_is_killed_or_the_operator_or_they_were_suspended(
    kubectl: Kubectl,
    operator_pods: Kubectl,
    files: Files,
    namespace: str,
    train_image: str,
    node: RealNode,
    disk: Volume,
) -> None:
    kubectl.apply(
        training(files, namespace, "calm", [volume.step("train", "calm", train_image, nodes=2)]),
        # Killed after epoch 7, and the operator after epoch 12.
        training(files, namespace, "struck", [volume.step("train", "struck", train_image, nodes=2, HOLDS="7 12")]),
        training(
            files,
            namespace,
            "chain",
            [
                volume.step("first", "chain-1", train_image, HOLDS="5"),
                volume.step("second", "chain-2", train_image, "first"),
            ],
        ),
        # No checkpoint is due before its end but the one on being told to stop.
        training(
            files,
            namespace,
            "paused",
            [volume.step("train", "paused", train_image, HOLDS="7", SAVE_WHEN_STOPPED="")],
            checkpoint=volume.checkpoint(interval_seconds=600),
        ),
    )
    disk.await_epoch("paused", 1, 7)
    kubectl("patch", "trainingjob", "paused", "--type=merge", f"--patch={objects.merge_patch(suspend=True)}")
    disk.await_epoch("struck", 1, 7)
    volume.kill_container(node, running_pods(kubectl, "struck-train-1")[1])

    kubectl.wait_for("trainingjob", "paused", lambda job: job["status"]["phase"] == "Suspended")
    kubectl("wait", "job/paused-train-1", "--for=delete", "--timeout=300s")
    kubectl("patch", "trainingjob", "paused", "--type=merge", f"--patch={objects.merge_patch(suspend=False)}")

    disk.await_epoch("struck", 2, 12)
    disk.await_epoch("chain-1", 1, 5)
    for pod in operator_pods.list("pods", "app.kubernetes.io/name=modelfleet"):
        volume.kill_container(node, pod)
    disk.release("struck", 2)
    disk.release("chain-1", 1)

    calm, struck, chain, paused = (ended(kubectl, name) for name in ("calm", "struck", "chain", "paused"))
    assert calm["train"]["jobName"] == "calm-train-1"
    assert struck["train"]["jobName"] == "struck-train-2"
    assert struck["train"]["restarts"] == 1
    assert metrics(struck["train"])["loss"] == metrics(calm["train"])["loss"]
    assert disk.epochs("calm") == [(1, epoch) for epoch in range(1, volume.EPOCHS + 1)]
    check_went_on(disk, "struck", struck["train"], struck_after=7)
    assert disk.epochs("paused") == [(1 if epoch <= 7 else 2, epoch) for epoch in range(1, volume.EPOCHS + 1)]
    assert metrics(paused["train"])["loss"] == metrics(chain["second"])["loss"]
    # What was done while nobody looked is not done again.
    assert [chain[name]["jobName"] for name in ("first", "second")] == ["chain-first-1", "chain-second-1"]
    for name in ("chain-1", "chain-2"):
        assert disk.epochs(name) == [(1, epoch) for epoch in range(1, volume.EPOCHS + 1)]


def test_a_gang_of_mpi_ranks_goes_on_as_others_do(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str, node: RealNode, disk: Volume
) -> None:
    def gang(name: str, holds: str, **spec: Any) -> objects.RawObject:
        options = {"HOLDS": holds, "SAVE_WHEN_STOPPED": ""}
        step = volume.step("train", name, train_image, nodes=2, framework="mpi", **options)
        step["trainer"]["numProcPerNode"] = 2
        return training(files, namespace, name, [step], **spec)

    kubectl.apply(
        gang("calm", ""),
        gang("struck", "7"),
        # No checkpoint is due before its end but the one on being told to stop.
        gang("paused", "7", checkpoint=volume.checkpoint(interval_seconds=600)),
    )
    disk.await_epoch("paused", 1, 7)
    kubectl("patch", "trainingjob", "paused", "--type=merge", f"--patch={objects.merge_patch(suspend=True)}")
    disk.await_epoch("struck", 1, 7)
    volume.kill_container(node, running_pods(kubectl, "struck-train-1")[1])
    kubectl.wait_for("trainingjob", "paused", lambda job: job["status"]["phase"] == "Suspended")
    kubectl("wait", "job/paused-train-1", "--for=delete", "--timeout=300s")
    kubectl("patch", "trainingjob", "paused", "--type=merge", f"--patch={objects.merge_patch(suspend=False)}")

    calm, struck, paused = (ended(kubectl, name)["train"] for name in ("calm", "struck", "paused"))
    assert disk.epochs("calm") == [(1, epoch) for epoch in range(1, volume.EPOCHS + 1)]
    assert struck["restarts"] == 1
    check_went_on(disk, "struck", struck, struck_after=7)
    assert disk.epochs("paused") == [(1 if epoch <= 7 else 2, epoch) for epoch in range(1, volume.EPOCHS + 1)]
    assert metrics(struck)["loss"] == metrics(paused)["loss"] == metrics(calm)["loss"]


def test_a_training_goes_on_when_its_node_is_back_though_the_old_process_still_runs(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str, node: RealNode, disk: Volume
) -> None:
    kubectl.apply(
        training(files, namespace, "calm", [volume.step("train", "calm", train_image)]),
        training(
            files, namespace, "struck", [volume.step("train", "struck", train_image, HOLDS="7 9 9")], tolerations=[LOST]
        ),
    )
    calm = ended(kubectl, "calm")
    disk.await_epoch("struck", 1, 7)
    node.stop_kubelet()
    try:
        lose(kubectl, node.name)
        kubectl.wait_for("job", "struck-train-2", lambda job: job.get("status", {}).get("active") == 1)
    finally:
        node.start_kubelet()
    # The old process knows nothing of it, and goes on once the new one is at work on the same volume.
    wait_until(lambda: any(attempt > 1 for attempt, _ in disk.epochs("struck")), "the next attempt to train", 600)
    assert (1, 8) not in disk.epochs("struck")
    for attempt in (1, 2, 3):
        disk.release("struck", attempt)
    struck = ended(kubectl, "struck")
    assert struck["train"]["attempt"] > 1
    assert struck["train"].get("restarts", 0) == 0
    assert metrics(struck["train"])["loss"] == metrics(calm["train"])["loss"]
    check_went_on(disk, "struck", struck["train"], struck_after=7)


def lose(kubectl: Kubectl, name: str) -> None:
    """Write what the node controller would after its grace period."""
    condition = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
    }
    patch = json.dumps({"status": {"conditions": [condition]}})
    kubectl("patch", "node", name, "--subresource=status", "--type=strategic", f"--patch={patch}")
