"""One training from its first step to a verified ModelVersion, the test as its kubelet, and how it has to end.

The oracle of the fault tests: whatever befalls the operator, the end is this one, and every Job was made once.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.kubectl import is_true
from tests.integration.training.conftest import Bench, artifact, found, report, step, training_job
from tests.objects import RawObject

FLOW = training_job(
    step("prepare"),
    step("train", "prepare", trainer={"image": "registry.example/train:1", "numNodes": 2}),
    gate=[{"metric": "accuracy", "comparison": ">=", "value": "0.9"}],
)


def go_through(bench: Bench, meanwhile: Callable[[], None]) -> RawObject:
    """The whole flow, the test as its kubelet; ``meanwhile`` is called until each thing has come about."""

    def until(kind: str, name: str, reached: Callable[[RawObject], Any]) -> RawObject:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            meanwhile()
            obj = bench.kubectl.get(kind, name)
            if obj is not None and reached(obj):
                return obj
        raise AssertionError(f"{kind} {name} did not get there")

    bench.kubectl.apply(FLOW)
    for name, message in (
        ("nightly-prepare-1", report(rows="500")),
        ("nightly-train-1", report(artifact(), accuracy="0.95")),
    ):
        until("job", name, lambda job: job.get("status", {}).get("active") == job["spec"]["completions"])
        bench.finish(name, message)
        until("job", name, lambda job: is_complete(job))
    return until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))


def is_complete(job: RawObject) -> bool:
    return any(each["type"] == "Complete" and each["status"] == "True" for each in job["status"].get("conditions", ()))


def normal(done: RawObject) -> RawObject:
    """The end state without what differs from run to run."""
    status = json.loads(json.dumps(done["status"]))
    for each in status["conditions"]:
        del each["lastTransitionTime"]
    return {key: value for key, value in status.items() if key not in ("startTime", "completionTime")}


def end_state(bench: Bench, done: RawObject) -> dict[str, Any]:
    """What a run comes to."""
    version = bench.kubectl.get("modelversion", "m-1-0-0")
    assert version is not None
    del version["spec"]["lineage"]["trainingJob"]["uid"]
    ours = ("StepStarted", "StepSucceeded", "GatePassed", "Registered", "StepFailed", "Restarting", "JobDeleted")
    return {
        "status": normal(done),
        "version": version["spec"],
        "events": sorted(bench.events("nightly") & set(ours)),
        "services": [each["metadata"]["name"] for each in bench.kubectl.list("services")],
    }


def is_verified_by_one_job(bench: Bench, audit_log: Path) -> None:
    """The journey's last part: the version that was registered is verified."""
    bench.finish("verify-m-1-0-0-1", found())
    version = bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))
    assert (version["status"]["stage"], version["status"]["verification"]["attempt"]) == ("Verified", 1)
    assert jobs_made(bench, audit_log, verifying=True) == ["verify-m-1-0-0-1"]


def jobs_made(bench: Bench, audit_log: Path, *, verifying: bool = False) -> list[str]:
    """Every Job of a step (or else of verification) that was ever created in the namespace, from the audit log."""
    made = []
    for line in audit_log.read_text().splitlines():
        if '"jobs"' not in line or '"create"' not in line or bench.kubectl.namespace not in line:
            continue
        event = json.loads(line)
        target = event["objectRef"]
        if (target["resource"], event["verb"], target["namespace"]) != ("jobs", "create", bench.kubectl.namespace):
            continue
        if event["responseStatus"]["code"] == 201 and "dryRun" not in event["requestURI"]:
            made.append(target["name"])
    return [name for name in made if name.startswith("verify-") == verifying]


EXPECTED = {
    "status": {
        "phase": "Succeeded",
        "observedGeneration": 1,
        "restarts": 0,
        "attempt": 1,
        "modelVersion": "m-1-0-0",
    },
    "events": ["GatePassed", "Registered", "StepStarted", "StepSucceeded"],
    "services": ["nightly-training"],
}


def assert_as_without_faults(bench: Bench, done: RawObject, audit_log: Path) -> None:
    came_to = end_state(bench, done)
    status = came_to["status"]
    assert {key: status[key] for key in EXPECTED["status"]} == EXPECTED["status"]
    assert [(each["name"], each["phase"], each["attempt"], each["jobName"]) for each in status["steps"]] == [
        ("prepare", "Succeeded", 1, "nightly-prepare-1"),
        ("train", "Succeeded", 1, "nightly-train-1"),
    ]
    assert status["gate"][0]["passed"] is True
    assert (came_to["events"], came_to["services"]) == (EXPECTED["events"], EXPECTED["services"])
    assert came_to["version"]["metrics"] == {"rows": "500", "accuracy": "0.95"}
    assert [each["name"] for each in came_to["version"]["artifacts"]] == ["fp32"]
    names = {job["metadata"]["name"] for job in bench.kubectl.list("jobs", "modelfleet.dev/training-job=nightly")}
    assert names == {"nightly-prepare-1", "nightly-train-1"}
    made = sorted(jobs_made(bench, audit_log))
    assert made == ["nightly-prepare-1", "nightly-train-1"], made
