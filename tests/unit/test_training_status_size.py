"""A TrainingJob's status at its largest: below 32 KiB, still valid, and with all that the plan goes by."""

import json
from typing import Any

import pytest

from modelfleet.api import wire
from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.plan import conditions
from modelfleet.plan.training import progress, status_size
from tests.unit.job_world import DIGEST, World, job, report, step

MOMENT = "2026-11-21T06:00:00Z"


def said(letter: str, length: int = conditions.MESSAGE_LENGTH) -> str:
    return letter * length


def largest(letter: str, *, done: int) -> dict[str, Any]:
    """Everything at its bound at once; of 16 steps so many are done, with all the room that results may take."""
    metrics = {f"{'m' * 60}{index}": "-0.1234567890123456" for index in range(10, 99)}
    room = min(progress.RESULTS_LENGTH // done, wire.REPORT_LIMIT)
    results: dict[str, Any] = {"uri": "s3://models/" + "x" * 100, "sha256": DIGEST, "metrics": {}}
    for name, value in metrics.items():
        if len(json.dumps(results)) + 100 < room:
            results["metrics"] |= {name: value}
    request = {"action": "Finish", "attempt": 100_000, "time": MOMENT, "message": said(letter, 160)}
    watch = {
        "attempt": 100_000,
        "lastReportTime": MOMENT,
        "value": "1" * 64,
        "bestValue": "1" * 64,
        "bestTime": MOMENT,
        "withoutImprovement": 100_000,
        "pressureSince": MOMENT,
    }
    steps = [
        {
            "name": f"{'s' * 13}{index}",
            "phase": "Succeeded" if index - 10 < done else "Pending",
            "attempt": 100_000,
            "jobName": "j" * 60,
            "restarts": 100_000,
            "message": said(letter),
            "watch": watch,
            "request": request,
            "priorityClassName": "p" * 253,
            **({"results": results} if index - 10 < done else {"nextAttemptTime": MOMENT}),
        }
        for index in range(10, 26)
    ]
    gate = [
        {
            "metric": f"{'m' * 61}{index}",
            "value": "-0.1234567890123456789012345678",
            "required": "<= " + "1" * 60,
            "baseline": "b" * 63,
            "message": said(letter),
            "passed": True,
        }
        for index in range(10, 26 if done == 16 else 10)
    ]
    # Together what a termination message holds.
    source = {
        "revision": "4f" * 20,
        "refs": [f"refs/heads/{'r' * 180}{index}" for index in range(10, 26)],
        "channel": "preproduction",
        "dvc": {"revision": "4f" * 20, "params": {f"{'p' * 60}{index}": "v" * 20 for index in range(8)}},
        "attempt": 100_000,
        "jobName": "j" * 60,
        "message": said(letter),
    }
    trainer = {
        "progressPercentage": 100,
        "estimatedRemainingSeconds": 2_147_483_647,
        "metrics": [{"name": f"{'m' * 58}{index}", "value": "1" * 64} for index in range(10, 42)],
        "lastUpdatedTime": MOMENT,
        "step": "s" * 15,
        "attempt": 100_000,
        "startTime": MOMENT,
        "startPercentage": 99,
    }
    types = ("Complete", "Failed", "Suspended", "PodsReady", "Admitted", "EarlyStopped", "Ready", "Reconciling")
    stated = [
        {
            "type": type_,
            "status": "Unknown",
            "reason": "ModelVersionInvalid",
            "message": said(letter),
            "observedGeneration": 100_000,
            "lastTransitionTime": MOMENT,
        }
        for type_ in (*types, "Stalled")
    ]
    return {
        "observedGeneration": 100_000,
        "phase": "Suspended",
        "startTime": MOMENT,
        "completionTime": MOMENT,
        "restarts": 100_000,
        "attempt": 100_000,
        "steps": steps,
        "gate": gate,
        "source": source,
        "trainerStatus": trainer,
        "modelVersion": "v" * 63,
        "conditions": stated,
    }


@pytest.mark.parametrize("letter", ["x", "ü", "模", "🙂"])
@pytest.mark.parametrize("done", [1, 4, 8, 15, 16])
def test_the_largest_status_is_below_32_kib_and_keeps_what_the_plan_goes_by(letter: str, done: int) -> None:
    whole = largest(letter, done=done)
    TrainingJobStatus.model_validate(whole)
    assert status_size.size(whole) > 32 * 1024
    cut = status_size.bounded(whole)
    TrainingJobStatus.model_validate(cut)
    assert status_size.size(cut) <= status_size.MOST_BYTES
    assert status_size.bounded(cut) == cut
    for before, after in zip(whole["steps"], cut["steps"], strict=True):
        lost = {"message", "request"} | ({"watch", "priorityClassName"} if after["phase"] == "Succeeded" else set())
        assert {key: value for key, value in before.items() if key not in lost}.items() <= after.items()
        assert {**before["request"], "message": ""} == {**after["request"], "message": ""}
    for before, after in zip(whole["gate"], cut["gate"], strict=True):
        assert {**before, "message": ""} == {**after, "message": ""}
    assert cut["source"]["dvc"] == whole["source"]["dvc"]
    assert cut["source"]["refs"][0] == whole["source"]["refs"][0]
    assert all(each["message"].startswith(letter * 30) for each in cut["conditions"])


def test_a_status_of_usual_size_is_left_as_it_is() -> None:
    whole = largest("x", done=1) | {"source": None, "gate": [], "trainerStatus": None}
    whole["steps"] = whole["steps"][:3]
    assert status_size.bounded(whole) == whole


def test_a_job_whose_steps_all_have_much_to_say_stays_below_32_kib_and_comes_to_rest() -> None:
    names = [f"step-{index}" for index in range(16)]
    world = World(job(*(step(name) for name in names), backoffLimit=20))
    world.settle()
    for name in names[:3]:
        metrics = {f"{name}-{index}-{'x' * 40}": "0.123456789" for index in range(50)}
        world.finish(f"nightly-{name}-1", report(**metrics))
        world.settle()
    for name in names[3:]:
        world.finish(f"nightly-{name}-1", "模型" * 200, code=1)
    world.settle()
    assert status_size.size(world.status) < 32 * 1024
    TrainingJobStatus.model_validate(world.status)
    world.wait(11)
    assert len(world.unfinished()) == 13
