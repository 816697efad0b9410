"""A step that is done is never run again: its results are asked for in the store where nobody read its report."""

import json
from typing import Any

import pytest

from modelfleet.api import wire
from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.plan import conditions
from tests.unit.job_world import World, artifact, job, no_results, report, step

ASKS = "nightly-train-1-recall"
GATE = [{"metric": "accuracy", "comparison": ">=", "value": "0.9"}]


def begin(*steps: dict[str, Any], **spec: Any) -> World:
    world = World(job(*(steps or (step("train"),)), **{"backoffLimit": 0, **spec}))
    world.settle()
    return world


def pod_is_gone(world: World) -> None:
    """The Job is Complete; its pod went before the operator looked."""
    world.finish("nightly-train-1", report((artifact(),), accuracy="0.95"))
    del world.objects["Pod", "nightly-train-1-0"]


def job_is_gone(world: World) -> None:
    """The Job was Complete, and deleted with its pod before the operator looked."""
    pod_is_gone(world)
    world.delete_job("nightly-train-1")


def job_is_deleted(world: World) -> None:
    """It ran, and was deleted."""
    world.delete_job("nightly-train-1")


def says(world: World, reason: str, message: str) -> None:
    """The asking pod failed with this report and is about to be started again by its kubelet."""
    told = json.dumps({"file": "results.json", "reason": reason, "message": message})
    ended = {"exitCode": 75, "message": told, "finishedAt": conditions.timestamp(world.now)}
    world.run(ASKS, "node-a")
    state = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
    pod = world.objects["Pod", f"{ASKS}-0"]
    pod["status"]["containerStatuses"] = [{"name": "recall", "image": "i", **state}]


@pytest.mark.parametrize("befalls", [pod_is_gone, job_is_gone])
def test_the_results_of_a_step_that_is_done_are_found_in_the_store(befalls: Any) -> None:
    world = begin(gate=GATE)
    befalls(world)
    world.settle()
    assert world.unfinished() == [ASKS]
    assert "the store is asked for the results of attempt 1" in world.status["steps"][0]["message"]
    TrainingJobStatus.model_validate(world.status)
    world.finish(ASKS, report((artifact(),), accuracy="0.95"))
    world.settle()
    assert (world.status["phase"], world.status["attempt"]) == ("Succeeded", 1)
    assert world.objects["ModelVersion", "m-1-0-0"]["spec"]["metrics"] == {"accuracy": "0.95"}
    assert world.reasons == ["StepStarted", "Recalling", "StepSucceeded", "GatePassed", "Registered"]
    assert not [each for each in world.all("Job") if each["metadata"]["name"] == "nightly-train-2"]


def test_the_job_that_asks_reads_the_attempts_own_results_with_the_stores_secret() -> None:
    world = begin(nodePool="cuda")
    job_is_gone(world)
    world.settle()
    asks = world.objects["Job", ASKS]
    pod = asks["spec"]["template"]["spec"]
    order = wire.RecallOrder.model_validate_json(pod["containers"][0]["env"][0]["value"])
    assert order.uri == "s3://models/m/nightly-0a1b2c3d/train/1/results.json"
    assert order.credentials_path == "/var/run/modelfleet/credentials/store"
    assert (pod["restartPolicy"], pod["nodeSelector"]) == ("OnFailure", {"pool": "cuda"})
    assert world.wait(3600) == 0


def test_a_step_that_was_deleted_begins_again_only_when_the_store_has_no_results() -> None:
    world = begin()
    job_is_deleted(world)
    world.settle()
    assert world.unfinished() == [ASKS]
    world.finish(ASKS, no_results())
    world.settle()
    assert world.unfinished() == ["nightly-train-2"]
    # The Job that asked is about an attempt long over.
    assert [each["metadata"]["name"] for each in world.all("Job")] == ["nightly-train-2"]
    assert world.status["restarts"] == 0


def test_a_step_that_is_done_and_left_nothing_waits_for_a_person() -> None:
    world = begin()
    pod_is_gone(world)
    world.settle()
    world.finish(ASKS, no_results())
    world.settle()
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "ReportLost")
    assert "not found in the store" in stalled["message"]
    assert "to run it again, from its last checkpoint, delete Job nightly-train-1" in stalled["message"]
    assert world.reasons[-1] == "ReportLost"
    assert (world.unfinished(), world.wait(86_400)) == ([], 0)
    world.delete_job("nightly-train-1")
    world.settle()
    assert world.unfinished() == ["nightly-train-2"]
    assert (world.condition("Stalled")["status"], world.status["restarts"]) == ("False", 0)


@pytest.mark.parametrize("befalls", [pod_is_gone, job_is_gone])
def test_a_store_that_is_out_of_reach_is_waited_for_and_told(befalls: Any) -> None:
    world = begin()
    befalls(world)
    world.settle()
    says(world, "Unreachable", "s3://…: connection refused")
    world.settle()
    ready = world.condition("Ready")
    assert (ready["reason"], world.unfinished()) == ("Unreachable", [ASKS])
    assert "connection refused" in ready["message"]
    assert world.wait(86_400) == 0


def test_a_store_that_refuses_access_holds_back_what_is_done_and_nothing_else() -> None:
    done = begin()
    pod_is_gone(done)
    done.settle()
    says(done, "Unauthorized", "s3://…: the store refused access")
    done.settle()
    assert (done.condition("Ready")["reason"], done.unfinished()) == ("Unauthorized", [ASKS])
    assert "(or delete Job nightly-train-1 to run it again)" in done.condition("Ready")["message"]
    deleted = begin()
    job_is_deleted(deleted)
    deleted.settle()
    says(deleted, "Unauthorized", "s3://…: the store refused access")
    deleted.settle()
    assert deleted.unfinished() == ["nightly-train-2"]


def test_an_answer_that_is_lost_too_is_asked_for_again() -> None:
    world = begin()
    pod_is_gone(world)
    world.settle()
    world.finish(ASKS, report((artifact(),)))
    del world.objects["Pod", f"{ASKS}-0"]
    world.settle()
    assert world.unfinished() == [ASKS]
    world.delete_job(ASKS)
    world.settle()
    assert world.unfinished() == [ASKS]
    world.finish(ASKS, report((artifact(),)))
    world.settle()
    assert world.status["phase"] == "Succeeded"


def test_results_that_make_no_sense_end_the_job_as_a_pods_would() -> None:
    world = begin()
    pod_is_gone(world)
    world.settle()
    world.finish(ASKS, report((artifact(format="pickle"),)))
    world.settle()
    assert world.condition("Failed")["reason"] == "ResultsMalformed"


def test_nothing_is_asked_while_the_job_is_suspended() -> None:
    done = begin(step("train"), step("check", "train"))
    pod_is_gone(done)
    done.edit(suspend=True)
    done.settle()
    assert (done.status["phase"], done.unfinished()) == ("Suspended", [])
    done.edit(suspend=False)
    done.settle()
    done.finish(ASKS, report((artifact(),)))
    done.settle()
    assert done.unfinished() == ["nightly-check-1"]
    running = begin()
    running.edit(suspend=True)
    running.settle()
    running.edit(suspend=False)
    running.settle()
    assert running.unfinished() == ["nightly-train-2"]


def test_an_operator_that_dies_after_any_write_asks_once_and_finds_the_same() -> None:
    for writes in range(6):
        world = begin()
        job_is_gone(world)
        for _ in range(4):
            world.carry_out(world.plan(), writes)
        world.settle()
        world.finish(ASKS, report((artifact(),)))
        for _ in range(4):
            world.carry_out(world.plan(), writes)
        world.settle()
        assert (world.status["phase"], world.status["attempt"]) == ("Succeeded", 1)


def test_a_job_that_ends_while_it_is_being_stopped_counts() -> None:
    """What stops it names the version of the Job that was seen running; one that has ended since is another."""
    world = begin()
    world.objects["Job", "nightly-train-1"]["metadata"]["resourceVersion"] = "17"
    world.edit(suspend=True)
    (ref,) = world.plan().delete
    assert (ref.name, ref.resource_version) == ("nightly-train-1", "17")
    # The API server refused: the Job is there, and done.
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    assert world.status["steps"][0]["phase"] == "Succeeded"
