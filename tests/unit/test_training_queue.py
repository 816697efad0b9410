"""TrainingJobs in a queue: Jobs are made suspended, and what Kueue does with them afterwards is told and kept to."""

import pytest

from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.plan.training import queueing
from tests.unit.job_world import Object, World, artifact, job, report, step

LABELS = {"kueue.x-k8s.io/queue-name": "gpu", "kueue.x-k8s.io/priority-class": "low", "team": "vision"}


def queued(*steps: Object, **spec: object) -> World:
    obj = job(*steps, **spec)
    obj["metadata"]["labels"] = LABELS
    world = World(obj)
    world.settle()
    return world


def begun(*steps: Object, **spec: object) -> World:
    world = World(job(*steps, **spec))
    world.settle()
    return world


def admit(world: World, name: str, *, admitted: bool = True) -> None:
    """What Kueue does, and the Job controller after it."""
    world.objects["Job", name]["spec"]["suspend"] = not admitted
    world.settle()


def test_a_job_is_handed_over_suspended_with_the_queues_labels() -> None:
    world = queued(step("train"))
    made = world.objects["Job", "nightly-train-1"]
    assert made["spec"]["suspend"] is True
    labels = made["metadata"]["labels"]
    assert (labels["kueue.x-k8s.io/queue-name"], labels["kueue.x-k8s.io/priority-class"]) == ("gpu", "low")
    assert "team" not in labels
    assert "kueue.x-k8s.io/queue-name" not in made["spec"]["template"]["metadata"]["labels"]


def test_a_job_waits_is_admitted_preempted_admitted_again_and_ends() -> None:
    world = queued(step("train", trainer={"image": "i", "numNodes": 2}), activeDeadlineSeconds=600)
    assert (world.status["phase"], world.condition("Admitted")["status"]) == ("Pending", "False")
    assert world.condition("Ready")["reason"] == "Queued"
    assert "step train: it waits for admission by queue gpu" in world.condition("Ready")["message"]
    # Waiting costs nothing, not even of the deadline.
    assert world.wait(86_400) == 0
    assert "startTime" not in world.status
    admit(world, "nightly-train-1")
    assert (world.status["phase"], world.condition("Admitted")["status"]) == ("Running", "True")
    assert world.status["startTime"] == "2026-11-22T06:00:00Z"
    TrainingJobStatus.model_validate(world.status)
    admit(world, "nightly-train-1", admitted=False)
    assert (world.status["phase"], world.condition("Admitted")["status"]) == ("Pending", "False")
    assert world.reasons.count("Preempted") == 1
    admit(world, "nightly-train-1")
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    assert (world.status["phase"], world.status["restarts"], world.status["attempt"]) == ("Succeeded", 0, 1)
    assert [each["metadata"]["name"] for each in world.all("Job")] == ["nightly-train-1"]


def test_what_the_queue_says_is_told() -> None:
    world = queued(step("train"))
    message = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor a100, 2 more needed"
    world.waits_for = message
    world.settle()
    expected = f"step train: it waits for admission by queue gpu: {message}"
    assert {world.condition(type_)["message"] for type_ in ("Ready", "Admitted")} == {expected}
    # Workloads are not watched: now and then one looks again.
    assert world.plan().requeue_after == queueing.LOOK_AGAIN_SECONDS


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({}, ""),
        ({"QuotaReserved": ("False", "no quota")}, "no quota"),
        ({"QuotaReserved": ("True", "reserved"), "Admitted": ("False", "checks are pending")}, "checks are pending"),
        ({"QuotaReserved": ("True", "reserved"), "Admitted": ("True", "admitted")}, ""),
        ({"PodsReady": ("False", "not yet")}, ""),
    ],
)
def test_what_a_workload_waits_for(stated: dict[str, tuple[str, str]], told: str) -> None:
    conditions = [{"type": type_, "status": status, "message": text} for type_, (status, text) in stated.items()]
    assert queueing.waits_for({"status": {"conditions": conditions}}) == told
    assert queueing.waits_for({}) == ""


def test_pods_of_a_queue_may_end_with_any_code_when_they_are_stopped() -> None:
    """A policy that knows exit codes fails a suspended Job by those of its pods that were stopped."""
    rules = [{"name": "oom", "onExitCodes": [137], "action": "FailJob"}]
    policy = {"failurePolicy": {"rules": rules}}

    def matched(world: World) -> list[str]:
        made = world.objects["Job", "nightly-train-1"]["spec"]["podFailurePolicy"]["rules"]
        return [key for rule in made for key in rule if key != "action"]

    assert matched(queued(step("train"), **policy)) == ["onPodConditions"]
    assert matched(begun(step("train"))) == ["onPodConditions"]
    assert matched(begun(step("train"), **policy)) == ["onPodConditions", "onExitCodes"]


def test_a_job_that_failed_for_being_stopped_is_tried_again_and_not_counted() -> None:
    """As in a namespace with a default queue: what is put into it by Kueue is not ours to make for it."""
    world = begun(step("train"))
    made = world.objects["Job", "nightly-train-1"]
    made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "default"
    world.finish("nightly-train-1", "stopped", code=143, reason="PodFailurePolicy")
    # Resumed meanwhile: what it says of itself stays.
    made["status"]["conditions"].insert(0, {"type": "Suspended", "status": "True", "reason": "JobSuspended"})
    world.settle()
    assert world.reasons.count("Preempted") == 1
    world.wait(11)
    assert world.unfinished() == ["nightly-train-2"]
    assert world.status["restarts"] == 0


def test_each_step_waits_for_itself() -> None:
    world = queued(step("prepare"), step("side"), step("train", "prepare"))
    admit(world, "nightly-prepare-1")
    assert world.status["phase"] == "Running"
    assert world.condition("Admitted")["message"].startswith("step side")
    assert [each["phase"] for each in world.status["steps"]] == ["Running", "Pending", "Pending"]


def test_our_suspension_gives_the_reservation_back() -> None:
    world = queued(step("train"))
    admit(world, "nightly-train-1")
    world.edit(suspend=True)
    world.settle()
    assert (world.status["phase"], world.all("Job")) == ("Suspended", [])
    world.edit(suspend=False)
    world.settle()
    assert world.objects["Job", "nightly-train-2"]["spec"]["suspend"] is True
    assert world.status["phase"] == "Pending"


def test_a_next_attempt_waits_in_the_queue_too() -> None:
    world = queued(step("train"))
    admit(world, "nightly-train-1")
    world.finish("nightly-train-1", "boom", code=1)
    world.settle()
    world.wait(11)
    assert world.objects["Job", "nightly-train-2"]["spec"]["suspend"] is True
    assert world.status["restarts"] == 1


def test_a_gang_in_a_queue_is_the_queues_to_place() -> None:
    world = queued(step("train", trainer={"image": "i", "numNodes": 2}))
    admit(world, "nightly-train-1")
    world.run("nightly-train-1", "a", "")
    world.wait(3600)
    assert world.unfinished() == ["nightly-train-1"]


def test_without_a_queue_nothing_of_it_is_seen() -> None:
    world = World(job(step("train")))
    world.settle()
    assert "suspend" not in world.objects["Job", "nightly-train-1"]["spec"]
    assert world.condition("Admitted") == {}
    world.objects["Job", "nightly-train-1"]["spec"]["suspend"] = True
    world.settle()
    assert "suspended by somebody else" in world.condition("Ready")["message"]


@pytest.mark.parametrize(
    ("manager", "ours"),
    [(None, True), ("modelfleet.dev/training-job", True), ("kueue.x-k8s.io/multikueue", False)],
)
def test_whose_job_it_is(manager: str | None, ours: bool) -> None:
    assert queueing.is_ours({"spec": {} if manager is None else {"managedBy": manager}}) is ours
