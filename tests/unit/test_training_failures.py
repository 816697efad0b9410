"""What a failed attempt means: by exit code, by disruption, by the limit of a step or of the job."""

import json
from typing import Any

import pytest

from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.plan import backoff, job_state
from tests.unit.job_world import World, artifact, job, report, step

RULES = [
    {"name": "oom", "onExitCodes": [137], "action": "FailJob"},
    {"name": "known", "onExitCodes": [3, 4], "action": "Count"},
    {"name": "store-away", "onExitCodes": [4, 75], "action": "Ignore"},
]
POLICY = {"failurePolicy": {"rules": RULES}}


def begin(*steps: dict[str, Any], **spec: Any) -> World:
    world = World(job(*steps, **spec))
    world.settle()
    return world


@pytest.mark.parametrize(
    ("code", "reason", "restarts"),
    [
        (137, "FailurePolicy", None),
        (3, "StepFailed", 1),
        (4, "StepFailed", 1),
        (75, "FailureIgnored", 0),
        (1, "StepFailed", 1),
    ],
)
@pytest.mark.parametrize("pods_gone", [False, True])
def test_the_first_rule_that_names_the_exit_code_counts(
    code: int, reason: str, restarts: int | None, pods_gone: bool
) -> None:
    world = begin(step("train"), **POLICY)
    world.finish("nightly-train-1", "out of luck", code=code, reason="PodFailurePolicy")
    # As the Job controller puts it (pod_failure_policy.go).
    found = world.objects["Job", "nightly-train-1"]["status"]["conditions"][0]
    found["message"] = (
        f"Container train for pod vision/nightly-train-1-0 failed with exit code {code}"
        " matching FailJob rule at index 1"
    )
    if pods_gone:
        del world.objects["Pod", "nightly-train-1-0"]
    world.settle()
    assert reason in world.reasons
    if restarts is None:
        assert world.status["phase"] == "Failed"
        assert world.condition("Failed")["reason"] == "FailurePolicy"
        assert "rule oom of failurePolicy says FailJob" in world.condition("Failed")["message"]
        return
    world.wait(11)
    assert world.unfinished() == ["nightly-train-2"]
    assert world.status["restarts"] == restarts
    assert world.status["steps"][0].get("restarts", 0) == restarts


def test_a_rule_speaks_of_the_steps_own_container_only() -> None:
    world = begin(step("train"), **POLICY)
    world.finish("nightly-train-1", "", code=137, container="fetch")
    world.settle()
    assert world.status["phase"] == "Running"
    assert "StepFailed" in world.reasons


def test_the_job_tells_a_failure_from_a_disruption_though_its_pods_are_gone() -> None:
    rules = World(job(step("train"), **POLICY)).plan().create[0]["spec"]["podFailurePolicy"]["rules"]
    assert [list(rule)[1] for rule in rules] == ["onPodConditions", "onExitCodes"]
    assert rules[1]["onExitCodes"] == {"containerName": "train", "operator": "NotIn", "values": [0]}


def test_ranks_that_fail_for_want_of_a_preempted_one_are_not_charged() -> None:
    """The others of a gang crash within a second; the preempted pod takes its grace period to end."""
    world = begin(step("train", trainer={"image": "i", "numNodes": 2}), backoffLimit=0, **POLICY)
    world.finish("nightly-train-1", "connection reset by peer", code=137)
    preempted = world.objects["Pod", "nightly-train-1-1"]
    preempted["status"] = {
        "phase": "Running",
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}],
    }
    assert job_state.is_disrupted([preempted])
    world.settle()
    world.wait(11)
    assert world.unfinished() == ["nightly-train-2"]
    assert (world.status["restarts"], "Disrupted" in world.reasons) == (0, True)


def test_a_step_with_a_retry_of_its_own_leaves_the_jobs_limit_to_the_others() -> None:
    world = begin(step("flaky", retry={"limit": 2, "backoffSeconds": 100}), step("solid"), backoffLimit=1)
    for attempt, pause in ((1, 100), (2, 200)):
        world.finish(f"nightly-flaky-{attempt}", "boom", code=1)
        world.settle()
        waiting = world.status["steps"][0]
        assert waiting["nextAttemptTime"].endswith("Z")
        assert world.wait(pause - 1) == 0
        world.wait(2)
        assert "nextAttemptTime" not in world.status["steps"][0]
        assert world.status["steps"][0]["restarts"] == attempt
    world.finish("nightly-solid-1", "boom", code=1)
    world.settle()
    world.wait(11)
    assert (world.status["phase"], world.status["restarts"]) == ("Running", 3)
    TrainingJobStatus.model_validate(world.status)
    world.finish("nightly-flaky-3", "boom", code=1)
    world.settle()
    assert world.status["phase"] == "Failed"
    assert "step flaky (its retry.limit 2 is used up)" in world.condition("Failed")["message"]
    assert world.status["restarts"] == 3


def test_what_others_spent_counts_against_the_shared_limit() -> None:
    world = begin(step("a"), step("b"), backoffLimit=1)
    world.finish("nightly-a-1", "boom", code=1)
    world.wait(0)
    world.wait(11)
    world.finish("nightly-b-1", "boom", code=1)
    world.settle()
    assert world.status["phase"] == "Failed"
    assert "step b (backoffLimit 1 is used up)" in world.condition("Failed")["message"]


def test_a_pause_is_kept_though_the_failed_job_is_deleted_meanwhile() -> None:
    world = begin(step("train"))
    world.finish("nightly-train-1", "boom", code=1)
    world.settle()
    world.delete_job("nightly-train-1")
    assert world.wait(5) == 0
    world.wait(6)
    assert world.unfinished() == ["nightly-train-2"]


def test_what_failed_while_the_operator_was_away_is_counted_and_begun_again_at_once() -> None:
    world = begin(step("train"), backoffLimit=1)
    world.finish("nightly-train-1", "boom", code=1)
    world.wait(3600)
    assert (world.unfinished(), world.status["restarts"]) == (["nightly-train-2"], 1)
    world.finish("nightly-train-2", "boom", code=1)
    world.wait(3600)
    assert world.status["phase"] == "Failed"


@pytest.mark.parametrize(("retry", "pause"), [({}, 10), ({"retry": {"limit": 2, "backoffSeconds": 60}}, 60)])
def test_disruptions_make_no_pause_longer(retry: dict[str, Any], pause: int) -> None:
    """Neither the one after the next disruption, nor the one after a failure."""
    world = begin(step("train", **retry))
    for attempt in range(1, 6):
        world.finish(f"nightly-train-{attempt}", reason="PodFailurePolicy")
        world.settle()
        assert world.wait(pause - 1) == 0
        world.wait(2)
        assert world.unfinished() == [f"nightly-train-{attempt + 1}"]
    for attempt, doubled in ((6, pause), (7, 2 * pause)):
        world.finish(f"nightly-train-{attempt}", "boom", code=1)
        world.settle()
        assert world.wait(doubled - 1) == 0
        world.wait(2)
        assert world.unfinished() == [f"nightly-train-{attempt + 1}"]
    assert world.status["restarts"] == 2


def test_a_store_that_stays_away_is_asked_less_and_less_often() -> None:
    away = json.dumps({"file": "dataset", "reason": "Unreachable", "message": "connection refused"})
    world = begin(step("train"))
    for attempt, pause in ((1, 10), (2, 20), (3, 40)):
        world.finish(f"nightly-train-{attempt}", away, code=75, container="fetch")
        world.settle()
        assert world.wait(pause - 1) == 0
        world.wait(2)
        assert world.unfinished() == [f"nightly-train-{attempt + 1}"]


@pytest.mark.parametrize(
    ("failures", "first", "seconds"), [(1, 10, 10), (2, 10, 20), (7, 10, 600), (99, 10, 600), (1, 1, 1), (11, 1, 600)]
)
def test_pauses_double_up_to_ten_minutes(failures: int, first: int, seconds: int) -> None:
    assert backoff.delay(failures, first).total_seconds() == seconds


def test_the_events_of_the_end_are_made_though_the_operator_died_after_registering() -> None:
    gate = [{"metric": "accuracy", "comparison": ">=", "value": "0.92"}]
    world = begin(step("train"), gate=gate)
    world.finish("nightly-train-1", report((artifact(),), accuracy="0.95"))
    world.carry_out(world.plan(), writes=1)
    assert len(world.all("ModelVersion")) == 1
    world.settle()
    assert world.status["phase"] == "Succeeded"
    assert world.reasons == ["StepStarted", "StepSucceeded", "GatePassed", "Registered"]
