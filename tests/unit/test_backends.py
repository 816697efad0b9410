"""When requests may go over: with enough replicas to bear them, and without those that are not waited for."""

from typing import Any

import pytest

from modelfleet.plan.traffic import traffic
from modelfleet.plan.traffic.canary_state import Backends, ReplicasPool
from tests.unit.edge_world import Object, World, healthy, model_version, node, pool

V1, V2 = "defect-1-0-0", "defect-2-0-0"
ISTIO = {"provider": "Istio", "hosts": ["defect.plant.example"]}
HALF = {"steps": [{"weight": 50, "pause": "Manual"}]}
TOLERANT = {"failureThreshold": {"percentage": 20, "minSamples": 10}, "maxUnavailable": 5}
STRICT = {"failureThreshold": {"percentage": 5, "minSamples": 10}, "maxUnavailable": 5, "onFailure": "Pause"}


@pytest.mark.parametrize(
    ("total", "ready", "left_out", "percent", "bears"),
    [
        (10, 10, 0, 100, True),
        (10, 9, 0, 100, False),
        (10, 9, 1, 100, True),
        (10, 8, 1, 100, False),
        (10, 5, 1, 50, True),
        # Below all requests another one takes its place.
        (10, 4, 1, 50, False),
        (10, 4, 6, 50, True),
        # One at least, whatever failed.
        (1, 0, 1, 100, False),
        (2, 0, 2, 5, False),
        (0, 0, 0, 100, True),
        (0, 0, 3, 100, True),
        (4, 1, 0, 0, True),
        (4, 0, 0, 0, False),
    ],
)
def test_which_share_so_many_replicas_bear(total: int, ready: int, left_out: int, percent: int, *, bears: bool) -> None:
    assert Backends([ReplicasPool(total, 0, ready, left_out)]).bears(percent) is bears
    whole = [ReplicasPool(3, 0, 3), ReplicasPool(total, 0, ready, left_out)]
    assert Backends(whole).bears(percent) is bears, "each pool for itself"


@pytest.mark.parametrize(
    ("total", "ready", "not_back", "whole"),
    [(4, 4, 0, True), (4, 3, 0, False), (4, 3, 1, True), (4, 0, 4, False), (4, 1, 4, True), (0, 0, 0, True)],
)
def test_when_requests_may_go_back(total: int, ready: int, not_back: int, *, whole: bool) -> None:
    assert Backends([ReplicasPool(total, ready, total, 0, not_back)]).stable_is_whole is whole


def lab(**spec: Any) -> World:
    """Ten routed replicas on version 1, converged."""
    pools = [pool("lab", placement="Replicas", replicas=10)]
    world = World([node("lab-0", pool="lab")], pools, traffic=ISTIO, **spec)
    world.served = set(traffic.KINDS["Istio"])
    world.add_model(model_version("2.0.0"))
    settle(world)
    assert world.condition("Ready")["status"] == "True"
    return world


def settle(world: World, rounds: int = 12) -> None:
    """Until nothing changes but by long waits."""
    for _ in range(rounds):
        world.run(60)
        world.play(seconds=40)
    world.run(60)


def failing(world: World, version: str, count: int, status: Object | None = None) -> None:
    """The first so many pods of this version never come up."""
    bad: set[str] = set()

    def behave(pod: Object, name: str) -> Object:
        if version in pod["metadata"]["labels"].values() and (len(bad) < count or pod["metadata"]["name"] in bad):
            bad.add(pod["metadata"]["name"])
            return status or {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
        return healthy(pod, name)

    world.behaviour = behave


def weights(world: World) -> list[int]:
    (service,) = world.kind("VirtualService")
    return [each["weight"] for each in service["spec"]["http"][-1]["route"]]


@pytest.mark.parametrize("canary", [None, HALF])
def test_a_replica_whose_failure_is_tolerated_is_not_waited_for(canary: Object | None) -> None:
    world = lab(strategy={**TOLERANT, "progressDeadlineSeconds": 600}, **({"canary": canary} if canary else {}))
    failing(world, V2, 1)
    world.edit(modelVersion=V2)
    settle(world, 20)
    if canary:
        assert weights(world) == [50, 50]
        assert world.replicas()[V2] == 6, "another one in the stead of the one that failed"
        world.command(promote=f"{world.status['candidate']['revision']}/1/0")
    settle(world, 20)
    assert world.status["stable"]["modelVersion"] == V2
    assert weights(world) == [100]
    assert world.replicas() == {V2: 10}, "version 1 gets no request and stands in for nothing"
    assert world.condition("Stalled")["reason"] == "NodesFailed"


@pytest.mark.parametrize("canary", [None, HALF])
def test_a_failure_that_is_not_tolerated_moves_no_further_request(canary: Object | None) -> None:
    world = lab(strategy={**STRICT, "progressDeadlineSeconds": 600}, **({"canary": canary} if canary else {}))
    failing(world, V2, 1)
    world.edit(modelVersion=V2)
    settle(world, 25)
    if canary:
        assert world.condition("Paused")["reason"] == "AwaitingPromotion", "too few are known to tell"
        world.command(promote=f"{world.status['candidate']['revision']}/1/0")
        settle(world)
        assert weights(world) == [50, 50]
    assert world.status["stable"]["modelVersion"] == V1
    assert world.replicas()[V1] == 10
    assert world.status["phase"] == "Paused"
    assert world.condition("Paused")["reason"] == "FailureThresholdExceeded"


NO_ROOM = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "1 Insufficient cpu"}
WAVES = [{"name": "pilot", "nodes": 1}, {"name": "all", "nodes": "100%", "approval": "Manual"}]


def test_the_way_back_waits_for_no_replica_that_has_no_room_beside_those_that_go() -> None:
    world = lab(canary=HALF)
    world.edit(modelVersion=V2, strategy={"waves": WAVES})
    settle(world)
    begun = f"{world.status['candidate']['revision']}/1"
    world.command(promote=f"{begun}/0")
    settle(world)
    assert weights(world) == [100]
    assert world.replicas() == {V1: 0, V2: 10}, "all waits for approval"
    cramped = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}, NO_ROOM]}
    failing(world, V1, 1, cramped)
    world.command(abort=begun)
    settle(world)
    assert world.status["phase"] == "RolledBack"
    assert weights(world) == [100]
    assert world.replicas() == {V1: 10}
