"""The EdgeDeployment's plan, played out in a small world: rollouts, roll-backs, faults, and interruptions anywhere."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet.api import names
from modelfleet.api.edge_deployment_status import EdgeDeploymentStatus
from modelfleet.plan import naming
from tests.unit.edge_world import (
    Object,
    World,
    artifact,
    healthy,
    model_version,
    node,
    pod_status,
    pool,
    refusing,
)

V1, V2, V3 = "defect-1-0-0", "defect-2-0-0", "defect-3-0-0"
WAVES = [{"name": "pilot", "nodes": 1}, {"name": "half", "nodes": "50%"}, {"name": "all", "nodes": "100%"}]
MISMATCH = json.dumps({"file": "int8", "reason": "HashMismatch", "message": "the bytes are others"})


def gateways(count: int = 10, **fields: str) -> list[Object]:
    return [node(f"gw-{index:04}", **fields) for index in range(count)]


def fleet(count: int = 10, **spec: object) -> World:
    """A world on version 1, converged, with versions 2 and 3 verified."""
    world = World(gateways(count), **spec)
    world.add_model(model_version("2.0.0"))
    world.add_model(model_version("3.0.0"))
    world.run()
    assert world.condition("Ready")["status"] == "True"
    world.notes.clear()
    world.label_writes = 0
    return world


def reasons(world: World) -> list[str]:
    return [note.reason for note in world.notes]


def failing(version: str, status: Object) -> object:
    """Pods of this version get this status; all others come up."""
    return lambda pod, name: status if version in pod["metadata"]["labels"].values() else healthy(pod, name)


def test_a_first_rollout_reaches_every_node_and_then_writes_nothing() -> None:
    world = World(gateways(), strategy={"waves": WAVES})
    world.run()
    assert set(world.serving().values()) == {V1}
    assert len(world.serving()) == 10
    assert world.label_writes == 10
    assert reasons(world) == [
        "RolloutStarted",
        "WaveCompleted",
        "WaveCompleted",
        "RolloutCompleted",
    ]
    assert world.status["phase"] == "Healthy"
    assert "candidate" not in world.status
    assert "wave" not in world.status
    picture, outcome = world.picture(), world.step()
    assert world.picture() == picture
    assert outcome.requeue_after is None
    assert outcome.notes == []
    EdgeDeploymentStatus.model_validate(world.status)


def test_waves_are_cumulative_and_each_one_is_healthy_before_the_next() -> None:
    world = fleet(strategy={"waves": WAVES, "maxUnavailable": "100%"})
    world.edit(modelVersion=V2)
    seen: list[int] = []

    def watch() -> None:
        count = Counter(world.serving().values())[V2]
        if not seen or seen[-1] != count:
            seen.append(count)

    world.run(watch=watch)
    assert seen == [0, 1, 5, 10]


def test_max_unavailable_bounds_what_is_in_flight() -> None:
    world = fleet(20, strategy={"maxUnavailable": 3})
    world.edit(modelVersion=V2)
    least: list[int] = []
    world.run(watch=lambda: least.append(len(world.serving())))
    assert min(least) >= 17
    assert set(world.serving().values()) == {V2}


def test_a_refused_artifact_holds_the_rollout_and_the_rest_goes_on_serving() -> None:
    world = fleet(strategy={"onFailure": "Pause", "waves": WAVES})
    world.behaviour = failing(V2, refusing(MISMATCH))  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}
    assert world.condition("Stalled")["reason"] == "HashMismatch"
    assert "set spec.modelVersion back to defect-1-0-0" in world.condition("Stalled")["message"]
    assert world.status["phase"] == "Paused"
    assert world.condition("Paused")["reason"] == "FailureThresholdExceeded"
    assert world.status["stable"]["modelVersion"] == V1
    assert [each["reason"] for each in world.status["failures"]] == ["HashMismatch"]
    assert reasons(world).count("HashMismatch") == 2, "one of the deployment, one of the node"


def test_going_back_is_immediate_and_ignores_waves() -> None:
    world = fleet(strategy={"waves": WAVES, "maxUnavailable": 1})
    world.edit(modelVersion=V2)
    for _ in range(10):
        world.step()
        world.play()
    moved = Counter(world.serving().values())[V2]
    assert 3 < moved < 10
    world.edit(modelVersion=V1)
    outcome = world.step()
    assert len(outcome.label_nodes) == moved
    world.run()
    assert set(world.serving().values()) == {V1}
    assert reasons(world)[-1] == "RolledBack"
    assert world.condition("Ready")["status"] == "True"


def test_a_failed_node_recovers_when_the_spec_goes_back() -> None:
    world = fleet(strategy={"onFailure": "Pause", "waves": WAVES})
    world.behaviour = failing(V2, refusing(MISMATCH))  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    world.edit(modelVersion=V1)
    world.run()
    assert len(world.serving()) == 10
    assert world.condition("Ready")["status"] == "True"
    assert world.status["failures"] == []


def test_a_third_version_supersedes_the_second() -> None:
    world = fleet(strategy={"waves": WAVES, "maxUnavailable": "100%"})
    world.edit(modelVersion=V2)
    for _ in range(4):
        world.step()
        world.play()
    assert Counter(world.serving().values())[V2] >= 1
    world.edit(modelVersion=V3)
    world.run()
    assert Counter(world.serving().values()) == {V3: 10}
    assert world.status["stable"]["modelVersion"] == V3


def test_what_does_not_come_up_in_time_fails_and_names_its_reason() -> None:
    waiting = {"name": "serve", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    world = fleet(strategy={"onFailure": "Pause", "waves": WAVES, "progressDeadlineSeconds": 600})
    world.behaviour = failing(V2, pod_status("False", containerStatuses=[waiting]))  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    assert world.condition("Stalled")["status"] == "False"
    assert "ImagePullBackOff" in world.status["message"]
    wait = world.plan().requeue_after
    assert wait is not None
    assert wait <= 600.5
    world.play(seconds=wait)
    world.run()
    assert world.condition("Stalled")["reason"] == "FailureThresholdExceeded"
    assert world.status["failures"][0]["reason"] == "ImagePullBackOff"


def test_offline_nodes_block_nobody_and_catch_up_on_their_return() -> None:
    world = fleet(strategy={"waves": WAVES})
    world.offline("gw-0001", "gw-0002", ago=1000)
    world.edit(modelVersion=V2)
    world.run()
    assert world.status["stable"]["modelVersion"] == V2
    assert world.status["counts"]["pendingOffline"] == 2
    assert world.condition("Ready")["status"] == "True"
    assert len(world.kind("DaemonSet")) == 2, "what the offline nodes carry is kept for them"
    world.online("gw-0001", "gw-0002")
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}
    assert len(world.kind("DaemonSet")) == 1


def test_a_node_that_is_lost_right_after_its_update_is_suspect_and_then_failed() -> None:
    world = fleet(strategy={"onFailure": "Pause", "waves": WAVES, "progressDeadlineSeconds": 600})
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    (moved,) = [name for name in world.nodes if "gw" in name and world.serving().get(name) == V2]
    world.offline(moved)
    world.run()
    assert world.status["counts"]["suspect"] == 1
    assert world.status["phase"] == "Progressing"
    assert Counter(world.serving().values())[V2] == 0
    world.play(seconds=world.plan().requeue_after or 0)
    world.run()
    assert [each["reason"] for each in world.status["failures"]] == ["NodeLost"]
    assert world.condition("Stalled")["reason"] == "FailureThresholdExceeded"


def test_a_power_cut_is_not_the_models_fault() -> None:
    world = fleet(strategy={"waves": WAVES, "progressDeadlineSeconds": 600})
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    world.offline(*world.nodes)
    world.play(seconds=1000)
    world.run()
    assert world.status["counts"]["failed"] == 0
    world.online(*world.nodes)
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}


def test_joiners_start_on_stable_and_catch_up() -> None:
    world = fleet(strategy={"waves": WAVES})
    world.behaviour = failing(V2, pod_status("False"))  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    world.nodes["gw-new"] = node("gw-new")
    world.run()
    assert world.serving()["gw-new"] == V1
    world.behaviour = healthy
    world.run()
    assert Counter(world.serving().values()) == {V2: 11}


def test_paused_moves_nothing() -> None:
    world = fleet(strategy={"waves": WAVES})
    world.edit(modelVersion=V2, paused=True)
    world.run()
    assert world.label_writes == 0
    assert world.status["phase"] == "Paused"
    assert world.condition("Paused")["status"] == "True"
    world.edit(paused=False)
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda world: world.models.pop(V2), "ModelVersionNotFound"),
        (
            lambda world: world.models[V2]["status"].update(
                conditions=[{"type": "Verified", "status": "False", "reason": "HashMismatch", "message": "others"}]
            ),
            "ModelVersionNotVerified",
        ),
        (lambda world: world.models[V2]["spec"].update(deprecated=True), "ModelVersionDeprecated"),
        (lambda world: world.models[V2]["spec"].update(channel="experiment"), "ChannelTooLow"),
        (lambda world: world.edit(minimumChannel="candidate"), "ChannelTooLow"),
    ],
)
def test_a_model_version_that_may_not_be_rolled_out_leaves_stable_alone(change: object, reason: str) -> None:
    world = fleet()
    change(world)  # type: ignore[operator]
    world.edit(modelVersion=V2)
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}
    assert world.condition("Stalled")["reason"] == reason
    assert world.condition("Ready")["status"] == "False"
    assert reasons(world) == [reason]
    world.edit(modelVersion=V1)
    world.run()
    assert world.condition("Ready")["status"] == "True"


def test_a_version_of_the_least_channel_is_rolled_out() -> None:
    world = fleet()
    world.models[V2]["spec"]["channel"] = "production"
    world.edit(modelVersion=V2, minimumChannel="preproduction")
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}


def test_raising_minimum_channel_leaves_what_serves_alone() -> None:
    world = fleet()
    moved = world.label_writes
    world.edit(minimumChannel="production")
    world.run()
    assert world.label_writes == moved
    assert Counter(world.serving().values()) == {V1: 10}
    assert world.condition("Ready")["status"] == "True"


def test_raising_minimum_channel_holds_a_rollout_under_way() -> None:
    world = fleet()
    world.edit(modelVersion=V2)
    world.step()
    moved = world.label_writes
    world.edit(minimumChannel="production")
    world.run()
    assert world.label_writes == moved
    assert world.condition("Stalled")["reason"] == "ChannelTooLow"


def test_a_verification_under_way_is_waited_for() -> None:
    world = fleet()
    world.models[V2] = model_version("2.0.0", verified=False)
    world.edit(modelVersion=V2)
    world.run()
    assert world.condition("Stalled")["status"] == "False"
    assert world.condition("Reconciling")["reason"] == "ModelVersionNotVerified"
    world.models[V2] = model_version("2.0.0")
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}


def test_a_deleted_model_version_does_not_unsettle_what_serves_it() -> None:
    world = fleet()
    world.models.clear()
    picture = world.picture()
    world.step()
    assert world.picture() == picture


def test_a_new_chart_rolls_nothing() -> None:
    world = fleet()
    object.__setattr__(world.installation, "runtime_image", "modelfleet/runtime:2")
    picture = world.picture()
    world.step()
    assert world.picture() == picture


def test_a_new_pool_restarts_nothing_else() -> None:
    world = fleet()
    world.nodes["n-0"] = node("n-0", pool="new")
    before = {each["metadata"]["name"] for each in world.kind("Pod")}
    revision = world.status["stable"]["revision"]
    world.edit(pools=[pool(), pool("new")])
    world.run()
    assert before < {each["metadata"]["name"] for each in world.kind("Pod")}
    assert world.status["stable"]["revision"] == revision
    assert world.serving()["n-0"] == V1


def test_overrides_of_one_pool_restart_that_pool_only() -> None:
    world = World([*gateways(3), node("n-0", pool="new")], [pool(), pool("new")])
    world.run()
    before = {each["metadata"]["name"] for each in world.kind("Pod")}
    first = world.status["stable"]["revision"]
    world.edit(pools=[pool(), pool("new", overrides={"env": [{"name": "A", "value": "b"}]})])
    world.run()
    kept = before & {each["metadata"]["name"] for each in world.kind("Pod")}
    assert len(kept) == 3
    labels = [each["metadata"]["labels"]["modelfleet.dev/revision"] for each in world.kind("Pod")]
    assert sorted(labels, key=labels.count) == [world.status["stable"]["revision"]] + 3 * [first]
    assert world.condition("Ready")["status"] == "True"


def test_a_node_that_leaves_its_pool_loses_the_label_and_the_pod() -> None:
    world = fleet()
    world.nodes["gw-0000"]["metadata"]["labels"]["pool"] = "elsewhere"
    world.run()
    assert "gw-0000" not in world.serving()
    assert naming.node_label_key("uid-of-line") not in world.nodes["gw-0000"]["metadata"]["labels"]


def test_children_deleted_by_hand_come_back_the_same() -> None:
    world = World([*gateways(3), node("lab-0", pool="lab")], [pool(), pool("lab", placement="Replicas")])
    world.run()
    picture = world.picture()
    for kind in ("DaemonSet", "Deployment", "Service", "ControllerRevision"):
        for each in world.kind(kind):
            del world.children[kind, each["metadata"]["name"]]
    world.step()
    assert world.picture()["children"].keys() == picture["children"].keys()


def test_a_mixed_pool_gets_an_artifact_for_each_class_and_says_who_has_none() -> None:
    nodes = [
        node("a", arch="arm64"),
        node("b", arch="amd64", memory="64Gi"),
        node("c", arch="riscv64"),
    ]
    world = World(nodes)
    builds = [artifact("int8", platforms=["linux/arm64"]), artifact("fp32", platforms=["linux/amd64"])]
    world.add_model(model_version(artifacts=builds))
    world.run()
    assert world.status["pools"][0]["artifacts"] == {"fp32": 1, "int8": 1}
    assert world.status["counts"]["noArtifact"] == 1
    assert set(world.serving()) == {"a", "b"}
    assert world.condition("Stalled")["reason"] == "NoArtifact"
    assert "node c: int8 is for linux/arm64" in world.condition("Stalled")["message"]
    assert "NoArtifact" in reasons(world)


def test_a_class_is_latched_until_the_next_rollout() -> None:
    world = World(gateways(1, memory="64Gi"))
    world.add_model(model_version(artifacts=[artifact("int8"), artifact("fp32")]))
    world.add_model(model_version("2.0.0", artifacts=[artifact("int8"), artifact("fp32")]))
    world.run()
    world.nodes["gw-0000"]["status"]["allocatable"]["memory"] = "8Gi"
    picture = world.picture()
    world.step()
    assert world.picture() == picture
    world.edit(modelVersion=V2)
    world.run()
    assert world.status["pools"][0]["artifacts"] == {"int8": 1}


def test_an_empty_pool_is_told_of_and_blocks_nobody() -> None:
    world = World(gateways(), [pool("typo"), pool()])
    world.run()
    assert len(world.serving()) == 10
    assert world.condition("Ready")["status"] == "True"
    assert "pool typo matches no node: label nodes with pool=typo" in world.status["pools"][0]["message"]
    assert reasons(world).count("EmptyPool") == 1


def test_a_deployment_of_empty_pools_only_is_not_ready() -> None:
    world = World([], [pool("typo")])
    world.run()
    assert world.condition("Stalled")["reason"] == "EmptyPool"
    assert world.status["phase"] == "Pending"
    world.nodes["t"] = node("t", pool="typo")
    world.run()
    assert world.condition("Ready")["status"] == "True"


def test_taints_that_nothing_tolerates_are_named_before_a_node_is_moved() -> None:
    nodes = gateways(3)
    for each in nodes:
        each["spec"]["taints"] = [{"key": "edge", "value": "yes", "effect": "NoSchedule"}]
    world = World(nodes)
    world.run()
    assert world.label_writes == 0
    assert world.condition("Stalled")["reason"] == "UntoleratedTaint"
    assert "gw-0000 has taint edge=yes:NoSchedule" in world.condition("Stalled")["message"]
    world.edit(pools=[pool(tolerations=[{"key": "edge", "operator": "Exists"}])])
    world.run()
    assert len(world.serving()) == 3


def test_replicas_move_make_before_break_and_failures_take_none_away() -> None:
    lab = [pool("lab", placement="Replicas", replicas=4)]
    world = World([node("lab-0", pool="lab")], lab, strategy={"onFailure": "Pause"})
    world.add_model(model_version("2.0.0"))
    world.run()
    assert world.replicas() == {V1: 4}
    world.behaviour = failing(V2, refusing(MISMATCH))  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    assert world.replicas() == {V1: 4, V2: 1}
    assert world.condition("Stalled")["reason"] == "HashMismatch"
    world.behaviour = healthy
    ready: list[int] = []
    world.run(watch=lambda: ready.append(sum(each["status"]["availableReplicas"] for each in world.kind("Deployment"))))
    assert min(ready) >= 4
    assert world.replicas() == {V2: 4}
    assert world.kind("Service")[0]["spec"]["ports"] == [
        {"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}
    ]


def test_ready_is_said_when_no_replica_of_the_previous_version_serves_any_more() -> None:
    world = World([node("lab-0", pool="lab")], [pool("lab", placement="Replicas", replicas=2)])
    world.add_model(model_version("2.0.0"))
    world.run()
    world.edit(modelVersion=V2)
    said: list[tuple[str, set[str]]] = []
    world.run(watch=lambda: said.append((world.condition("Ready")["status"], set(versions_of_pods(world)))))
    assert ("True", {V2}) in said
    assert all(V1 not in versions for ready, versions in said if ready == "True")


def versions_of_pods(world: World) -> list[str]:
    return [pod["metadata"]["labels"][names.MODEL_VERSION_LABEL] for pod in world.kind("Pod")]


def test_replicas_go_back_make_before_break_too() -> None:
    world = World([node("lab-0", pool="lab")], [pool("lab", placement="Replicas", replicas=4)])
    world.add_model(model_version("2.0.0"))
    world.run()
    world.edit(modelVersion=V2)
    for _ in range(3):
        world.step()
        world.play()
    assert 1 < world.replicas()[V2] < 4
    world.edit(modelVersion=V1)
    ready: list[int] = []
    world.run(watch=lambda: ready.append(sum(each["status"]["availableReplicas"] for each in world.kind("Deployment"))))
    assert min(ready) >= 4
    assert world.replicas() == {V1: 4}
    assert reasons(world)[-1] == "RolledBack"


def test_the_number_of_replicas_may_change_at_any_time() -> None:
    world = World([node("lab-0", pool="lab")], [pool("lab", placement="Replicas", replicas=2)])
    world.run()
    for count in (5, 1, 0, 3):
        world.edit(pools=[pool("lab", placement="Replicas", replicas=count)])
        world.run()
        assert world.replicas().get(V1, 0) == count
        assert world.condition("Ready")["status"] == "True"


def test_a_lost_status_is_rebuilt_from_the_fleet() -> None:
    world = fleet(strategy={"onFailure": "Pause", "waves": WAVES})
    stable = world.status["stable"]
    world.behaviour = failing(V2, refusing(MISMATCH))  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    del world.deployment["status"]
    world.run()
    assert world.status["stable"] == stable
    assert Counter(world.serving().values()) == {V1: 10}


def test_old_revisions_are_kept_up_to_the_limit_and_never_one_in_use() -> None:
    world = fleet(revisionHistoryLimit=2)
    world.offline("gw-0003", ago=1000)
    for version in range(4, 9):
        world.add_model(model_version(f"{version}.0.0"))
        world.edit(modelVersion=f"defect-{version}-0-0")
        world.run()
    kept = {each["data"]["modelVersion"] for each in world.kind("ControllerRevision")}
    assert kept - {"defect-6-0-0", "defect-7-0-0"} == {V1, "defect-8-0-0"}, "the offline node still carries version 1"
    assert len(kept) == 4, "two old ones, beside what is in use"


def test_a_status_stays_small_at_ten_thousand_gateways() -> None:
    world = World(gateways(10_000), strategy={"maxUnavailable": "100%"})
    world.behaviour = failing(V1, refusing(MISMATCH))  # type: ignore[assignment]
    world.step()
    world.play()
    world.step()
    assert len(json.dumps(world.status)) < 32 * 1024
    assert len(world.status["failures"]) <= 10


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_interrupted_anywhere_it_converges_to_the_same(data: st.DataObject) -> None:
    """Any number of an outcome's writes may be lost, at any time, with specs and nodes that change meanwhile."""
    world = World(
        [*gateways(6), node("lab-0", pool="lab")],
        [pool(), pool("lab", placement="Replicas", replicas=2)],
        strategy={"waves": WAVES, "maxUnavailable": 2},
    )
    world.add_model(model_version("2.0.0"))
    for _ in range(data.draw(st.integers(1, 25))):
        event = data.draw(st.sampled_from(["step", "step", "step", "play", "play", "spec", "away", "back", "lost"]))
        if event == "step":
            world.step(writes=data.draw(st.integers(0, 8)))
        elif event == "play":
            world.play()
        elif event == "spec":
            world.edit(modelVersion=data.draw(st.sampled_from([V1, V2])))
        elif event == "away":
            world.offline(data.draw(st.sampled_from(sorted(world.nodes))))
        elif event == "back":
            world.online(data.draw(st.sampled_from(sorted(world.nodes))))
        elif "status" in world.deployment:
            del world.deployment["status"]
    world.online(*world.nodes)
    world.run(rounds=200)
    wanted = world.deployment["spec"]["modelVersion"]
    assert Counter(world.serving().values()) == {wanted: 7}
    assert world.replicas() == {wanted: 2}
    assert world.condition("Ready")["status"] == "True"
    assert len(world.kind("DaemonSet")) == 1


def test_a_pod_of_a_predecessor_by_the_same_name_counts_for_nothing() -> None:
    world = World(gateways(1))
    world.run()
    (pod,) = world.kind("Pod")
    world.deployment["metadata"]["creationTimestamp"] = "2026-01-01T00:00:10Z"
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:09Z"
    world.step()
    assert world.status["counts"]["healthy"] == 0


def test_the_largest_status_stays_small() -> None:
    """A hundred pools that no artifact fits, with names as long as they may be, and ten failures."""
    pools = [pool(f"{index:03}-{'p' * 26}") for index in range(100)]
    nodes = [node(f"{index:03}-{'n' * 240}", pool=each["name"]) for index, each in enumerate(pools)]
    for index, each in enumerate(pools):
        each["nodeSelector"] = {"pool": each["name"]}
        if index >= 20:
            each["artifact"] = "a" * 30
    world = World(nodes, pools)
    refused = refusing(MISMATCH.replace("the bytes are others", "x" * 2000))
    world.behaviour = lambda _pod, _node: refused
    for _ in range(5):
        world.step()
        world.play()
    assert any(each.get("message") for each in world.status["pools"])
    assert len(json.dumps(world.status)) < 32 * 1024
    EdgeDeploymentStatus.model_validate(world.status)
