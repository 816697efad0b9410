"""Training pods tell the leader their progress: with real tokens, over real TLS, and none but those that may."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelfleet.api import progress
from tests.integration.training.conftest import Bench, artifact, found, report, step, training_job
from tests.integration.training.test_training_job_flow import TRAINER, costs_nothing_when_looked_at_again
from tests.objects import RawObject
from tests.progress_client import Answer, endpoint, environment, post, said, token


@pytest.fixture
def port(bench: Bench) -> int:
    """Where the leader listens."""
    found: int = endpoint(bench.kubectl.within("default"))["port"]
    return found


def running(bench: Bench, name: str = "nightly-train-1") -> tuple[RawObject, RawObject]:
    """A running training's Job and the pod of its rank 0."""
    job = bench.job(name)
    pod = bench.pods(name)[0]
    return job, pod


def shown(bench: Bench, percentage: int, attempt: int = 1) -> RawObject:
    """The progress in the status, once it is this."""

    def reached(job: RawObject) -> bool:
        found = job.get("status", {}).get("trainerStatus", {})
        return (found.get("progressPercentage"), found.get("attempt")) == (percentage, attempt)

    found: RawObject = bench.until("trainingjob", "nightly", reached)["status"]["trainerStatus"]
    return found


def test_a_report_is_shown_to_the_end(bench: Bench, port: int) -> None:
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER), step("check", "train")))
    job, pod = running(bench)
    host = "https://modelfleet-progress.default.svc:8443"
    assert environment(job)[progress.URL_ENV] == host + progress.path(bench.kubectl.namespace, "nightly")
    body = said(40, val_loss="0.21")
    answer = post(job, port, token(bench.kubectl, pod), body)
    assert (answer.code, answer.body["trainerStatus"]["progressPercentage"]) == (200, 40), answer
    first = shown(bench, 40)
    assert (first["step"], first["metrics"]) == ("train", [{"name": "val_loss", "value": "0.21"}])
    table = bench.kubectl("get", "tj", "nightly").splitlines()
    assert table[1].split()[table[0].split().index("PROGRESS")] == "40"
    # What comes in within the next ten seconds is not written by itself, and not lost either.
    assert post(job, port, token(bench.kubectl, pod), said(41, val_loss="0.2")).code == 200
    bench.finish("nightly-train-1", report(artifact()))
    assert shown(bench, 100)["metrics"] == [{"name": "val_loss", "value": "0.2"}]
    bench.finish("nightly-check-1", report())
    bench.kubectl("wait", "trainingjob/nightly", "--for=condition=Ready", "--timeout=180s")
    done = bench.kubectl.get("trainingjob", "nightly")
    assert done is not None
    assert done["status"]["trainerStatus"]["estimatedRemainingSeconds"] == 0
    bench.finish("verify-m-1-0-0-1", found())
    bench.kubectl("wait", "modelversion/m-1-0-0", "--for=condition=Ready", "--timeout=180s")
    costs_nothing_when_looked_at_again(bench, done)
    refused(post(job, port, token(bench.kubectl, pod), said(50)), 409, "TrainingJob", "is over: Succeeded")


def test_only_pods_of_the_attempt_that_runs_are_heard(bench: Bench, port: int) -> None:
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER)))
    other = training_job(step("train", trainer=TRAINER)) | {"metadata": {"name": "other"}}
    bench.kubectl.apply(other)
    job, pod = running(bench)
    _, foreign = running(bench, "other-train-1")
    bench.kubectl("run", "stranger", "--image=i", f"--labels={','.join(f'{k}={v}' for k, v in labels(pod).items())}")
    stranger = bench.until("pod", "stranger", lambda _: True)
    good = token(bench.kubectl, pod)
    header, payload, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "exp": claims["exp"] + 1}).encode()).decode().rstrip("=")
    for bad in (
        "",
        "nonsense",
        "a.b.c",
        f"{header}.{forged}.{signature}",
        token(bench.kubectl, pod, "https://kubernetes.default.svc"),
        bench.kubectl("create", "token", "default", f"--audience={progress.AUDIENCE}").strip(),
        token(bench.kubectl, foreign),
        token(bench.kubectl, stranger),
    ):
        refused(post(job, port, bad, said(99)), 403, "pod")
    nowhere = progress.path(bench.kubectl.namespace, "other")
    refused(post(job, port, good, said(99), nowhere), 403, "pod")
    refused(post(job, port, good, said(99), progress.path("default", "nightly")), 403, "pod")
    assert post(job, port, good, said(10)).code == 200
    shown(bench, 10)
    second = bench.pods("nightly-train-1")[1]
    bench.say(second, "Failed", "train", {"terminated": {"exitCode": 1, "message": "boom"}})
    again, newer = running(bench, "nightly-train-2")
    # Whether its pod is gone by now or not.
    assert post(job, port, good, said(99)).code in (403, 409)
    assert post(again, port, token(bench.kubectl, newer), said(5)).code == 200
    assert shown(bench, 5, attempt=2)["startPercentage"] == 5


def labels(pod: RawObject) -> RawObject:
    """Those of a pod that a Job controller would not take for its own."""
    ours: RawObject = pod["metadata"]["labels"]
    return {key: value for key, value in ours.items() if "controller-uid" not in key}


def test_what_is_wrong_with_a_report_is_said(bench: Bench, port: int) -> None:
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER)))
    job, pod = running(bench)
    mine = token(bench.kubectl, pod)
    refused(post(job, port, mine, b"x" * (progress.BODY_LIMIT + 1)), 413, "bytes")
    for body, words in (
        (b"{", ("JSON",)),
        ([], ("object",)),
        (said(101), ("trainerStatus.progressPercentage", "100")),
        ({"trainerStatus": {"progressPercentage": "40"}}, ("trainerStatus.progressPercentage", "integer")),
        ({"trainerStatus": {"metrics": [{"name": "loss", "value": 0.5}]}}, ("metrics.0.value", "string")),
    ):
        refused(post(job, port, mine, body), 422, *words)
    refused(post(job, port, mine, said(1), "/metrics"), 404, "POST")
    refused(post(job, port, mine, said(1), method="GET"), 404, "POST")
    # Nothing told, nothing shown; and fields that are not known are not minded.
    assert post(job, port, mine, {"somethingNew": {}}).code == 200
    # Eight at a time, so that a slow machine is still quicker than one in a second.
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: post(job, port, mine, {}), range(48)))
    assert {answer.code for answer in answers} == {200, 429}
    assert {answer.headers.get("Retry-After") for answer in answers if answer.code == 429} == {"5"}
    status = bench.until("trainingjob", "nightly", lambda job: job["status"]["phase"] == "Running")["status"]
    assert "trainerStatus" not in status


def refused(answer: Answer, code: int, *words: str) -> None:
    assert answer.code == answer.body["code"] == code, answer
    assert answer.body["status"] == "Failure"
    for word in words:
        assert word in answer.body["message"], answer
