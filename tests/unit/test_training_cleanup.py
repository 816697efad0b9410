"""Nodes that die under a gang, gangs that get half of their nodes, and what is left when a job is over."""

from typing import Any

import pytest

from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.plan.training import cleanup
from tests.unit.job_world import START, World, artifact, job, report, step

GANG = {"trainer": {"image": "i", "numNodes": 2}, "backoffLimit": 0}


def gang(*nodes: str, **spec: Any) -> World:
    """A gang of two, its pods on these nodes."""
    world = World(job(**GANG | spec))
    world.settle()
    world.run("nightly-train-1", *nodes)
    world.settle()
    return world


def pods(world: World) -> list[str]:
    return [pod["metadata"]["name"] for pod in world.all("Pod")]


def test_an_attempt_is_given_up_five_minutes_after_a_node_went_out_of_reach() -> None:
    world = gang("a", "b")
    world.node("b", ready=False)
    assert world.plan().requeue_after is not None
    world.wait(299)
    assert world.unfinished() == ["nightly-train-1"]
    world.wait(2)
    assert world.unfinished() == ["nightly-train-2"]
    assert (world.status["phase"], world.status["restarts"]) == ("Running", 0)
    assert "NodeLost" in world.reasons
    note = next(note for note in world.notes if note.reason == "NodeLost")
    assert "pod nightly-train-1-1 is lost: node b is out of reach since 2026-11-21T06:00:00Z" in note.message
    # Nobody ends the pod: it goes by force once its own time to end is over, and only then.
    assert pods(world) == ["nightly-train-1-1"]
    world.wait(60)
    assert world.forced == []
    assert world.plan().requeue_after is not None
    world.wait(35)
    assert world.forced == ["nightly-train-1-1"]
    assert pods(world) == []


def test_a_node_that_comes_back_in_time_costs_nothing() -> None:
    world = gang("a", "b")
    world.node("b", ready=False)
    world.wait(200)
    world.node("b", ready=True)
    world.wait(200)
    assert world.unfinished() == ["nightly-train-1"]


def test_a_pod_that_is_deleted_on_a_dead_node_is_lost_at_once() -> None:
    """A toleration of the pod's own may end sooner."""
    world = gang("a", "b")
    world.node("b", ready=False)
    world.objects["Pod", "nightly-train-1-1"]["metadata"]["deletionTimestamp"] = "2026-11-21T06:00:30Z"
    world.settle()
    assert world.unfinished() == ["nightly-train-2"]


def test_a_pod_that_is_being_deleted_on_a_node_within_reach_is_left_to_its_kubelet() -> None:
    world = gang("a", "b")
    world.objects["Pod", "nightly-train-1-1"]["metadata"]["deletionTimestamp"] = "2026-11-21T06:00:30Z"
    world.wait(3600)
    assert world.unfinished() == ["nightly-train-1"]
    assert world.forced == []


def test_ranks_that_fail_for_want_of_a_dead_node_are_not_charged() -> None:
    world = gang("a", "b")
    lost = world.objects["Pod", "nightly-train-1-1"]
    world.node("b", ready=False)
    world.finish("nightly-train-1", "connection timed out", code=1)
    world.put(lost)
    world.settle()
    world.wait(11)
    assert (world.status["phase"], world.status["restarts"]) == ("Running", 0)
    assert "NodeLost" in world.reasons


@pytest.mark.parametrize("end", ["suspended", "deadline"])
def test_pods_on_dead_nodes_go_though_nothing_runs_any_more(end: str) -> None:
    world = gang("a", "b", activeDeadlineSeconds=100)
    world.node("b", ready=False)
    if end == "suspended":
        world.edit(suspend=True)
    world.wait(101)
    assert world.unfinished() == []
    world.wait(100)
    assert world.forced == ["nightly-train-1-1"]
    assert world.wait(86_400) == 0


def test_a_gang_that_gets_half_of_its_nodes_gives_them_back_and_comes_again() -> None:
    world = gang("a", "")
    world.wait(599)
    assert world.unfinished() == ["nightly-train-1"]
    world.wait(2)
    assert world.unfinished() == []
    waiting = world.status["steps"][0]
    assert "1 of 2 pods had a node" in waiting["message"]
    assert waiting["nextAttemptTime"] > "2026-11-21T06:10"
    TrainingJobStatus.model_validate(world.status)
    world.wait(30)
    assert world.unfinished() == ["nightly-train-2"]
    assert (world.status["restarts"], "GangIncomplete" in world.reasons) == (0, True)


def test_a_gang_that_holds_nothing_just_waits() -> None:
    world = gang("", "")
    world.wait(86_400)
    assert world.unfinished() == ["nightly-train-1"]


def finished(metadata: dict[str, Any] | None = None, ttl: int | None = 3600) -> World:
    obj = job(**GANG | ({"ttlSecondsAfterFinished": ttl} if ttl is not None else {}))
    obj["metadata"] |= metadata or {}
    world = World(obj)
    world.settle()
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    assert world.status["phase"] == "Succeeded"
    return world


def test_a_finished_job_is_deleted_after_its_time_to_live() -> None:
    world = finished()
    assert (world.plan().requeue_after or 0) > 3599
    assert world.wait(3599) == 0
    world.wait(2)
    assert world.all("TrainingJob") == []
    assert len(world.all("ModelVersion")) == 1


def test_without_a_time_to_live_everything_stays() -> None:
    world = finished(ttl=None)
    assert world.plan().requeue_after is None
    assert world.wait(10**8) == 0
    assert world.job("nightly-train-1") is not None


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "app:modelfleet.dev/TrainingJob:vision/nightly"}},
        {"labels": {"app.kubernetes.io/instance": "app"}},
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "app"}},
        {"labels": {"app.kubernetes.io/managed-by": "Helm"}},
        {"ownerReferences": [{"kind": "Pipeline", "name": "p", "uid": "1", "apiVersion": "x/v1"}]},
    ],
)
def test_what_somebody_would_create_again_stays_without_its_children(metadata: dict[str, Any]) -> None:
    world = finished(metadata)
    world.wait(3601)
    assert [*world.all("Job"), *world.all("Service")] == []
    assert len(world.all("TrainingJob")) == 1
    assert world.wait(86_400) == 0


def test_labels_of_the_users_own_track_nothing() -> None:
    obj = job() | {"metadata": {"labels": {"team": "vision", "app.kubernetes.io/managed-by": "us"}}}
    assert not cleanup.is_tracked(obj)


def test_the_time_to_live_may_be_set_on_a_job_that_is_over() -> None:
    world = finished(ttl=None)
    world.now = START
    world.edit(ttlSecondsAfterFinished=0)
    world.wait(1)
    assert world.all("TrainingJob") == []


def test_a_status_that_was_lost_costs_no_attempt_its_pods() -> None:
    """Neither those of a step whose turn comes later, nor those of an attempt that the status does not know yet."""
    world = World(job(step("prepare"), step("train", "prepare")))
    world.settle()
    world.finish("nightly-prepare-1", report(rows="5"))
    world.settle()
    world.finish("nightly-train-1", "boom", code=1)
    world.settle()
    world.wait(11)
    assert world.unfinished() == ["nightly-train-2"]
    uid = world.objects["Job", "nightly-train-2"]["metadata"]["uid"]
    world.objects["Job", "nightly-train-2"]["metadata"]["uid"] = uid = f"{uid}-as-it-was"
    del world.obj["status"]
    world.settle()
    world.wait(60)
    assert world.objects["Job", "nightly-train-2"]["metadata"]["uid"] == uid
    assert [each["attempt"] for each in world.status["steps"]] == [1, 2]
    world.finish("nightly-train-2", report((artifact(),)))
    world.settle()
    assert (world.status["phase"], world.status["restarts"]) == ("Succeeded", 1)
