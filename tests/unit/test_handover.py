"""How a gateway goes from one workload to the next: what is ready before the old pod goes, what is noted and left."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet.plan import naming
from modelfleet.plan.edge import assignment, sweep
from modelfleet.plan.edge.assignment import Assignment, Failed
from tests.unit.edge_world import GPU, Object, World, healthy, model_version, node, pod_status, pool, refusing

V1, V2, V3 = "defect-1-0-0", "defect-2-0-0", "defect-3-0-0"
KEYS = assignment.keys("uid-of-line")
MISMATCH = refusing(json.dumps({"file": "int8", "reason": "HashMismatch", "message": "the bytes are others"}))
PENDING = pod_status("False")
ORDERS = ("PrefetchFirst", "StopFirst")


def fleet(count: int = 4, **strategy: object) -> World:
    """Gateways on version 1, converged, with versions 2 and 3 verified."""
    world = World([node(f"gw-{index:04}") for index in range(count)], strategy=strategy)
    for version in ("2.0.0", "3.0.0"):
        world.add_model(model_version(version))
    world.run()
    world.notes.clear()
    world.label_writes = 0
    return world


def of_version(version: str, status: Object) -> object:
    return lambda pod, name: status if version in pod["metadata"]["labels"].values() else healthy(pod, name)


def assigned(world: World, name: str) -> Assignment:
    labels = world.nodes[name]["metadata"]["labels"]
    return assignment.read(labels, KEYS, naming.install_mark(world.installation.name) + "-")


def pods_on(world: World, name: str) -> set[str]:
    return {
        each["metadata"]["labels"]["modelfleet.dev/model-version"]
        for each in world.kind("Pod")
        if each["spec"]["nodeName"] == name
    }


def test_the_new_pod_is_ready_before_the_old_one_goes_and_stays_the_same_pod() -> None:
    world = fleet(2, maxUnavailable=1)
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    (name,) = [each for each in world.nodes if assigned(world, each).next]
    assert pods_on(world, name) == {V1, V2}
    beside = {each["metadata"]["name"] for each in world.kind("Pod")}
    world.step()
    world.play()
    assert pods_on(world, name) == {V2}
    assert {each["metadata"]["name"] for each in world.kind("Pod") if each["spec"]["nodeName"] == name} < beside
    world.run()
    assert Counter(world.serving().values()) == {V2: 2}
    assert world.label_writes == 4, "two a gateway"


@pytest.mark.parametrize(("order", "pods", "writes"), [("PrefetchFirst", 2, 8), ("StopFirst", 1, 4)])
def test_what_an_order_costs(order: str, pods: int, writes: int) -> None:
    world = fleet(recreateOrder=order, maxUnavailable=1)
    world.edit(modelVersion=V2)
    seen: list[int] = []
    world.run(watch=lambda: seen.extend(len(pods_on(world, each)) for each in world.nodes))
    assert max(seen) == pods
    assert world.label_writes == writes
    assert Counter(world.serving().values()) == {V2: 4}


def test_a_wire_that_is_cut_in_the_middle_finds_the_old_version_serving_and_the_new_one_there() -> None:
    world = fleet(1)
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    world.offline("gw-0000")
    world.run()
    assert pods_on(world, "gw-0000") == {V1, V2}
    assert assigned(world, "gw-0000").serves != assigned(world, "gw-0000").next
    world.online("gw-0000")
    world.run()
    assert world.serving() == {"gw-0000": V2}
    assert world.label_writes == 2


def test_a_gateway_that_sleeps_over_two_versions_gets_the_last_one_only() -> None:
    world = fleet(2)
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    name = next(each for each in world.nodes if assigned(world, each).next)
    world.offline(name, ago=1000)
    world.run()
    world.edit(modelVersion=V3)
    world.run()
    assert pods_on(world, name) == {V1, V2}, "nothing is written for it while it is away"
    seen: set[str] = set()
    world.online(name)
    world.run(watch=lambda: seen.update(world.serving().values()))
    assert world.serving()[name] == V3
    assert V2 not in {each["metadata"]["labels"]["modelfleet.dev/model-version"] for each in world.kind("DaemonSet")}


@pytest.mark.parametrize("order", ORDERS)
def test_what_failed_is_noted_on_the_node_and_not_tried_again_before_the_next_attempt(order: str) -> None:
    world = fleet(1, recreateOrder=order, onFailure="Pause")
    world.behaviour = of_version(V2, MISMATCH)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    assert world.serving() == {"gw-0000": V1}
    assert pods_on(world, "gw-0000") == {V1}
    note = assigned(world, "gw-0000").failed
    assert note is not None
    assert (note.attempt, note.reason) == (1, "HashMismatch")
    assert world.status["failures"] == [
        {"node": "gw-0000", "reason": "HashMismatch", "message": "int8: the bytes are others"}
    ]
    assert world.label_writes == 2, "it was begun, and taken back with the note in the same write"

    world.behaviour = healthy
    del world.deployment["status"]
    world.run()
    assert world.serving() == {"gw-0000": V1}, "neither healing nor a lost status tries again"
    assert world.status["counts"]["failed"] == 1
    assert world.status["failures"][0]["reason"] == "HashMismatch"


@pytest.mark.parametrize("order", ORDERS)
def test_the_next_attempt_tries_again_and_takes_the_note_off(order: str) -> None:
    world = fleet(1, recreateOrder=order, onFailure="Pause")
    world.behaviour = of_version(V2, MISMATCH)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    world.behaviour = healthy
    retry(world)
    world.run()
    assert world.serving() == {"gw-0000": V2}
    assert assigned(world, "gw-0000") == Assignment(assigned(world, "gw-0000").serves)


@pytest.mark.parametrize("lost", [True, False])
def test_a_note_of_an_earlier_rollouts_later_attempt_counts_until_the_retry_and_no_longer(*, lost: bool) -> None:
    world = fleet(4, maxUnavailable=4, failureThreshold={"percentage": 50, "minSamples": 4})
    world.behaviour = lambda pod, name: of_version(V2, MISMATCH)(pod, name) if name == "gw-0000" else healthy(pod, name)  # type: ignore[operator]
    world.edit(modelVersion=V2)
    world.run()
    for attempt in (1, 2):
        world.command(retry=f"{world.status['stable']['revision']}/{attempt}")
        world.run()
    note = assigned(world, "gw-0000").failed
    assert note is not None
    assert note.attempt == 3
    world.offline("gw-0000", ago=1000)
    world.command(retry=None)
    world.edit(modelVersion=V3)
    world.run()
    world.command(promote=f"{world.status['stable']['revision']}/1/full")
    world.run()
    world.edit(modelVersion=V2)
    world.online("gw-0000")
    if lost:
        world.deployment.pop("status")
    else:
        world.status["lastCommand"] = "promote of something else"
    world.run()
    assert assigned(world, "gw-0000").failed == note, "what failed there is not tried there again by itself"
    world.behaviour = healthy
    world.command(promote=None, retry=f"{world.status['stable']['revision']}/{world.status['attempt']}")
    world.run()
    assert Counter(world.serving().values()) == {V2: 4}


def retry(world: World) -> None:
    world.command(retry=f"{world.status['candidate']['revision']}/{world.status['attempt']}")


def test_another_version_is_tried_where_one_failed_and_takes_the_note_off() -> None:
    world = fleet(1)
    world.behaviour = of_version(V2, MISMATCH)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    world.edit(modelVersion=V3)
    world.run()
    assert world.serving() == {"gw-0000": V3}
    assert assigned(world, "gw-0000").failed is None


def test_what_never_serves_elsewhere_stays_where_there_is_nothing_to_return_to() -> None:
    world = World([node("gw-0000")])
    world.behaviour = of_version(V1, MISMATCH)  # type: ignore[assignment]
    world.run()
    assert assigned(world, "gw-0000").failed is None
    world.behaviour = healthy
    world.run()
    assert world.serving() == {"gw-0000": V1}


@pytest.mark.parametrize("order", ORDERS)
def test_going_back_in_mid_rollout_takes_no_soak_and_touches_no_pod_that_still_runs_the_version(order: str) -> None:
    world = fleet(8, recreateOrder=order, maxUnavailable=2)
    stay = {pod["metadata"]["name"] for pod in world.kind("Pod")}
    waves = [{"name": "half", "nodes": "50%", "soak": "1h"}, {"name": "all", "nodes": "100%", "soak": "1h"}]
    world.edit(modelVersion=V2, strategy={**world.deployment["spec"]["strategy"], "waves": waves})
    for _ in range(3):
        world.step()
        world.play()
    moved = {name for name in world.nodes if V1 not in pods_on(world, name)}
    begun = {name for name in world.nodes if assigned(world, name).next}
    assert moved
    assert bool(begun) is (order == "PrefetchFirst")
    stay &= {pod["metadata"]["name"] for pod in world.kind("Pod")}
    world.label_writes = 0
    seen: list[set[str]] = []
    world.edit(modelVersion=V1)
    world.run(watch=lambda: seen.append({pod["metadata"]["name"] for pod in world.kind("Pod")}))
    assert all(stay <= each for each in seen), "no second fetch where it runs"
    assert Counter(world.serving().values()) == {V1: 8}
    assert world.condition("Ready")["status"] == "True", "no soak"
    assert world.label_writes == len(moved) * (2 if order == "PrefetchFirst" else 1) + len(begun)
    writes = world.label_writes
    world.run()
    assert world.label_writes == writes


def test_a_version_that_is_superseded_or_undone_beside_leaves_no_pod() -> None:
    world = fleet(2, maxUnavailable=1)
    world.behaviour = of_version(V2, PENDING)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    name = next(each for each in world.nodes if assigned(world, each).next)
    assert pods_on(world, name) == {V1, V2}
    world.edit(modelVersion=V1)
    world.run()
    assert pods_on(world, name) == {V1}
    assert world.condition("Ready")["status"] == "True"
    world.edit(modelVersion=V2)
    world.run()
    world.edit(modelVersion=V3)
    world.run()
    assert Counter(world.serving().values()) == {V3: 2}
    assert all(pods_on(world, each) == {V3} for each in world.nodes)


def cramped(world: World) -> object:
    """Gateways with room for one pod: what comes second waits until the first is gone."""
    lacking = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: not helpful"
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": lacking}

    def behave(pod: Object, name: str) -> Object:
        first = min(each["metadata"]["creationTimestamp"] for each in world.kind("Pod"))
        if len(pods_on(world, name)) > 1 and pod["metadata"]["creationTimestamp"] > first:
            status = pod_status("False")
            status["conditions"].append(scheduled)
            return status
        return healthy(pod, name)

    return behave


def test_where_there_is_no_room_for_two_pods_the_old_one_goes_first_and_it_is_told_once() -> None:
    world = fleet(3, maxUnavailable=1)
    world.behaviour = cramped(world)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    assert Counter(world.serving().values()) == {V2: 3}
    assert world.label_writes == 6
    skipped = {note.message for note in world.notes if note.reason == "PrefetchSkipped"}
    assert len(skipped) == 1
    assert "(Insufficient nvidia.com/gpu)" in skipped.pop()


@pytest.mark.parametrize(
    ("resources", "allocatable", "lacks"),
    [
        ({}, {"cpu": "1"}, ""),
        ({"limits": {"cpu": "2"}}, {"cpu": "4", "memory": "1Gi"}, ""),
        ({"limits": {"cpu": "2"}}, {"cpu": "3900m"}, "cpu"),
        ({"limits": {"cpu": "3"}, "requests": {"cpu": "500m"}}, {"cpu": "1"}, ""),
        ({"limits": {GPU: "1"}}, {GPU: "1"}, GPU),
        ({"limits": {GPU: "1"}}, {GPU: "2"}, ""),
        ({"limits": {"odd/one": "1"}}, {}, ""),
    ],
)
def test_what_a_device_lacks_for_two_pods(resources: Object, allocatable: Object, lacks: str) -> None:
    world = fleet(1, recreateOrder="PrefetchFirst")
    world.nodes["gw-0000"]["status"]["allocatable"] = allocatable
    world.edit(serving={"resources": resources})
    world.run()
    world.label_writes = 0
    world.notes.clear()
    world.edit(modelVersion=V2)
    world.run()
    assert world.serving() == {"gw-0000": V2}
    assert world.label_writes == (1 if lacks else 2)
    told = [note.message for note in world.notes if note.reason == "PrefetchSkipped"]
    assert [f"(Insufficient {lacks})" in each for each in told] == ([True] if lacks else [])


def test_what_is_ready_beside_does_not_take_over_while_its_model_is_in_doubt() -> None:
    world = fleet(1)
    world.behaviour = of_version(V2, PENDING)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    world.behaviour = healthy
    world.models[V2]["status"]["conditions"] = [
        {"type": "Verified", "status": "False", "reason": "HashMismatch", "message": "other bytes"}
    ]
    world.run()
    assert pods_on(world, "gw-0000") == {V1, V2}
    assert assigned(world, "gw-0000").next
    world.models[V2] = model_version("2.0.0")
    world.run()
    assert world.serving() == {"gw-0000": V2}


def test_a_pause_lets_what_was_begun_come_to_its_end() -> None:
    world = fleet(3, maxUnavailable=1)
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    world.edit(paused=True)
    world.run()
    assert Counter(world.serving().values()) == {V1: 2, V2: 1}
    assert not any(assigned(world, each).next for each in world.nodes)


def test_a_gateway_that_leaves_its_pool_loses_all_labels_and_pods() -> None:
    world = fleet(1)
    world.behaviour = of_version(V2, PENDING)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    world.nodes["gw-0000"]["metadata"]["labels"] |= {"pool": "elsewhere", KEYS.failed: "by-whom"}
    world.run()
    assert not [key for key in world.nodes["gw-0000"]["metadata"]["labels"] if key in KEYS]
    assert world.kind("Pod") == []


def test_a_gateway_that_changes_pools_is_moved_like_any_other() -> None:
    world = World([node("a"), node("b", pool="other")], [pool(), pool("other", overrides={"env": [{"name": "X"}]})])
    world.run()
    world.nodes["a"]["metadata"]["labels"]["pool"] = "other"
    serving: list[int] = []
    world.run(watch=lambda: serving.append(len(world.serving())))
    assert min(serving) == 2
    assert assigned(world, "a").serves == assigned(world, "b").serves
    assert world.condition("Ready")["status"] == "True"


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("HashMismatch", "HashMismatch"), ("Odd reason!", "Oddreason"), ("", "NotReady"), ("R" * 80, "R" * 30)],
)
def test_a_note_is_a_label_value_and_is_read_back(reason: str, kept: str) -> None:
    value = assignment.failed_value("install", Failed("0123456789", 999_999, reason))
    assert len(value) <= 63
    mark = naming.install_mark("install") + "-"
    assert assignment.read({KEYS.failed: value}, KEYS, mark).failed == Failed("0123456789", 999_999, kept)


@pytest.mark.parametrize("value", ["", "nonsense", "{mark}0123456789", "{mark}0123456789.x.R", "{mark}0123456789.1."])
def test_a_note_that_cannot_be_read_is_none(value: str) -> None:
    mark = naming.install_mark("install") + "-"
    assert assignment.read({KEYS.failed: value.format(mark=mark)}, KEYS, mark) == assignment.NOTHING


def test_all_labels_are_swept_once_their_owner_is_gone() -> None:
    value = naming.node_label_value("install", "0123456789")
    there = {KEYS.serves: value, KEYS.next: value, KEYS.failed: f"{value}.1.HashMismatch"}
    nodes = [{"metadata": {"name": "a", "labels": there}}]
    assert {each.key for each in sweep.strays(nodes, [], [], "install")} == set(KEYS)
    assert sweep.strays(nodes, [{"metadata": {"uid": "uid-of-line"}}], [], "install") == set()


def test_a_previous_pod_that_does_not_end_holds_nobody_up_for_ever() -> None:
    world = fleet(2, maxUnavailable=1, progressDeadlineSeconds=600)
    world.edit(modelVersion=V2)
    old = {pod["spec"]["nodeName"]: pod for pod in world.kind("Pod")}
    for _ in range(2):
        world.step()
        world.play()
    (moved,) = [name for name in world.nodes if pods_on(world, name) == {V2}]
    stuck = old[moved]
    stuck["metadata"] |= {"deletionTimestamp": "2026-11-21T00:00:30Z", "name": "stuck"}
    stuck["metadata"]["owner"] = next(each["metadata"]["name"] for each in world.kind("DaemonSet"))
    world.children["Pod", "stuck"] = stuck
    world.step()
    assert "Draining" in world.status["message"]
    wait = world.plan().requeue_after
    assert wait is not None
    world.play(seconds=1000)
    world.step()
    assert [each["reason"] for each in world.status["failures"]] == ["Draining"]
    assert assigned(world, moved).failed is None, "the new version is not to blame"
    del world.children["Pod", "stuck"]
    world.run()
    assert Counter(world.serving().values()) == {V2: 2}


def test_a_flapping_gateway_holds_nobody_up_for_ever() -> None:
    world = fleet(2, maxUnavailable=1, progressDeadlineSeconds=600, recreateOrder="StopFirst")
    world.behaviour = of_version(V2, PENDING)  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    (bad,) = [name for name in world.nodes if pods_on(world, name) == {V2}]
    world.behaviour = lambda pod, name: PENDING if name == bad else healthy(pod, name)
    for _ in range(20):
        world.offline(bad)
        world.play(seconds=60)
        world.step()
        world.online(bad)
        world.play(seconds=60)
        world.step()
    assert Counter(world.serving().values()) == {V2: 1}, "the other one was moved"
    world.play(seconds=601)
    world.step()
    world.run()
    assert world.serving().get(bad) != V2


def test_what_is_rolled_back_is_taken_off_a_node_that_it_keeps_from_answering() -> None:
    world = fleet(3, maxUnavailable=1)
    world.edit(modelVersion=V2)
    for _ in range(2):
        world.step()
        world.play()
    (moved,) = [name for name in world.nodes if pods_on(world, name) == {V2}]
    world.offline(moved)
    world.edit(modelVersion=V1)
    world.run()
    assert pods_on(world, moved) == {V1}
    assert world.condition("Ready")["status"] == "True"


def test_a_gateway_that_goes_long_after_its_update_is_left_as_it_is_until_it_returns() -> None:
    world = fleet(2, progressDeadlineSeconds=600, waves=[{"name": "pilot", "nodes": 1}])
    world.edit(modelVersion=V2)
    for _ in range(3):
        world.step()
        world.play()
    moved = next(name for name in world.nodes if pods_on(world, name) == {V2})
    world.now = world.now.replace(hour=5)
    world.offline(moved)
    world.edit(modelVersion=V1)
    world.run()
    assert pods_on(world, moved) == {V2}
    world.online(moved)
    world.run()
    assert Counter(world.serving().values()) == {V1: 2}


def test_a_cut_that_takes_the_pilot_and_part_of_the_others_at_once_is_not_the_models_fault() -> None:
    world = fleet(
        20, maxUnavailable=1, progressDeadlineSeconds=600, waves=[{"name": "pilot", "nodes": 1, "soak": "1h"}]
    )
    world.edit(modelVersion=V2)
    for _ in range(3):
        world.step()
        world.play()
    (pilot,) = [name for name in world.nodes if pods_on(world, name) == {V2}]
    world.offline(pilot, *[name for name in world.nodes if name != pilot][:4])
    world.step()
    assert world.status["counts"]["suspect"] == 0
    world.play(seconds=700)
    world.run()
    assert world.status["counts"]["failed"] == 0
    world.online(*world.nodes)
    world.run()
    assert world.status["counts"]["failed"] == 0


HAPPENINGS = [
    "step",
    "step",
    "step",
    "play",
    "play",
    "spec",
    "away",
    "back",
    "bad",
    "good",
    "late",
    "join",
    "crash",
    "deny",
]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_happens_what_served_goes_on_serving(data: st.DataObject) -> None:
    """Versions that never come up, cuts, joiners, lost writes: with a prefetch no gateway is without a ready pod."""
    world = fleet(5, maxUnavailable=2, progressDeadlineSeconds=600)
    served: set[str] = set(world.nodes)

    def watch() -> None:
        ready = {
            each["spec"]["nodeName"]
            for each in world.kind("Pod")
            if each["status"]["conditions"][0]["status"] == "True"
        }
        away = {name for name, each in world.nodes.items() if each["status"]["conditions"][0]["status"] != "True"}
        assert served <= ready | away, "a gateway that served, and can be seen, serves"
        served.update(ready)

    for _ in range(data.draw(st.integers(1, 30))):
        event = data.draw(st.sampled_from(HAPPENINGS))
        if event == "step":
            world.step(writes=data.draw(st.sampled_from([None, 0, 1, 3])))
        elif event in ("play", "late"):
            world.play(seconds=700 if event == "late" else 1)
            watch()
        elif event == "spec":
            world.edit(modelVersion=data.draw(st.sampled_from([V1, V2, V3])))
        elif event == "away":
            world.offline(data.draw(st.sampled_from(sorted(world.nodes))))
        elif event == "back":
            world.online(data.draw(st.sampled_from(sorted(world.nodes))))
            world.play()
        elif event == "bad":
            refused = data.draw(st.sampled_from([V2, V3]))
            world.behaviour = refuse_where_it_is_new(world, refused)  # type: ignore[assignment]
        elif event == "good":
            world.behaviour = healthy
        elif event == "deny":
            world.refusing = {data.draw(st.sampled_from(sorted(world.nodes))): "no"}
        elif event == "join":
            world.nodes.setdefault("gw-new", node("gw-new"))
        elif event == "crash" and "status" in world.deployment:
            del world.deployment["status"]
    world.behaviour = healthy
    world.refusing.clear()
    world.online(*world.nodes)
    world.play(seconds=601)
    world.run(rounds=200, watch=watch)
    if world.status["counts"]["failed"] or world.status.get("abortedRevision"):
        known = world.status.get("candidate") or world.status["stable"]
        revision = world.status.get("abortedRevision") or known["revision"]
        world.command(retry=f"{revision}/{world.status['attempt']}")
        world.run(rounds=200, watch=watch)
    wanted = world.deployment["spec"]["modelVersion"]
    assert set(world.serving().values()) == {wanted}
    assert set(world.serving()) == set(world.nodes)
    assert not any(assigned(world, each).next for each in world.nodes)


def refuse_where_it_is_new(world: World, version: str) -> object:
    """This version does not come up, but where it is up already."""
    up = {pod["metadata"]["name"] for pod in world.kind("Pod") if pod["status"]["conditions"][0]["status"] == "True"}
    return lambda pod, name: (
        MISMATCH
        if version in pod["metadata"]["labels"].values() and pod["metadata"]["name"] not in up
        else healthy(pod, name)
    )
