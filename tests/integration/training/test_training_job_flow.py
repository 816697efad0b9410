"""TrainingJobs against a real Job controller: from the first step to a registered version, and what comes between."""

import json

from e2e.kubectl import condition, is_true
from tests.integration.training.conftest import Bench, artifact, found, no_results, report, step, training_job
from tests.integration.training.journey import is_complete, jobs_made
from tests.objects import RawObject
from tests.plane import Plane

TRAINER = {"image": "registry.example/train:1", "command": ["torchrun", "train.py"], "numNodes": 2}


def test_two_pods_train_and_a_version_is_registered_and_verified(bench: Bench) -> None:
    gate = [{"metric": "accuracy", "comparison": ">=", "value": "0.9"}]
    bench.kubectl.apply(
        training_job(step("prepare"), step("train", "prepare", trainer=TRAINER), step("check", "train"), gate=gate)
    )
    bench.finish("nightly-prepare-1", report())
    service = bench.until("service", "nightly-training", lambda _: True)
    assert service["spec"]["clusterIP"] == "None"
    bench.job("nightly-train-1")
    assert {pod["spec"]["hostname"] for pod in bench.pods("nightly-train-1")} == {
        "nightly-train-1-0",
        "nightly-train-1-1",
    }
    bench.finish("nightly-train-1", report(artifact(), accuracy="0.5"))
    bench.finish("nightly-check-1", report(accuracy="0.95"))
    bench.kubectl("wait", "trainingjob/nightly", "--for=condition=Ready", "--timeout=180s")
    done = bench.kubectl.get("trainingjob", "nightly")
    assert done is not None
    assert (done["status"]["phase"], done["status"]["modelVersion"]) == ("Succeeded", "m-1-0-0")
    bench.finish("verify-m-1-0-0-1", found())
    bench.kubectl("wait", "modelversion/m-1-0-0", "--for=condition=Ready", "--timeout=180s")
    version = bench.kubectl.get("modelversion", "m-1-0-0")
    assert version is not None
    assert version["status"]["stage"] == "Verified"
    assert version["spec"]["metrics"] == {"accuracy": "0.95"}
    assert version["spec"]["lineage"]["trainingJob"]["uid"] == done["metadata"]["uid"]
    assert {"StepStarted", "StepSucceeded", "GatePassed", "Registered"} <= bench.events("nightly")
    assert "Verified" in bench.events("m-1-0-0")
    nothing_was_asked_twice(bench)
    costs_nothing_when_looked_at_again(bench, done, version)


def nothing_was_asked_twice(bench: Bench) -> None:
    """What the API server takes is created, and not asked for in a dry run before."""
    made = [each for each in bench.operator.writes() if each["objectRef"].get("namespace") == bench.kubectl.namespace]
    created = [(each["objectRef"]["resource"], each["objectRef"]["name"]) for each in made if each["verb"] == "create"]
    assert len(created) == len(set(created))
    assert {"jobs", "modelversions"} <= {resource for resource, _ in created}


def costs_nothing_when_looked_at_again(bench: Bench, *objects: RawObject) -> None:
    """Wake the operator for converged objects with writes of ours; it makes none."""
    before = len(bench.operator.writes())
    for turn in range(3):
        for obj in objects:
            kind, name = obj["kind"].lower(), obj["metadata"]["name"]
            bench.kubectl("label", kind, name, f"looked-at=turn-{turn}", "--overwrite")
    # A job made now is planned after those: once it was seen, they were.
    bench.kubectl.apply(training_job(step("a"), suspend=True) | {"metadata": {"name": "later"}})
    bench.until("trainingjob", "later", lambda job: condition(job, "Ready"))
    writes = bench.operator.writes()[before:]
    # What earlier tests left behind in their own namespaces may still be looked after.
    targets = [each["objectRef"] for each in writes if each["objectRef"]["namespace"] == bench.kubectl.namespace]
    assert {each["name"] for each in targets if each["resource"] != "events"} == {"later"}
    for obj in objects:
        now = bench.kubectl.get(obj["kind"], obj["metadata"]["name"])
        assert now is not None
        assert now["status"] == obj["status"]


def test_a_step_that_exits_with_an_error_ends_the_job_with_its_last_words(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("prepare"), step("side"), backoffLimit=0))
    bench.job("nightly-side-1")
    bench.finish("nightly-prepare-1", "no such file: data.csv", code=3)
    failed = bench.until("trainingjob", "nightly", lambda job: job.get("status", {}).get("phase") == "Failed")
    assert "exit code 3: no such file: data.csv" in condition(failed, "Failed")["message"]
    assert condition(failed, "Stalled")["status"] == "True"
    assert "StepFailed" in bench.events("nightly")
    # What ran beside it is stopped.
    bench.kubectl("wait", "job/nightly-side-1", "--for=delete", "--timeout=180s")


def test_a_gang_that_loses_a_rank_begins_again_as_a_whole(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER)))
    bench.job("nightly-train-1")
    second = bench.pods("nightly-train-1")[1]
    bench.say(second, "Failed", "train", {"terminated": {"exitCode": 1, "message": "boom"}})
    again = bench.job("nightly-train-2")
    assert again["spec"]["completions"] == 2
    status = bench.until("trainingjob", "nightly", lambda job: job["status"].get("restarts") == 1)["status"]
    assert (status["attempt"], status["steps"][0]["jobName"]) == (2, "nightly-train-2")
    assert "Restarting" in bench.events("nightly")


def test_a_pod_that_is_drained_does_not_count_as_a_failure(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train"), backoffLimit=0))
    bench.job("nightly-train-1")
    (pod,) = bench.pods("nightly-train-1")
    disrupted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "lastTransitionTime": "2026-11-21T00:00:00Z",
    }
    patch = json.dumps({"status": {"phase": "Failed", "conditions": [disrupted]}})
    bench.kubectl(
        "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=strategic", f"--patch={patch}"
    )
    bench.job("nightly-train-2")
    observed = bench.until("trainingjob", "nightly", lambda job: job["status"]["attempt"] == 2)
    assert observed["status"]["restarts"] == 0
    assert "Disrupted" in bench.events("nightly")


def test_a_job_deleted_by_hand_is_run_again(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train"), backoffLimit=0))
    bench.job("nightly-train-1")
    bench.kubectl("delete", "job", "nightly-train-1")
    bench.finish("nightly-train-1-recall", no_results())
    bench.job("nightly-train-2")
    observed = bench.until("trainingjob", "nightly", lambda job: job["status"]["attempt"] == 2)
    assert observed["status"]["restarts"] == 0


def test_a_step_that_was_done_before_anybody_looked_is_not_run_again(bench: Bench, workshop: Plane) -> None:
    """Its pod is gone, or its Job: what it made is read from the store."""
    bench.kubectl.apply(training_job(step("first"), step("second"), step("last", "first", "second")))
    bench.job("nightly-first-1")
    bench.job("nightly-second-1")
    bench.until("trainingjob", "nightly", lambda job: job["status"]["phase"] == "Running")
    bench.operator.stop()
    try:
        for each in ("first", "second"):
            bench.finish(f"nightly-{each}-1", report(artifact(each)))
            bench.until("job", f"nightly-{each}-1", is_complete)
        (pod,) = bench.pods("nightly-first-1")
        bench.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
        bench.kubectl("delete", "job", "nightly-second-1")
        bench.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=180s")
    finally:
        bench.operator.start()
    for each in ("first", "second"):
        bench.finish(f"nightly-{each}-1-recall", report(artifact(each)))
    bench.finish("nightly-last-1", report())
    done = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    assert [each["attempt"] for each in done["status"]["steps"]] == [1, 1, 1]
    made = sorted(jobs_made(bench, workshop.audit_log))
    steps = [f"nightly-{each}-1" for each in ("first", "second", "last")]
    assert made == sorted([*steps, "nightly-first-1-recall", "nightly-second-1-recall"])


def test_a_step_starts_when_the_pods_of_another_are_ready(bench: Bench) -> None:
    waits = [{"name": "server", "status": "Ready"}]
    bench.kubectl.apply(training_job(step("server", trainer=TRAINER), {**step("client"), "dependsOn": waits}))
    bench.job("nightly-server-1")
    waiting = bench.until("trainingjob", "nightly", lambda job: len(job["status"].get("steps", ())) == 2)
    assert waiting["status"]["steps"][1]["message"] == "waiting for server to be ready"
    bench.ready("nightly-server-1")
    bench.job("nightly-client-1")
    bench.finish("nightly-server-1", report())
    bench.finish("nightly-client-1", report(artifact()))
    bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))


def test_suspension_stops_the_pods_and_resumption_starts_new_ones(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train")))
    bench.job("nightly-train-1")
    bench.kubectl("patch", "trainingjob", "nightly", "--type=merge", '--patch={"spec": {"suspend": true}}')
    bench.until("trainingjob", "nightly", lambda job: job["status"]["phase"] == "Suspended")
    bench.kubectl("wait", "job/nightly-train-1", "--for=delete", "--timeout=180s")
    # Seen to be gone in the suspension, it is known to have ended by it, and the store is not asked.
    bench.until("trainingjob", "nightly", lambda job: job["status"]["steps"][0].get("nextAttemptTime"))
    bench.kubectl("patch", "trainingjob", "nightly", "--type=merge", '--patch={"spec": {"suspend": false}}')
    bench.job("nightly-train-2")
    running = bench.until("trainingjob", "nightly", lambda job: job["status"]["phase"] == "Running")
    assert condition(running, "Suspended")["status"] == "False"


def test_a_job_deleted_midway_leaves_nothing_even_without_the_operator(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER)))
    bench.job("nightly-train-1")
    bench.operator.stop()
    try:
        bench.kubectl("delete", "trainingjob", "nightly")
        for kind, name in (("job", "nightly-train-1"), ("service", "nightly-training")):
            bench.kubectl("wait", f"{kind}/{name}", "--for=delete", "--timeout=180s")
        bench.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=180s")
    finally:
        bench.operator.start()


def test_what_ended_while_the_operator_was_away_is_taken_up(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("prepare"), step("train", "prepare")))
    bench.job("nightly-prepare-1")
    bench.operator.stop()
    try:
        bench.finish("nightly-prepare-1", report())
        bench.kubectl("wait", "job/nightly-prepare-1", "--for=condition=Complete", "--timeout=180s")
    finally:
        bench.operator.start()
    bench.finish("nightly-train-1", report(artifact()))
    bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    assert {job["metadata"]["name"] for job in bench.kubectl.list("jobs", "modelfleet.dev/training-job=nightly")} == {
        "nightly-prepare-1",
        "nightly-train-1",
    }


def test_the_same_spec_created_again_trains_nothing(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train")))
    bench.finish("nightly-train-1", report(artifact()))
    bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    bench.kubectl("delete", "trainingjob", "nightly")
    bench.kubectl("wait", "job/nightly-train-1", "--for=delete", "--timeout=180s")
    bench.kubectl.apply(training_job(step("train")))
    again = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    assert condition(again, "Complete")["reason"] == "AlreadyRegistered"
    assert bench.kubectl.list("jobs", "modelfleet.dev/training-job=nightly") == []
