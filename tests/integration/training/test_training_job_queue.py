"""The suspend protocol on the real API server: the test does to a Job what Kueue does."""

from e2e.kubectl import condition, is_true
from tests.integration.training.conftest import Bench, artifact, report, step, training_job

QUEUE = "kueue.x-k8s.io/queue-name"


def admit(bench: Bench, job: str, *, admitted: bool) -> None:
    patch = f'--patch={{"spec":{{"suspend":{str(not admitted).lower()}}}}}'
    bench.kubectl("patch", "job", job, "--type=merge", patch)


def test_a_queued_job_runs_when_it_is_admitted_and_only_then(bench: Bench) -> None:
    obj = training_job(step("train", trainer={"image": "registry.example/train:1", "numNodes": 2}))
    obj["metadata"]["labels"] = {QUEUE: "gpu"}
    bench.kubectl.apply(obj)
    waiting = bench.until("trainingjob", "nightly", lambda job: condition(job, "Admitted").get("status") == "False")
    assert (waiting["status"]["phase"], condition(waiting, "Ready")["reason"]) == ("Pending", "Queued")
    made = bench.until("job", "nightly-train-1", lambda job: condition(job, "Suspended").get("status") == "True")
    assert made["metadata"]["labels"][QUEUE] == "gpu"
    assert bench.pods("nightly-train-1") == []
    admit(bench, "nightly-train-1", admitted=True)
    bench.job("nightly-train-1")
    bench.until("trainingjob", "nightly", lambda job: job["status"]["phase"] == "Running")
    # Preempted: the pods go, the Job stays, and its next pods are a whole gang again.
    before = {pod["metadata"]["uid"] for pod in bench.pods("nightly-train-1")}
    admit(bench, "nightly-train-1", admitted=False)
    bench.until("trainingjob", "nightly", lambda job: condition(job, "Admitted").get("status") == "False")
    bench.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=180s")
    admit(bench, "nightly-train-1", admitted=True)
    bench.job("nightly-train-1")
    assert len({pod["metadata"]["uid"] for pod in bench.pods("nightly-train-1")} - before) == 2
    bench.finish("nightly-train-1", report(artifact()))
    done = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    assert (done["status"]["attempt"], done["status"]["restarts"]) == (1, 0)
    assert "Preempted" in bench.events("nightly")


def test_what_another_controller_manages_is_left_alone(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train"), managedBy="kueue.x-k8s.io/multikueue"))
    bench.kubectl.apply(training_job(step("train"), suspend=True) | {"metadata": {"name": "later"}})
    bench.until("trainingjob", "later", lambda job: condition(job, "Ready"))
    left = bench.kubectl.get("trainingjob", "nightly")
    assert left is not None
    assert "status" not in left
    assert bench.kubectl.list("jobs") == []
