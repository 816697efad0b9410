"""Who may stop a rollout, let it pass, and send it back: soak, approval, commands and the failure threshold."""

import json
import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet.api.edge_deployment_status import EdgeDeploymentStatus
from modelfleet.plan import conditions
from tests.unit.edge_world import World, healthy, model_version, node, pod_status, pool, refusing
from tests.unit.test_edge_deployment import MISMATCH, V1, V2, V3, WAVES, failing, fleet, gateways, reasons

PILOT = [{"name": "pilot", "nodes": 1, "soak": "10m", "approval": "Manual"}, {"name": "all"}]


def converged(count: int = 10, **strategy: Any) -> World:
    """A world on version 1 that got this strategy afterwards: the first rollout waits for nobody."""
    world = fleet(count)
    world.edit(strategy=strategy)
    world.run()
    world.notes.clear()
    return world


def revision(world: World) -> str:
    return str(world.status["candidate"]["revision"])


def bad(version: str = V2) -> object:
    return failing(version, refusing(MISMATCH))


def fast_forward(world: World) -> None:
    """Let the time pass that the plan asks for, and go on."""
    world.play(seconds=world.plan().requeue_after or 0)
    world.run()


def test_a_pilot_soaks_and_then_waits_for_approval() -> None:
    world = converged(waves=PILOT)
    world.edit(modelVersion=V2)
    world.run()
    assert Counter(world.serving().values()) == {V1: 9, V2: 1}
    assert (world.status["phase"], world.condition("Ready")["reason"]) == ("Progressing", "Soaking")
    assert world.status["soakStartedAt"] >= world.status["waveStartedAt"]
    fast_forward(world)
    assert (world.status["phase"], world.condition("Paused")["reason"]) == ("Paused", "AwaitingApproval")
    command = f"modelfleet.dev/promote={revision(world)}/1/pilot"
    assert f"kubectl annotate -n vision ed line --overwrite {command}" in world.status["message"]
    assert reasons(world).count("AwaitingApproval") == 1
    picture, outcome = world.picture(), world.step()
    assert (world.picture(), outcome.requeue_after) == (picture, None), "waiting costs nothing"
    EdgeDeploymentStatus.model_validate(world.status)
    promote = f"{revision(world)}/1/pilot"
    world.command(promote=promote)
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}
    assert world.status["lastCommand"] == f"promote {promote}"
    assert world.status["phase"] == "Healthy"


def test_a_promotion_is_remembered_when_the_annotation_goes() -> None:
    world = converged(waves=PILOT)
    world.edit(modelVersion=V2)
    world.step()
    world.command(promote=f"{revision(world)}/1/pilot")
    world.step()
    world.command(promote=None)
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}


@pytest.mark.parametrize("left", [True, False], ids=["the annotation is still there", "it was taken away"])
def test_a_promotion_lets_no_later_rollout_of_the_same_revision_pass(left: bool) -> None:
    world = converged(waves=PILOT)
    world.edit(modelVersion=V2)
    world.step()
    promote = f"{revision(world)}/1/full"
    world.command(promote=promote)
    world.run()
    world.command(promote=promote if left else None)
    world.edit(modelVersion=V1, strategy={})
    world.run()
    assert world.status["stable"]["modelVersion"] == V1
    world.edit(modelVersion=V2, strategy={"waves": PILOT})
    world.run()
    assert Counter(world.serving().values()) == {V1: 9, V2: 1}
    assert world.condition("Ready")["reason"] == "Soaking"
    world.command(promote=f"{revision(world)}/{world.status['attempt']}/full")
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}


def test_a_promotion_of_another_wave_lets_nothing_pass() -> None:
    world = converged(waves=PILOT)
    world.edit(modelVersion=V2)
    world.step()
    world.command(promote=f"{revision(world)}/1/all")
    world.run()
    assert Counter(world.serving().values()) == {V1: 9, V2: 1}


def test_a_command_that_cannot_be_read_is_told_once_and_stops_nothing() -> None:
    world = converged(waves=WAVES)
    world.edit(modelVersion=V2)
    world.command(promote="go", pause="now")
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}
    assert reasons(world).count("CommandRefused") == 1
    assert "annotation modelfleet.dev/" in world.status["refusedCommand"]
    world.command(promote=None, pause=None)
    world.run()
    assert "refusedCommand" not in world.status


def test_a_paused_rollout_moves_nothing_and_goes_on_when_the_annotation_goes() -> None:
    world = converged(waves=WAVES)
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    world.command(pause=f"{revision(world)}/1")
    world.run()
    assert Counter(world.serving().values())[V2] == 1
    assert world.status["phase"] == "Paused"
    assert "ed line modelfleet.dev/pause-" in world.status["message"]
    world.edit(modelVersion=V3)
    world.run()
    assert Counter(world.serving().values()) == {V3: 10}, "the pause was another revision's"


def test_an_aborted_rollout_goes_back_and_is_not_started_again_without_retry() -> None:
    world = converged(waves=WAVES, maxUnavailable=1, recreateOrder="StopFirst")
    world.edit(modelVersion=V2)
    for _ in range(6):
        world.step()
        world.play()
    assert 3 < Counter(world.serving().values())[V2] < 10
    bad_one = revision(world)
    world.command(abort=f"{bad_one}/1")
    first = world.step()
    assert (first.label_nodes, first.apply, world.status["abortedRevision"]) == ([], [], bad_one), "latched first"
    world.command(abort=None)
    second = world.step()
    assert len(second.label_nodes) > 3, "all at once, whatever maxUnavailable says"
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}
    assert world.status["phase"] == "RolledBack"
    assert world.condition("Stalled")["reason"] == "Aborted"
    assert f"modelfleet.dev/retry={bad_one}/1" in world.status["message"]
    assert {"RolloutAborted", "CommandObeyed", "RolledBack"} <= set(reasons(world))
    world.edit(revisionHistoryLimit=7)
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}
    world.command(retry=f"{bad_one}/1", abort=f"{bad_one}/1")
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}
    assert world.status["attempt"] == 2
    assert "abortedRevision" not in world.status
    EdgeDeploymentStatus.model_validate(world.status)


def test_with_the_spec_undone_an_aborted_rollout_is_over_and_healthy() -> None:
    world = converged(waves=WAVES)
    world.behaviour = bad()  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    world.edit(modelVersion=V1)
    world.run()
    assert world.status["phase"] == "Healthy"
    world.behaviour = healthy
    world.edit(modelVersion=V2)
    world.run()
    assert world.status["phase"] == "RolledBack", "asking again for the same revision is no retry"
    assert "the bytes are others" in world.status["message"]
    world.edit(modelVersion=V3)
    world.run()
    assert Counter(world.serving().values()) == {V3: 10}
    world.edit(modelVersion=V2)
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}, "after another revision it is a new rollout"
    assert world.status["attempt"] == 1


def test_a_failed_pilot_is_rolled_back_and_says_why() -> None:
    world = converged(waves=WAVES)
    world.behaviour = bad()  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}
    assert world.label_writes == 2
    assert world.status["phase"] == "RolledBack"
    assert world.condition("Stalled")["reason"] == "HashMismatch"
    assert "rolled back to defect-1-0-0: wave pilot: 1 of 1 tried failed" in world.status["message"]
    assert world.condition("Progressing")["reason"] == "HashMismatch"
    assert {"HashMismatch", "RolloutAborted", "RolledBack"} <= set(reasons(world))
    picture, outcome = world.picture(), world.step()
    assert (world.picture(), outcome.notes) == (picture, [])


def test_a_failure_is_remembered_before_anything_goes_back() -> None:
    world = converged(20, maxUnavailable=5)
    status = refusing(MISMATCH)
    world.behaviour = lambda pod, name: (
        status if V2 in pod["metadata"]["labels"].values() and name[-1] == "7" else healthy(pod, name)
    )
    world.edit(modelVersion=V2)
    world.run(rounds=3)
    moved = Counter(world.serving().values())[V2]
    while "abortedRevision" not in world.status:
        moved = Counter(world.serving().values())[V2]
        outcome = world.step()
        world.play()
    assert (outcome.label_nodes, outcome.apply, outcome.requeue_after) == ([], [], 0.0)
    assert moved > 0
    for writes in range(12):
        world.step(writes=writes)
        world.play()
    world.run()
    assert Counter(world.serving().values()) == {V1: 20}
    assert world.status["phase"] == "RolledBack"


def test_a_retry_that_meets_the_failure_begins_the_attempt_that_then_fails() -> None:
    world = World([node("lab-0", pool="lab")], [pool("lab", placement="Replicas", replicas=4)])
    world.add_model(model_version("2.0.0"))
    world.run()
    world.behaviour = bad()  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    world.command(retry=f"{revision(world)}/1")
    world.step()
    assert (world.status["attempt"], world.status.get("abortedRevision")) == (2, None)
    world.run()
    assert (world.status["attempt"], world.status["phase"]) == (2, "RolledBack")


def flapping(world: World, up: int = 20, down: int = 280) -> Any:
    """Version 2 comes up, dies after ``up`` seconds, and is started again ``down`` seconds later, for ever."""

    def behaviour(pod: Any, name: str) -> Any:
        if V2 not in pod["metadata"]["labels"].values():
            return healthy(pod, name)
        born = conditions.parse_timestamp(pod["metadata"]["creationTimestamp"])
        deaths, into = divmod(int((world.now - born).total_seconds()), up + down)
        began, ready = world.now - timedelta(seconds=into), into < up
        died = began + timedelta(seconds=up) if not ready else began - timedelta(seconds=down)
        deaths += not ready
        status = pod_status(str(ready))
        turned = began if ready else died
        status["conditions"][0]["lastTransitionTime"] = conditions.timestamp(turned)
        serve = status["containerStatuses"][0]
        serve["restartCount"] = max(0, deaths - (not ready))
        serve["state"] = (
            {"running": {"startedAt": conditions.timestamp(began)}}
            if ready
            else {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
        )
        if deaths:
            run = {
                "startedAt": conditions.timestamp(died - timedelta(seconds=up)),
                "finishedAt": conditions.timestamp(died),
            }
            serve["lastState"] = {"terminated": {"exitCode": 139, "reason": "Error", "message": "boom", **run}}
        return status

    return behaviour


@pytest.mark.parametrize("order", ["PrefetchFirst", "StopFirst"])
def test_a_version_that_comes_up_and_dies_again_and_again_is_rolled_back(order: str) -> None:
    world = converged(
        waves=[{"name": "pilot", "nodes": 1, "soak": "30m"}, {"name": "all"}],
        recreateOrder=order,
        progressDeadlineSeconds=1200,
    )
    world.behaviour = flapping(world)
    world.edit(modelVersion=V2)
    moved = set()
    for _ in range(400):
        world.step()
        world.play(seconds=10)
        moved |= {each["spec"]["nodeName"] for each in world.kind("Pod") if V2 in each["metadata"]["labels"].values()}
        if world.status["phase"] == "RolledBack":
            break
    assert world.status["phase"] == "RolledBack", world.status["message"]
    assert len(moved) == 1, "it never looked well for long enough to go on to others"
    assert "boom" in world.status["message"]
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}


def test_failures_within_the_threshold_are_left_out_and_stay_counted() -> None:
    broken = {f"gw-{index:04}" for index in (3, 50)}
    status = pod_status("False", initContainerStatuses=refusing(MISMATCH)["initContainerStatuses"])
    world = converged(100, waves=WAVES, failureThreshold={"percentage": 10, "minSamples": 5})
    world.behaviour = lambda pod, name: (
        status if V2 in pod["metadata"]["labels"].values() and name in broken else healthy(pod, name)
    )
    world.edit(modelVersion=V2)
    world.run(rounds=200)
    assert Counter(world.serving().values()) == {V2: 98, V1: 2}
    assert world.status["stable"]["modelVersion"] == V2
    assert world.status["counts"]["failed"] == 2
    assert world.status["phase"] == "Degraded"
    assert "RolloutAborted" not in reasons(world)


def test_beyond_the_threshold_the_whole_fleet_goes_back() -> None:
    status = refusing(MISMATCH)
    world = converged(100, failureThreshold={"percentage": 10, "minSamples": 10})
    world.behaviour = lambda pod, name: (
        status if V2 in pod["metadata"]["labels"].values() and int(name[-1]) < 3 else healthy(pod, name)
    )
    world.edit(modelVersion=V2)
    world.run(rounds=200)
    assert Counter(world.serving().values()) == {V1: 100}
    assert world.status["phase"] == "RolledBack"
    assert world.label_writes < 2 * 30


@pytest.mark.parametrize("on_failure", ["Rollback", "Pause"])
def test_a_first_rollout_that_fails_is_paused_as_there_is_nothing_to_go_back_to(on_failure: str) -> None:
    world = World(gateways(), strategy={"waves": WAVES, "onFailure": on_failure})
    world.behaviour = lambda _pod, _node: pod_status("False", phase="Failed")
    world.run()
    fast_forward(world)
    assert (world.status["phase"], world.condition("Paused")["reason"]) == ("Paused", "NoStableRevision")
    assert world.condition("Stalled")["reason"] == "NoStableRevision"
    assert world.label_writes == 1
    world.behaviour = healthy
    world.run()
    assert world.status["phase"] == "Healthy"


def test_a_first_rollout_that_is_aborted_stays_where_it_is_until_retry() -> None:
    world = World(gateways(), strategy={"waves": PILOT})
    world.run()
    world.command(abort=f"{revision(world)}/1")
    world.run()
    assert (world.status["phase"], world.condition("Paused")["reason"]) == ("Paused", "NoStableRevision")
    assert len(world.serving()) == 1
    world.command(retry=f"{revision(world)}/1", promote=f"{revision(world)}/2/full")
    world.run()
    assert len(world.serving()) == 10


def test_a_gateway_that_slept_through_the_roll_back_goes_back_at_once() -> None:
    world = converged(20, maxUnavailable=1)
    world.edit(modelVersion=V2)
    for _ in range(8):
        world.step()
        world.play()
    moved = [name for name, version in world.serving().items() if version == V2]
    world.offline(*moved, ago=10_000)
    world.command(abort=f"{revision(world)}/1")
    world.run()
    assert world.status["phase"] == "RolledBack"
    world.online(*moved)
    assert len(world.step().label_nodes) == len(moved) > 3
    world.run()
    assert Counter(world.serving().values()) == {V1: 20}


def test_superseding_takes_no_more_from_the_fleet_than_may_be_unavailable() -> None:
    world = converged(20, maxUnavailable=3, recreateOrder="StopFirst")
    world.behaviour = failing(V2, pod_status("False"))  # type: ignore[assignment]
    world.edit(modelVersion=V2)
    world.run()
    assert len(world.serving()) == 17
    world.edit(modelVersion=V3)
    down = {name for name in world.nodes if name not in world.serving()}
    assert {label.node for label in world.step().label_nodes} == down
    least: list[int] = []
    world.run(watch=lambda: least.append(len(world.serving())))
    assert min(least) >= 17
    assert Counter(world.serving().values()) == {V3: 20}


def test_a_status_lost_during_the_soak_begins_the_soak_anew_and_skips_no_approval() -> None:
    world = converged(waves=PILOT)
    world.edit(modelVersion=V2)
    world.run()
    del world.deployment["status"]
    world.run()
    assert world.condition("Ready")["reason"] == "Soaking"
    assert world.status["stable"]["modelVersion"] == V1
    fast_forward(world)
    assert world.condition("Paused")["reason"] == "AwaitingApproval"
    assert Counter(world.serving().values()) == {V1: 9, V2: 1}


def test_a_soak_is_not_begun_anew_by_a_reboot() -> None:
    world = converged(waves=PILOT)
    world.edit(modelVersion=V2)
    world.run()
    began = world.status["soakStartedAt"]
    (pilot,) = [name for name, version in world.serving().items() if version == V2]
    world.behaviour = lambda pod, name: pod_status("False") if name == pilot else healthy(pod, name)
    world.play(seconds=700)
    world.run()
    assert world.condition("Ready")["reason"] == "RollingOut"
    world.behaviour = healthy
    world.run()
    assert world.status["soakStartedAt"] == began
    assert world.condition("Paused")["reason"] == "AwaitingApproval"


EVENTS = ["step", "step", "step", "play", "play", "spec", "away", "back", "lost", "time", "bad", "good", "command"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_happens_it_comes_to_the_same_end(data: st.DataObject) -> None:
    """Edits, failures, absences, commands and crashes in any order: in the end the fleet is where the spec says."""
    world = World(
        [*gateways(8), node("lab-0", pool="lab")],
        [pool(), pool("lab", placement="Replicas", replicas=2)],
        strategy={"waves": PILOT, "maxUnavailable": 2},
    )
    for version in ("2.0.0", "3.0.0"):
        world.add_model(model_version(version))
    for _ in range(data.draw(st.integers(1, 30))):
        event = data.draw(st.sampled_from(EVENTS))
        if event == "step":
            world.step(writes=data.draw(st.integers(0, 8)))
        elif event == "play":
            world.play()
        elif event == "time":
            world.play(seconds=700)
        elif event == "spec":
            world.edit(modelVersion=data.draw(st.sampled_from([V1, V2, V3])))
        elif event == "away":
            world.offline(data.draw(st.sampled_from(sorted(world.nodes))))
        elif event == "back":
            world.online(data.draw(st.sampled_from(sorted(world.nodes))))
        elif event == "bad":
            world.behaviour = failing(data.draw(st.sampled_from([V2, V3])), refusing(MISMATCH))  # type: ignore[assignment]
        elif event == "good":
            world.behaviour = healthy
        elif event == "command" and "candidate" in world.deployment.get("status", {}):
            verb = data.draw(st.sampled_from(["promote", "abort", "pause", "retry"]))
            scope = "/pilot" if verb == "promote" else ""
            world.command(**{verb: f"{revision(world)}/{world.status['attempt']}{scope}"})
        elif "status" in world.deployment:
            del world.deployment["status"]
    world.behaviour = healthy
    world.online(*world.nodes)
    world.command(promote=None, abort=None, pause=None, retry=None)
    world.run(rounds=200)
    wanted = world.deployment["spec"]["modelVersion"]
    if world.status.get("abortedRevision") and world.status["phase"] in ("RolledBack", "Paused"):
        world.command(retry=f"{world.status['abortedRevision']}/{world.status['attempt']}")
        world.run(rounds=200)
        world.command(retry=None)
    for _ in range(3):
        if world.status["counts"]["failed"] and "candidate" in world.status:
            world.command(retry=f"{revision(world)}/{world.status['attempt']}")
            world.run(rounds=200)
            world.command(retry=None)
        if "candidate" in world.status:
            world.command(promote=f"{revision(world)}/{world.status['attempt']}/full")
            world.run(rounds=200)
    assert Counter(world.serving().values()) == {wanted: 9}
    assert world.replicas() == {wanted: 2}
    assert world.condition("Ready")["status"] == "True"
    assert len(world.kind("DaemonSet")) == 1
    assert len(json.dumps(world.status)) < 32 * 1024
    EdgeDeploymentStatus.model_validate(world.status)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_more_are_down_than_may_be_whatever_is_superseded(data: st.DataObject) -> None:
    """Specs that change in mid-rollout, and pods that come up late: never more than maxUnavailable are down."""
    limit = data.draw(st.integers(1, 4))
    world = converged(12, waves=WAVES, maxUnavailable=limit)
    stuck: set[str] = set()
    world.behaviour = lambda pod, name: pod_status("False") if name in stuck else healthy(pod, name)
    least = len(world.serving())
    for _ in range(data.draw(st.integers(5, 40))):
        event = data.draw(st.sampled_from(["step", "play", "spec", "slow", "quick"]))
        if event == "step":
            world.step(writes=data.draw(st.integers(0, 8)))
        elif event == "play":
            world.play()
        elif event == "slow":
            serving = set(world.serving())
            stuck = {name for name in world.nodes if name not in serving}
        elif event == "quick":
            stuck = set()
        else:
            # Forward only: going back is at once, by intent.
            versions = [V1, V2, V3]
            at = versions.index(world.deployment["spec"]["modelVersion"])
            world.edit(modelVersion=versions[min(2, at + 1)])
        least = min(least, len(world.serving()))
    assert least >= 12 - limit


def test_the_soak_is_as_long_as_it_says() -> None:
    world = converged(waves=PILOT)
    world.edit(modelVersion=V2)
    world.run()
    wait = world.plan().requeue_after
    assert wait is not None
    ends = conditions.parse_timestamp(world.status["soakStartedAt"]) + timedelta(minutes=10)
    assert world.now + timedelta(seconds=wait) >= ends


def test_the_command_that_approves_is_told_whole_whatever_the_names() -> None:
    wave = "w" * 30
    world = World(gateways(2), strategy={"waves": [{"name": wave, "nodes": 1, "approval": "Manual"}]})
    world.deployment["metadata"] |= {"name": "n" * 40, "namespace": "s" * 63}
    world.run()
    assert world.status["message"].split("; ")[0].endswith(f"modelfleet.dev/promote={revision(world)}/1/{wave}")


def test_waves_that_passed_stay_passed_while_the_model_version_is_verified_anew() -> None:
    world = converged(waves=[{"name": "all", "soak": "10m"}])
    world.edit(modelVersion=V2)
    world.run()
    world.models[V2] = model_version("2.0.0", verified=False)
    world.play(seconds=700)
    world.run()
    assert world.status["stable"]["modelVersion"] == V1
    picture = world.picture()
    world.now += timedelta(hours=1)
    world.step()
    assert world.picture() == picture
    world.models[V2] = model_version("2.0.0")
    world.run()
    assert world.status["phase"] == "Healthy"


@settings(max_examples=25, deadline=None)
@given(
    broken=st.sets(st.integers(0, 39), max_size=20),
    percentage=st.integers(0, 60),
    samples=st.integers(1, 40),
    order=st.sampled_from(["PrefetchFirst", "StopFirst"]),
    limit=st.integers(1, 20),
)
def test_a_rollout_ends_on_the_side_of_its_threshold(
    broken: set[int], percentage: int, samples: int, order: str, limit: int
) -> None:
    """Completed, no more than the share failed; rolled back, more than that of those tried did. Nothing in between."""
    threshold = {"percentage": percentage, "minSamples": samples}
    world = converged(40, failureThreshold=threshold, recreateOrder=order, maxUnavailable=limit)
    bad_ones = {f"gw-{index:04}" for index in broken}
    world.behaviour = lambda pod, name: (
        refusing(MISMATCH) if V2 in pod["metadata"]["labels"].values() and name in bad_ones else healthy(pod, name)
    )
    world.edit(modelVersion=V2)
    failed: list[int] = []
    world.run(rounds=300, watch=lambda: failed.append(world.status["counts"]["failed"]))
    if "abortedRevision" in world.status:
        assert Counter(world.serving().values()) == {V1: 40}
        count, known = _judged(world.status["message"])
        assert count * 100 > percentage * known
        assert known >= min(samples, 40) or count >= limit
    else:
        assert Counter(world.serving().values())[V2] == 40 - len(bad_ones)
        assert len(bad_ones) * 100 <= percentage * 40
        assert world.status["phase"] == ("Degraded" if bad_ones else "Healthy")


def _judged(message: str) -> tuple[int, int]:
    """From what is said of a roll-back: how many failed, of how many whose outcome was known."""
    found = re.search(r"(\d+) of (\d+) tried failed", message)
    assert found is not None
    return int(found[1]), int(found[2])
