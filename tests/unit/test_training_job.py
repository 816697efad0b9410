"""The plan of a TrainingJob: steps in order, attempts, the gate, registration; and each way it can end otherwise."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet.api.model_version import ModelVersion
from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.plan import job_state
from modelfleet.plan.refusal import Refusal
from modelfleet.reconcile import jobs
from tests.unit.job_world import DIGEST, START, World, artifact, job, no_results, report, step, version

GATE = [{"metric": "accuracy", "comparison": ">=", "value": "0.92"}]


def begin(*steps: dict[str, Any], **spec: Any) -> World:
    world = World(job(*steps, **spec))
    world.settle()
    return world


def phases(world: World) -> dict[str, str]:
    return {each["name"]: each["phase"] for each in world.status["steps"]}


def test_a_job_from_its_first_step_to_its_registered_version() -> None:
    world = begin(step("prepare"), step("train", "prepare"), step("check", "train"), gate=GATE)
    assert world.unfinished() == ["nightly-prepare-1"]
    assert world.status["phase"] == "Running"
    assert world.status["steps"][1]["message"] == "waiting for prepare"
    assert world.condition("Ready")["message"] == "running: prepare"
    world.finish("nightly-prepare-1", report(rows="500"))
    world.settle()
    assert world.unfinished() == ["nightly-train-1"]
    world.finish("nightly-train-1", report((artifact("fp32"),), accuracy="0.5"))
    world.settle()
    world.finish("nightly-check-1", report((artifact("int8"),), accuracy="0.95"))
    world.settle()
    status = world.status
    assert (status["phase"], status["modelVersion"]) == ("Succeeded", "m-1-0-0")
    assert status["gate"] == [{"metric": "accuracy", "value": "0.95", "required": ">= 0.92", "passed": True}]
    assert set(phases(world).values()) == {"Succeeded"}
    assert {name: world.condition(name)["status"] for name in ("Complete", "Ready", "Reconciling", "Stalled")} == {
        "Complete": "True",
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }
    TrainingJobStatus.model_validate(status)
    version = world.all("ModelVersion")[0]
    ModelVersion.model_validate(version)
    assert [each["name"] for each in version["spec"]["artifacts"]] == ["fp32", "int8"]
    assert version["spec"]["artifacts"][0]["credentialsSecretRef"] == {"name": "store"}
    assert version["spec"]["metrics"] == {"rows": "500", "accuracy": "0.95"}
    assert "ownerReferences" not in version["metadata"]
    assert world.reasons == [
        "StepStarted",
        *["StepSucceeded", "StepStarted"] * 2,
        "StepSucceeded",
        "GatePassed",
        "Registered",
    ]
    # It is over: whatever becomes of its children, nothing is run again.
    for each in ("nightly-prepare-1", "nightly-train-1", "nightly-check-1"):
        world.delete_job(each)
    del world.objects["ModelVersion", "m-1-0-0"]
    assert world.wait(86_400) == 0


def test_branches_run_side_by_side_and_meet_again() -> None:
    world = begin(step("a"), step("left", "a"), step("right", "a"), step("join", "left", "right"))
    world.finish("nightly-a-1", report())
    world.settle()
    assert world.unfinished() == ["nightly-left-1", "nightly-right-1"]
    world.finish("nightly-right-1", report())
    world.settle()
    assert world.unfinished() == ["nightly-left-1"]
    world.finish("nightly-left-1", report())
    world.settle()
    assert world.unfinished() == ["nightly-join-1"]
    order = json.loads(world.all("Job")[1]["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
    assert order["inputs"] == {
        name: {"uri": "s3://models/m/results.json", "sha256": DIGEST} for name in ("left", "right")
    }


def test_a_failed_step_is_tried_again_after_growing_pauses_until_the_limit() -> None:
    world = begin(step("prepare"), step("train", "prepare"), backoffLimit=2)
    world.finish("nightly-prepare-1", report())
    world.settle()
    for attempt, pause in ((1, 10), (2, 20)):
        world.finish(f"nightly-train-{attempt}", "no such file: data.csv", code=3)
        world.settle()
        assert phases(world)["train"] == "Pending"
        assert world.status["phase"] == "Running"
        assert world.condition("Ready")["reason"] == "Restarting"
        assert "no such file: data.csv" in world.condition("Ready")["message"]
        assert world.wait(pause - 1) == 0
        world.wait(2)
        assert world.status["restarts"] == attempt
        assert world.unfinished() == [f"nightly-train-{attempt + 1}"]
    world.finish("nightly-train-3", "no such file: data.csv", code=3)
    world.settle()
    assert (world.status["phase"], world.status["restarts"], world.status["attempt"]) == ("Failed", 2, 3)
    failed = world.condition("Failed")
    assert failed["reason"] == "StepFailed"
    assert "step train (backoffLimit 2 is used up)" in failed["message"]
    assert "exit code 3: no such file: data.csv" in failed["message"]
    assert world.condition("Stalled")["status"] == "True"
    assert [each for each in world.reasons if each in ("Restarting", "StepFailed")] == [
        *["StepFailed", "Restarting"] * 2,
        "StepFailed",
    ]
    assert len([each for each in world.all("Job") if "prepare" in each["metadata"]["name"]]) == 1
    assert world.wait(86_400) == 0


def test_preemption_does_not_count_against_the_limit() -> None:
    world = begin(step("train"), backoffLimit=0)
    for attempt in range(1, 4):
        world.finish(f"nightly-train-{attempt}", reason="PodFailurePolicy")
        world.wait(3600)
    assert world.unfinished() == ["nightly-train-4"]
    assert world.status["restarts"] == 0
    assert "Disrupted" in world.reasons


def test_a_job_deleted_by_hand_is_run_again_at_once_and_does_not_count() -> None:
    world = begin(step("train"), backoffLimit=0)
    world.delete_job("nightly-train-1")
    world.settle()
    world.finish("nightly-train-1-recall", no_results())
    world.settle()
    assert world.unfinished() == ["nightly-train-2"]
    assert world.status["restarts"] == 0
    # The report of a Job that succeeded is in the status: deleting it then changes nothing.
    world.finish("nightly-train-2", report((artifact(),)))
    world.settle()
    world.delete_job("nightly-train-2")
    assert world.settle() == 0


@pytest.mark.parametrize(
    ("message", "reason", "said"),
    [
        ("", "ResultsMissing", "finish()"),
        ("accuracy=0.9", "ResultsMalformed", "Invalid JSON"),
        ('{"uri": "s3://b/r.json"}', "ResultsMalformed", "sha256"),
        (report((artifact(format="pickle"),)), "ResultsMalformed", "artifacts.0.format"),
        (report((artifact(sizeBytes=0),)), "ResultsMalformed", "artifacts.0.sizeBytes"),
        (report(**{"bad name": "1"}), "ResultsMalformed", "metric"),
    ],
)
def test_results_that_are_missing_or_malformed_end_the_job(message: str, reason: str, said: str) -> None:
    world = begin(step("train"), step("check", "train"))
    world.finish("nightly-train-1", message)
    world.settle()
    assert world.status["phase"] == "Failed"
    assert world.condition("Failed")["reason"] == reason
    assert "step train" in world.condition("Failed")["message"]
    assert said in world.condition("Failed")["message"]
    assert world.unfinished() == []


def test_results_that_no_status_can_hold_end_the_job() -> None:
    names = [f"s{index}" for index in range(16)]
    world = begin(*(step(name) for name in names))
    for name in names:
        metrics = {f"{name}-{index}-{'x' * 40}": "0.123456789" for index in range(50)}
        world.finish(f"nightly-{name}-1", report(**metrics))
    world.settle()
    assert (world.status["phase"], world.condition("Ready")["reason"]) == ("Failed", "ResultsTooLarge")
    assert "as files" in world.condition("Ready")["message"]
    assert len(json.dumps(world.status)) < 32 * 1024
    TrainingJobStatus.model_validate(world.status)


def test_the_jobs_of_attempts_long_over_are_not_kept() -> None:
    world = begin(step("train"), initializer={"dataset": {"storageUri": "s3://d/x", "digest": f"sha256:{DIGEST}"}})
    unreachable = json.dumps({"file": "x", "reason": "Unreachable", "message": "refused"})
    for attempt in range(1, 21):
        world.finish(f"nightly-train-{attempt}", unreachable, code=75, container=job_state.FETCH)
        world.wait(1000)
    assert [each["metadata"]["name"] for each in world.all("Job")] == [
        "nightly-train-19",
        "nightly-train-20",
        "nightly-train-21",
    ]


def test_a_pod_that_does_not_end_is_told_with_its_node() -> None:
    pod = {
        "metadata": {"name": "p", "deletionTimestamp": "2026-11-21T06:00:00Z"},
        "spec": {"nodeName": "n"},
        "status": {},
    }
    assert job_state.stuck([pod], START + timedelta(seconds=59)) is None
    trouble = job_state.stuck([pod], START + timedelta(seconds=61))
    assert trouble is not None
    assert "node n" in trouble.message


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([("TrainingJob", "nightly", "0")], ""),
        ([("TrainingJob", "nightly", "a-predecessors")], ""),
        ([("TrainingJob", "night", "1")], "TrainingJob night"),
        ([], "nobody of ours"),
    ],
)
def test_a_name_that_another_one_has(held: list[tuple[str, str, str]], said: str) -> None:
    """TrainingJobs ``a`` and ``a-b`` with steps ``b-c`` and ``c`` want the same name for a Job."""

    def child(*owners: tuple[str, str, str]) -> dict[str, Any]:
        references = [{"kind": kind, "name": name, "uid": uid, "controller": True} for kind, name, uid in owners]
        return {"metadata": {"name": "j", "ownerReferences": references}}

    found = jobs.foreign_owner(child(("TrainingJob", "nightly", "0")), child(*held))
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"accuracy": "0.91"}, "metric accuracy is 0.91, required >= 0.92"),
        ({"recall": "0.99"}, "metric accuracy was not reported"),
        ({"accuracy": "NaN"}, "metric accuracy was not reported as a finite number"),
        ({"accuracy": "Infinity"}, "metric accuracy was not reported as a finite number"),
    ],
)
def test_what_the_gate_does_not_pass_is_not_registered(metrics: dict[str, str], said: str) -> None:
    world = begin(step("train"), gate=GATE)
    world.finish("nightly-train-1", report((artifact(),), **metrics))
    world.settle()
    assert world.status["phase"] == "Failed"
    assert world.condition("Failed")["reason"] == "GateFailed"
    assert said in world.condition("Failed")["message"]
    assert world.status["gate"][0]["passed"] is False
    assert world.all("ModelVersion") == []
    TrainingJobStatus.model_validate(world.status)


BASELINE = [{"metric": "accuracy", "direction": "Maximize", "baseline": "Online", "maxRegression": "0.01"}]


def online(number: str, accuracy: str) -> dict[str, Any]:
    return {**version(number, metrics={"accuracy": accuracy}), "status": {"stage": "Online"}}


def test_a_model_no_worse_than_the_one_online_is_registered() -> None:
    world = begin(step("train"), gate=BASELINE)
    world.put(online("0.9.0", "0.94"))
    world.put({**version("0.8.0", metrics={"accuracy": "0.99"}), "status": {"stage": "Retired"}})
    world.finish("nightly-train-1", report((artifact(),), accuracy="0.931"))
    world.settle()
    (judged,) = world.status["gate"]
    assert (judged["baseline"], judged["required"], judged["passed"]) == ("m-0-9-0", ">= 0.93", True)
    assert world.status["phase"] == "Succeeded"
    TrainingJobStatus.model_validate(world.status)


def test_a_model_worse_than_the_one_online_is_not_registered() -> None:
    world = begin(step("train"), gate=BASELINE)
    world.put(online("0.9.0", "0.95"))
    world.finish("nightly-train-1", report((artifact(),), accuracy="0.931"))
    world.settle()
    assert world.condition("Failed")["reason"] == "GateFailed"
    assert "m-0-9-0 is online with 0.95" in world.condition("Failed")["message"]
    assert ("ModelVersion", "m-1-0-0") not in world.objects


def test_the_baseline_is_recorded_before_anything_is_registered_and_stands() -> None:
    world = begin(step("train"), gate=BASELINE)
    world.put(online("0.9.0", "0.94"))
    world.finish("nightly-train-1", report((artifact(),), accuracy="0.931"))
    world.carry_out(world.plan())
    assert world.status["gate"][0]["baseline"] == "m-0-9-0"
    assert ("ModelVersion", "m-1-0-0") not in world.objects
    world.put(online("0.9.5", "0.99"))
    world.settle()
    assert world.status["phase"] == "Succeeded"
    assert world.status["gate"][0]["baseline"] == "m-0-9-0"


def test_results_without_an_artifact_register_nothing() -> None:
    world = begin(step("train"))
    world.finish("nightly-train-1", report(accuracy="1"))
    world.settle()
    assert world.condition("Failed")["reason"] == "NoArtifacts"


def test_more_metrics_than_a_version_takes_end_the_job_with_the_field() -> None:
    world = begin(step("a"), step("b"))
    world.finish("nightly-a-1", report((artifact(),), **{f"a{index}": "1" for index in range(40)}))
    world.finish("nightly-b-1", report(**{f"b{index}": "1" for index in range(40)}))
    world.settle()
    assert world.condition("Failed")["reason"] == "ModelVersionInvalid"
    assert "spec.metrics" in world.condition("Failed")["message"]


@pytest.mark.parametrize(("final", "phase"), [(True, "Failed"), (False, "Running")])
def test_a_version_that_the_server_refuses_is_told(final: bool, phase: str) -> None:
    world = begin(step("train"))
    world.finish("nightly-train-1", report((artifact(),)))
    world.refusals = {"m-1-0-0": Refusal("policy wants a signature", final=final)}
    world.settle()
    assert world.status["phase"] == phase
    assert world.condition("Ready")["reason"] == "ModelVersionRefused"
    assert world.condition("Stalled")["status"] == "True"
    assert "policy wants a signature" in world.condition("Ready")["message"]


@pytest.mark.parametrize(("final", "phase"), [(True, "Failed"), (False, "Pending")])
def test_a_job_that_the_server_refuses_is_told(final: bool, phase: str) -> None:
    world = World(job(step("train")))
    world.refusals = {"nightly-train-1": Refusal("exceeded quota: none, requested: count/jobs.batch=1", final=final)}
    world.settle()
    assert world.status["phase"] == phase
    assert world.condition("Ready")["reason"] == "JobRefused"
    assert "exceeded quota" in world.condition("Ready")["message"]
    world.refusals = {}
    world.settle()
    assert world.unfinished() == ([] if final else ["nightly-train-1"])


def test_the_same_spec_created_again_trains_nothing() -> None:
    first = begin(step("train"))
    first.finish("nightly-train-1", report((artifact(),)))
    first.settle()
    again = World(job(step("train")) | {"metadata": {"name": "nightly", "uid": "another"}})
    again.put(first.all("ModelVersion")[0])
    again.edit(suspend=True)
    again.settle()
    assert again.status["phase"] == "Succeeded"
    assert again.condition("Complete")["reason"] == "AlreadyRegistered"
    assert again.all("Job") == []


def test_of_two_jobs_of_one_spec_the_one_that_comes_second_says_that_it_was_stopped() -> None:
    first = begin(step("train"))
    first.finish("nightly-train-1", report((artifact(),)))
    first.settle()
    again = World(job(step("train")) | {"metadata": {"name": "twin", "uid": "another"}})
    again.settle()
    assert phases(again) == {"train": "Running"}
    again.put(first.all("ModelVersion")[0])
    again.settle()
    assert again.condition("Complete")["reason"] == "AlreadyRegistered"
    assert again.all("Job") == []
    assert phases(again) == {"train": "Failed"}
    assert "stopped, because the ModelVersion exists" in again.status["steps"][0]["message"]


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_version_of_somebody_else_is_not_touched(by_hand: bool) -> None:
    first = begin(step("train"))
    first.finish("nightly-train-1", report((artifact(),)))
    first.settle()
    version = first.all("ModelVersion")[0]
    if by_hand:
        del version["spec"]["lineage"]["trainingJob"]
    again = World(job(step("train"), step("more")) | {"metadata": {"name": "other", "uid": "another"}})
    again.put(version)
    again.settle()
    assert again.condition("Failed")["reason"] == "ModelVersionExists"
    said = "registered by hand" if by_hand else "by TrainingJob nightly"
    assert said in again.condition("Failed")["message"]
    assert again.all("Job") == []


def test_a_version_registered_meanwhile_stops_the_compute() -> None:
    world = begin(step("train"))
    world.put(
        {
            "apiVersion": "modelfleet.dev/v1alpha1",
            "kind": "ModelVersion",
            "metadata": {"name": "m-1-0-0"},
            "spec": {"model": "m", "version": "1.0.0", "artifacts": [artifact()]},
        }
    )
    world.settle()
    assert world.condition("Failed")["reason"] == "ModelVersionExists"
    assert world.all("Job") == []
    assert phases(world) == {"train": "Failed"}


def test_a_cycle_is_named() -> None:
    world = begin(step("a", "c"), step("b", "a"), step("c", "b"))
    assert world.status["phase"] == "Failed"
    assert world.condition("Stalled")["reason"] == "InvalidDag"
    assert "a -> c -> b -> a" in world.condition("Stalled")["message"]
    assert world.all("Job") == []


def test_an_unknown_node_pool_lists_those_there_are() -> None:
    world = begin(step("train", nodePool="cdua"))
    assert world.status["phase"] == "Pending"
    assert world.condition("Stalled")["reason"] == "UnknownNodePool"
    assert "known: cuda" in world.condition("Stalled")["message"]
    assert world.reasons == ["UnknownNodePool"]
    assert world.settle() == 0


def test_suspension_stops_what_runs_and_resumption_begins_the_next_attempt() -> None:
    world = begin(step("prepare"), step("train", "prepare"), activeDeadlineSeconds=600)
    world.finish("nightly-prepare-1", report())
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert (world.status["phase"], world.unfinished()) == ("Suspended", [])
    assert world.condition("Suspended")["status"] == "True"
    assert world.condition("Reconciling")["status"] == "False"
    assert phases(world) == {"prepare": "Succeeded", "train": "Pending"}
    assert world.wait(86_400) == 0
    world.edit(suspend=False)
    world.settle()
    assert world.unfinished() == ["nightly-train-2"]
    assert world.status["restarts"] == 0
    assert world.condition("Suspended")["status"] == "False"


def test_a_job_created_suspended_starts_nothing() -> None:
    world = begin(step("train"), suspend=True)
    assert (world.status["phase"], world.all("Job")) == ("Suspended", [])
    assert world.settle() == 0


def test_the_deadline_ends_all_steps() -> None:
    assert (World(job(step("a"), activeDeadlineSeconds=5)).plan().requeue_after or 0) <= 6
    world = begin(step("a"), step("b"), activeDeadlineSeconds=600)
    assert world.unfinished() == ["nightly-a-1", "nightly-b-1"]
    assert (world.plan().requeue_after or 0) <= 601
    world.wait(599)
    assert world.status["phase"] == "Running"
    world.wait(2)
    assert world.status["phase"] == "Failed"
    assert world.condition("Failed")["reason"] == "DeadlineExceeded"
    assert world.unfinished() == []
    assert phases(world) == {"a": "Failed", "b": "Failed"}


def test_what_was_done_in_time_is_registered_though_the_operator_was_away() -> None:
    world = begin(step("a"), activeDeadlineSeconds=600)
    world.finish("nightly-a-1", report((artifact(),)))
    world.now += timedelta(seconds=700)
    world.settle()
    assert (world.status["phase"], world.status["modelVersion"]) == ("Succeeded", "m-1-0-0")


def test_the_deadline_ends_a_job_whose_version_is_refused() -> None:
    world = begin(step("a"), activeDeadlineSeconds=600)
    world.finish("nightly-a-1", report((artifact(),)))
    world.refusals = {"m-1-0-0": Refusal("exceeded quota", final=False)}
    world.settle()
    assert world.condition("Ready")["reason"] == "ModelVersionRefused"
    world.wait(601)
    assert world.condition("Failed")["reason"] == "DeadlineExceeded"


def test_when_a_step_fails_for_good_the_others_are_stopped() -> None:
    world = begin(step("a"), step("b"), backoffLimit=0)
    world.finish("nightly-a-1", "boom", code=1)
    world.settle()
    assert world.status["phase"] == "Failed"
    assert world.unfinished() == []
    assert "stopped" in world.status["steps"][1]["message"]


def test_a_dataset_with_the_wrong_bytes_ends_the_job() -> None:
    dataset = {"storageUri": "s3://data/d.npz", "digest": f"sha256:{DIGEST}"}
    world = begin(step("train"), initializer={"dataset": dataset})
    said = json.dumps({"file": "dataset", "reason": "HashMismatch", "message": "its sha256 is ab12"})
    world.finish("nightly-train-1", said, code=1, container="fetch")
    world.settle()
    assert world.condition("Failed")["reason"] == "HashMismatch"
    assert "dataset could not be fetched" in world.condition("Failed")["message"]


def test_a_dataset_store_that_is_down_is_waited_for() -> None:
    dataset = {"storageUri": "s3://data/d.npz", "digest": f"sha256:{DIGEST}"}
    world = begin(step("train"), initializer={"dataset": dataset}, backoffLimit=0)
    said = json.dumps({"file": "dataset", "reason": "Unreachable", "message": "connection refused"})
    world.finish("nightly-train-1", said, code=75, container="fetch")
    world.settle()
    assert world.status["phase"] == "Running"
    world.wait(11)
    assert world.unfinished() == ["nightly-train-2"]
    assert world.status["restarts"] == 0


def test_why_a_pod_does_not_run_is_told_once() -> None:
    world = begin(step("train"))
    world.trouble = job_state.Trouble("QuotaExceeded", "pods is forbidden: exceeded quota: none")
    world.settle()
    assert world.condition("PodsReady")["reason"] == "QuotaExceeded"
    assert world.condition("Ready")["message"] == "step train: pods is forbidden: exceeded quota: none"
    assert world.reasons.count("QuotaExceeded") == 1
    assert world.wait(600) == 0


def test_a_job_of_an_attempt_that_is_over_is_stopped() -> None:
    world = begin(step("train"))
    stray = json.loads(json.dumps(world.job("nightly-train-1")))
    stray["metadata"] |= {"name": "nightly-train-0", "uid": "stray"}
    world.put(stray)
    world.settle()
    assert world.unfinished() == ["nightly-train-1"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 2**30))
def test_killed_between_any_two_writes_no_step_runs_twice(kills: list[int], seed: int) -> None:
    """The operator dies after any number of writes, again and again; the job ends as if it had not."""
    world = World(job(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), gate=GATE))
    created: set[str] = set()
    for turn, writes in enumerate([*kills, *[99] * 40]):
        world.carry_out(world.plan(), writes)
        created |= {each["metadata"]["name"] for each in world.all("Job")}
        running = world.unfinished()
        if running and (turn + seed) % 2:
            world.finish(running[seed % len(running)], report((artifact(),), accuracy="0.95"))
    assert world.status["phase"] == "Succeeded"
    assert created == {f"nightly-{name}-1" for name in "abcd"}
    assert world.status["restarts"] == 0
    assert world.settle() == 0
