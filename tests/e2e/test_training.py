"""TrainingJobs in real pods: the way to a registered version, and each way a step can fail."""

from typing import Any

from e2e.kubectl import Kubectl, condition, is_true
from e2e.project import Files
from tests import objects
from tests.objects import ARTIFACT, REPORT

WHEN_TOLD = """
import time
from modelfleet.runtime import report, store, train
step = train.step()
while True:
    try:
        store.find("{told}", step.order.credentials_path)
        break
    except report.RefusedError:
        time.sleep(0.5)
step.finish(metrics={{"rows": 500}})
"""
"""A step script that ends when a file is in the store, with its results."""


def reasons(kubectl: Kubectl, name: str) -> set[str]:
    """The reasons of all Events about an object."""
    return {event["reason"] for event in kubectl.list("events.events.k8s.io") if event["regarding"]["name"] == name}


def failed(job: dict[str, Any]) -> bool:
    return bool(job.get("status", {}).get("phase") == "Failed")


def test_a_diamond_of_steps_registers_a_version(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str
) -> None:
    nothing = REPORT.format(metrics="{}")
    kubectl.apply(
        objects.training_job(
            files,
            namespace,
            [
                objects.step("prepare", train_image, nothing),
                objects.step("left", train_image, nothing, "prepare"),
                objects.step("right", train_image, nothing, "prepare"),
                objects.step("join", train_image, ARTIFACT, "left", "right"),
            ],
            gate=[{"metric": "accuracy", "comparison": ">=", "value": "0.9"}],
        )
    )
    kubectl("wait", "trainingjob/job", "--for=condition=Ready", "--timeout=300s")
    kubectl("wait", "modelversion/m-1-0-0", "--for=condition=Ready", "--timeout=60s")
    done = kubectl.wait_for("trainingjob", "job", lambda job: is_true(job, "Ready"))
    assert [step["phase"] for step in done["status"]["steps"]] == ["Succeeded"] * 4
    version = kubectl.wait_for("modelversion", "m-1-0-0", lambda version: is_true(version, "Ready"))
    assert version["spec"]["lineage"]["trainingJob"]["name"] == "job"
    assert {"StepStarted", "StepSucceeded", "GatePassed", "Registered"} <= reasons(kubectl, "job")

    # The same spec created again trains nothing again.
    kubectl("delete", "trainingjob", "job", "--wait=true")
    del done["metadata"]["uid"], done["metadata"]["resourceVersion"], done["status"]
    kubectl.apply(done)
    again = kubectl.wait_for("trainingjob", "job", lambda job: is_true(job, "Ready"))
    assert condition(again, "Complete")["reason"] == "AlreadyRegistered"
    assert kubectl.list("jobs", "modelfleet.dev/training-job=job") == []


def test_a_failing_step_is_tried_again_and_then_fails_the_job(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str
) -> None:
    script = "import sys; print('no such file: data.csv'); sys.exit(3)"
    kubectl.apply(
        objects.training_job(files, namespace, [objects.step("prepare", train_image, script)], backoffLimit=1)
    )
    done = kubectl.wait_for("trainingjob", "job", failed)
    assert done["status"]["restarts"] == 1
    message = condition(done, "Failed")["message"]
    assert "prepare" in message
    assert "3" in message
    assert {"Restarting", "StepFailed"} <= reasons(kubectl, "job")
    assert kubectl.get("modelversion", "m-1-0-0") is None


def test_a_step_without_results_says_what_to_do(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str
) -> None:
    kubectl.apply(
        objects.training_job(files, namespace, [objects.step("prepare", train_image, "pass")], backoffLimit=0)
    )
    done = kubectl.wait_for("trainingjob", "job", failed)
    assert condition(done, "Failed")["reason"] == "ResultsMissing"
    assert "prepare" in condition(done, "Failed")["message"]


def test_malformed_results_are_refused(kubectl: Kubectl, files: Files, namespace: str, train_image: str) -> None:
    script = "open('/dev/termination-log', 'w').write('accuracy=0.9')"
    kubectl.apply(
        objects.training_job(files, namespace, [objects.step("prepare", train_image, script)], backoffLimit=0)
    )
    done = kubectl.wait_for("trainingjob", "job", failed)
    assert condition(done, "Failed")["reason"] == "ResultsMalformed"


def test_a_metric_below_the_gate_registers_nothing(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str
) -> None:
    kubectl.apply(
        objects.training_job(
            files,
            namespace,
            [objects.step("train", train_image, ARTIFACT)],
            gate=[
                {"metric": "accuracy", "comparison": ">=", "value": "0.99"},
                {"metric": "recall", "comparison": ">=", "value": "0.5"},
            ],
        )
    )
    done = kubectl.wait_for("trainingjob", "job", failed)
    assert condition(done, "Failed")["reason"] == "GateFailed"
    assert [rule["passed"] for rule in done["status"]["gate"]] == [False, False]
    assert "accuracy" in condition(done, "Failed")["message"]
    assert kubectl.get("modelversion", "m-1-0-0") is None


def test_an_image_that_cannot_be_pulled_is_named(kubectl: Kubectl, files: Files, namespace: str) -> None:
    kubectl.apply(
        objects.training_job(files, namespace, [objects.step("prepare", "registry.example/none/such:1", "pass")])
    )
    observed = kubectl.wait_for(
        "trainingjob",
        "job",
        lambda job: "registry.example/none/such:1" in str(job.get("status", {}).get("conditions", [])),
    )
    assert observed["status"]["phase"] == "Running"


def test_a_namespace_without_quota_left_is_told(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str
) -> None:
    kubectl("create", "quota", "none", "--hard=pods=0")
    kubectl.apply(
        objects.training_job(files, namespace, [objects.step("prepare", train_image, REPORT.format(metrics="{}"))])
    )
    kubectl.wait_for(
        "trainingjob", "job", lambda job: "exceeded quota" in str(job.get("status", {}).get("conditions", []))
    )


def test_a_job_deleted_by_hand_is_run_again(kubectl: Kubectl, files: Files, namespace: str, train_image: str) -> None:
    slow = "import time; time.sleep(15); " + REPORT.format(metrics="{}")
    kubectl.apply(
        objects.training_job(
            files,
            namespace,
            [objects.step("prepare", train_image, slow), objects.step("train", train_image, ARTIFACT, "prepare")],
        )
    )
    kubectl.wait_for("job", "job-prepare-1", lambda job: job.get("status", {}).get("active") == 1)
    kubectl("delete", "job", "job-prepare-1")
    done = kubectl.wait_for("trainingjob", "job", lambda job: is_true(job, "Ready"), timeout=300)
    assert done["status"].get("restarts", 0) == 0
    assert done["status"]["steps"][0]["jobName"] == "job-prepare-2"


def test_steps_that_end_while_no_operator_is_there_are_not_run_again(
    kubectl: Kubectl, operator_pods: Kubectl, files: Files, namespace: str, train_image: str
) -> None:
    """One loses its pod and one its Job before anybody read their reports: the store has their results."""
    told = files.uri(f"{namespace}/go")
    first = [objects.step(name, train_image, WHEN_TOLD.format(told=told)) for name in ("one", "other")]
    last = objects.step("train", train_image, ARTIFACT, "one", "other")
    kubectl.apply(objects.training_job(files, namespace, [*first, last]))
    for name in ("one", "other"):
        kubectl.wait_for("job", f"job-{name}-1", lambda job: job.get("status", {}).get("active") == 1)
    operator_pods("scale", "deployment", "modelfleet", "--replicas=0")
    operator_pods("wait", "pods", "--for=delete", "--selector=app.kubernetes.io/name=modelfleet", "--timeout=90s")
    try:
        files.write(told, b"go")
        for name in ("one", "other"):
            kubectl("wait", f"job/job-{name}-1", "--for=condition=Complete", "--timeout=180s")
        kubectl("delete", "pods", "--selector=batch.kubernetes.io/job-name=job-one-1", "--wait=true")
        kubectl("delete", "job", "job-other-1", "--wait=true")
    finally:
        operator_pods("scale", "deployment", "modelfleet", "--replicas=2")
    done = kubectl.wait_for("trainingjob", "job", lambda job: is_true(job, "Ready"), timeout=300)
    assert [step["attempt"] for step in done["status"]["steps"]] == [1, 1, 1]
    assert [step["results"]["metrics"] for step in done["status"]["steps"][:2]] == [{"rows": "500"}] * 2
    jobs = {job["metadata"]["name"] for job in kubectl.list("jobs", "modelfleet.dev/training-job=job")}
    assert jobs == {"job-one-1", "job-one-1-recall", "job-other-1-recall", "job-train-1"}


def test_a_job_deleted_midway_leaves_nothing_running(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str
) -> None:
    kubectl.apply(
        objects.training_job(files, namespace, [objects.step("prepare", train_image, "import time; time.sleep(600)")])
    )
    kubectl.wait_for("job", "job-prepare-1", lambda job: job.get("status", {}).get("active") == 1)
    kubectl("delete", "trainingjob", "job", "--wait=true")
    kubectl("wait", "pods", "--for=delete", "--selector=modelfleet.dev/training-job=job", "--timeout=60s")
    assert kubectl.list("jobs") == []
    assert kubectl.list("services") == []
