"""What keeps a TrainingJob from running, each told in a condition and an Event that name the object and the remedy."""

import json

import pytest

from e2e.kubectl import condition
from tests.integration.training.conftest import DIGEST, Bench, artifact, model_version, report, step, training_job
from tests.objects import RawObject


def failed(job: RawObject) -> bool:
    return bool(job.get("status", {}).get("phase") == "Failed")


def test_no_node_takes_a_pod(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train"), nodeSelector={"pool": "none"}))
    observed = bench.until(
        "trainingjob", "nightly", lambda job: condition(job, "Ready").get("reason") == "Unschedulable"
    )
    assert "no node takes pod nightly-train-1-0" in condition(observed, "Ready")["message"]
    assert "no nodes available" in condition(observed, "Ready")["message"]
    assert condition(observed, "PodsReady")["status"] == "False"
    assert "Unschedulable" in bench.events("nightly")


def test_an_image_that_cannot_be_pulled(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train")))
    bench.job("nightly-train-1")
    (pod,) = bench.pods("nightly-train-1")
    bench.bind(pod)
    bench.say(pod, "Pending", "train", {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}})
    observed = bench.until(
        "trainingjob", "nightly", lambda job: condition(job, "Ready").get("reason") == "ImagePullFailed"
    )
    assert "imagePullSecrets" in condition(observed, "Ready")["message"]
    assert observed["status"]["phase"] == "Running"


@pytest.mark.parametrize("kind", ["trainingjob", "modelversion"])
def test_the_secret_for_a_private_registry_is_not_there(bench: Bench, kind: str) -> None:
    """The kubelet tells it in an Event alone, and asks the registry as nobody."""
    obj = training_job(step("train")) if kind == "trainingjob" else model_version()
    bench.kubectl.apply(obj)
    job, container = ("nightly-train-1", "train") if kind == "trainingjob" else ("verify-m-1-0-0-1", "verify")
    bench.job(job)
    (pod,) = bench.pods(job)
    bench.bind(pod)
    bench.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "no-secret"},
            "type": "Warning",
            "reason": "FailedToRetrieveImagePullSecret",
            "message": "Unable to retrieve some image pull secrets (plant-registry); attempting to pull the image"
            " may not succeed.",
            "source": {"component": "kubelet"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": pod["metadata"]["name"],
                "namespace": pod["metadata"]["namespace"],
                "uid": pod["metadata"]["uid"],
            },
        }
    )
    bench.say(pod, "Pending", container, {"waiting": {"reason": "ErrImagePull", "message": "401 Unauthorized"}})
    observed = bench.until(
        kind, obj["metadata"]["name"], lambda each: "plant-registry" in condition(each, "Ready").get("message", "")
    )
    ready = condition(observed, "Ready")
    assert ready["reason"] == "ImagePullFailed"
    assert "its namespace has no Secret plant-registry" in ready["message"]


def test_a_namespace_without_quota_for_pods(bench: Bench) -> None:
    bench.kubectl("create", "quota", "none", "--hard=pods=0")
    bench.kubectl.apply(training_job(step("train")))
    observed = bench.until(
        "trainingjob", "nightly", lambda job: condition(job, "Ready").get("reason") == "QuotaExceeded"
    )
    assert "exceeded quota: none" in condition(observed, "Ready")["message"]
    assert "QuotaExceeded" in bench.events("nightly")


def test_a_quota_that_demands_limits_takes_all_pods_that_we_make(bench: Bench) -> None:
    """Of each container: what fetches, what trains, what recalls results, what verifies."""
    demanded = "limits.cpu=99,limits.memory=999Gi,requests.cpu=99,requests.memory=999Gi"
    bench.kubectl("create", "quota", "demanding", f"--hard={demanded}")
    bench.until("quota", "demanding", lambda quota: quota.get("status", {}).get("hard"))
    dataset = {"storageUri": "https://data.example/d.npz", "digest": f"sha256:{DIGEST}"}
    limits = {"limits": {"cpu": "1", "memory": "1Gi"}}
    bench.kubectl.apply(training_job(step("train", resources=limits), initializer={"dataset": dataset}))
    bench.job("nightly-train-1")
    bench.kubectl("delete", "job", "nightly-train-1")
    bench.finish("nightly-train-1-recall", report(artifact()))
    bench.job("verify-m-1-0-0-1")


def test_a_namespace_without_quota_for_jobs(bench: Bench) -> None:
    bench.kubectl("create", "quota", "none", "--hard=count/jobs.batch=0")
    bench.until("quota", "none", lambda quota: quota.get("status", {}).get("hard"))
    bench.kubectl.apply(training_job(step("train")))
    observed = bench.until(
        "trainingjob", "nightly", lambda job: condition(job, "Stalled").get("reason") == "JobRefused"
    )
    assert "exceeded quota: none" in condition(observed, "Stalled")["message"]
    assert observed["status"]["phase"] == "Pending"


@pytest.mark.parametrize(
    ("message", "reason"), [("", "ResultsMissing"), ("accuracy=0.9", "ResultsMalformed"), (report(), "NoArtifacts")]
)
def test_a_step_that_does_not_report_as_it_should(bench: Bench, message: str, reason: str) -> None:
    bench.kubectl.apply(training_job(step("train")))
    bench.finish("nightly-train-1", message)
    observed = bench.until("trainingjob", "nightly", failed)
    assert condition(observed, "Failed")["reason"] == reason
    assert reason in bench.events("nightly")


def test_a_metric_below_the_gate(bench: Bench) -> None:
    gate = [{"metric": name, "comparison": ">=", "value": "0.9"} for name in ("accuracy", "recall")]
    bench.kubectl.apply(training_job(step("train"), gate=gate))
    bench.finish("nightly-train-1", report(artifact(), accuracy="0.89"))
    observed = bench.until("trainingjob", "nightly", failed)
    assert condition(observed, "Failed")["message"] == (
        "metric accuracy is 0.89, required >= 0.9; metric recall was not reported as a finite number, required >= 0.9"
    )
    assert observed["status"]["gate"] == [
        {"metric": "accuracy", "value": "0.89", "required": ">= 0.9", "passed": False},
        {"metric": "recall", "required": ">= 0.9", "passed": False},
    ]
    assert "GateFailed" in bench.events("nightly")
    assert bench.kubectl.get("modelversion", "m-1-0-0") is None


def test_a_version_that_somebody_registered_by_hand(bench: Bench) -> None:
    bench.kubectl.apply(model_version())
    bench.kubectl.apply(training_job(step("train")))
    observed = bench.until("trainingjob", "nightly", failed)
    assert condition(observed, "Failed")["reason"] == "ModelVersionExists"
    assert "registered by hand" in condition(observed, "Failed")["message"]
    assert bench.kubectl.list("jobs", "modelfleet.dev/training-job=nightly") == []


def create_refused(bench: Bench) -> str:
    """What the API server says to a ModelVersion, in a dry run."""
    return bench.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(model_version()), check=False)


def test_a_version_that_a_policy_refuses(bench: Bench) -> None:
    name = bench.kubectl.namespace
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "resourceRules": [
                    {
                        "apiGroups": ["modelfleet.dev"],
                        "apiVersions": ["*"],
                        "operations": ["CREATE"],
                        "resources": ["modelversions"],
                    }
                ],
            },
            "validations": [{"expression": "false", "message": "versions need a signature"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    bench.kubectl.apply(policy, binding)
    try:
        bench.kubectl.apply(training_job(step("train")))
        bench.job("nightly-train-1")
        # An API server takes up a new policy a moment after it was written.
        bench.until("namespace", name, lambda _: "versions need a signature" in create_refused(bench))
        bench.finish("nightly-train-1", report(artifact()))
        observed = bench.until("trainingjob", "nightly", failed)
        assert condition(observed, "Failed")["reason"] == "ModelVersionRefused"
        assert "versions need a signature" in condition(observed, "Failed")["message"]
    finally:
        bench.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)


def test_a_cycle_of_steps(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("a", "b"), step("b", "a")))
    observed = bench.until("trainingjob", "nightly", failed)
    assert condition(observed, "Stalled")["reason"] == "InvalidDag"
    assert "a -> b -> a" in condition(observed, "Stalled")["message"]
    assert "InvalidDag" in bench.events("nightly")
