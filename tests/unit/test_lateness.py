"""Gateways that get no pod at all, or one after the other that does not stay: they have a deadline, too."""

from collections import Counter

import pytest

from modelfleet.plan.edge import assignment
from tests.unit.edge_world import Object, World, healthy, model_version, node, pod_status, pool

V1, V2 = "defect-1-0-0", "defect-2-0-0"
KEYS = assignment.keys("uid-of-line")
DENIED = 'pods "line-x" is forbidden: violates PodSecurity "restricted:latest"'
QUOTA = 'pods "line-x" is forbidden: exceeded quota: none, requested: pods=1, used: pods=4, limited: pods=4'


def fleet(count: int = 4, **strategy: object) -> World:
    given = {"progressDeadlineSeconds": 600, "onFailure": "Pause", **strategy}
    world = World([node(f"gw-{index:04}") for index in range(count)], strategy=given)
    world.add_model(model_version("2.0.0"))
    world.run()
    return world


def wait(world: World, minutes: int) -> None:
    for _ in range(2 * minutes):
        world.run(10)
        world.play(seconds=30)


@pytest.mark.parametrize("order", ["PrefetchFirst", "StopFirst"])
@pytest.mark.parametrize(("why", "reason"), [(DENIED, "PodsRefused"), ("", "NoPod")])
def test_a_gateway_that_gets_no_pod_fails_in_time_and_says_why(order: str, why: str, reason: str) -> None:
    world = fleet(recreateOrder=order, failureThreshold={"percentage": 30, "minSamples": 4}, maxUnavailable=2)
    world.barren = {"gw-0001": why}
    world.edit(modelVersion=V2)
    wait(world, 9)
    assert world.status["counts"]["failed"] == 0
    if why:
        assert world.condition("Stalled")["reason"] == "PodsRefused"
    wait(world, 4)
    assert world.status["counts"]["failed"] == 1
    assert world.status["failures"][0]["node"] == "gw-0001"
    assert world.status["failures"][0]["reason"] == reason
    assert (DENIED[:30] in world.status["failures"][0]["message"]) is bool(why)
    assert world.status["stable"]["modelVersion"] == V2
    assert KEYS.failed in world.nodes["gw-0001"]["metadata"]["labels"]
    world.barren = {}
    world.run()
    assert Counter(world.serving().values()) == {V1: 1, V2: 3}, "it returned to what it had, until somebody retries"
    world.command(retry=f"{world.status['stable']['revision']}/1")
    world.run()
    assert Counter(world.serving().values()) == {V2: 4}


def test_a_quota_is_waited_for() -> None:
    world = fleet()
    world.barren = dict.fromkeys(world.nodes, QUOTA)
    world.edit(modelVersion=V2)
    wait(world, 30)
    assert world.status["counts"]["failed"] == 0
    assert world.condition("Stalled")["reason"] == "PodsRefused"
    assert world.plan().requeue_after is not None
    world.barren = {}
    world.run()
    assert Counter(world.serving().values()) == {V2: 4}


def test_a_pod_that_is_deleted_begins_the_deadline_anew() -> None:
    world = fleet()
    wait(world, 60)
    world.edit(modelVersion=V2)
    world.run()
    wait(world, 60)
    name = next(pod["metadata"]["name"] for pod in world.kind("Pod") if pod["spec"]["nodeName"] == "gw-0001")
    del world.children["Pod", name]
    world.step()
    assert world.status["counts"]["failed"] == 0
    world.run()
    assert world.condition("Ready")["status"] == "True"


def test_pods_that_the_kubelet_turns_away_one_after_the_other_take_no_longer() -> None:
    world = fleet(recreateOrder="StopFirst")

    def behave(pod: Object, name: str) -> Object:
        if name == "gw-0001" and V2 in pod["metadata"]["labels"].values():
            return pod_status("False", phase="Failed", reason="UnexpectedAdmissionError", message="no such device")
        return healthy(pod, name)

    world.behaviour = behave
    world.edit(modelVersion=V2)
    for _ in range(30):
        world.run(10)
        world.play(seconds=30)
        for pod in world.kind("Pod"):
            if pod["status"]["phase"] == "Failed":
                del world.children["Pod", pod["metadata"]["name"]]
    assert [each["reason"] for each in world.status["failures"]] == ["UnexpectedAdmissionError"]


def test_a_restarted_operator_gives_it_the_time_anew() -> None:
    world = fleet()
    world.barren = dict.fromkeys(world.nodes, "")
    world.edit(modelVersion=V2)
    wait(world, 9)
    world.waiting = {}
    wait(world, 9)
    assert world.status["counts"]["failed"] == 0
    wait(world, 4)
    assert world.status["counts"]["failed"] > 0


def test_what_is_ready_beside_may_wait_for_its_window_as_long_as_it_takes() -> None:
    world = fleet(2)
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    window = {"schedule": "0 2 * * *", "duration": "1h", "timeZone": "Etc/UTC"}
    world.edit(strategy={**world.deployment["spec"]["strategy"], "maintenanceWindow": window})
    wait(world, 60)
    assert world.status["counts"]["failed"] == 0
    assert [name for name, each in world.nodes.items() if KEYS.next in each["metadata"]["labels"]]


def test_replicas_that_get_no_pod_fail_as_well() -> None:
    strategy = {"progressDeadlineSeconds": 600, "onFailure": "Pause"}
    world = World([node("lab-0", pool="lab")], [pool("lab", placement="Replicas", replicas=2)], strategy=strategy)
    world.add_model(model_version("2.0.0"))
    world.run()
    world.barren = {"lab-0": DENIED}
    world.edit(modelVersion=V2)
    wait(world, 13)
    assert world.status["failures"][0]["reason"] == "PodsRefused"
    assert world.condition("Paused")["reason"] == "FailureThresholdExceeded"
    assert world.replicas()[V1] == 2
