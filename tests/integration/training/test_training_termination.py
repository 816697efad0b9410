"""Trainings that end early, stall or give way: decided from reports over TLS, and told by the answers to them."""

import time
from typing import Any

import pytest

from e2e.kubectl import condition, is_true
from modelfleet.api import progress
from modelfleet.api.wire import BEST_METRIC, CPU_METRIC, WAIT_METRIC
from tests.integration.training.conftest import Bench, artifact, report, step, training_job
from tests.integration.training.test_training_job_flow import TRAINER
from tests.objects import RawObject
from tests.progress_client import endpoint, post, said, token


class Training:
    """The gang of a step, as its rank 0 reports."""

    def __init__(self, bench: Bench, job: str = "nightly-train-1") -> None:
        self._port = endpoint(bench.kubectl.within("default"))["port"]
        self._job = bench.job(job)
        bench.ready(job)
        self._token = token(bench.kubectl, bench.pods(job)[0])

    def tell(self, percentage: int, **metrics: str) -> str:
        """Report; what the answer asks for."""
        answer = post(self._job, self._port, self._token, said(percentage, **metrics))
        assert answer.code == 200, answer
        return answer.headers.get(progress.REQUEST_HEADER, "")


def asked(bench: Bench, action: str) -> RawObject:
    """The job, once its first step is asked for this."""

    def reached(job: RawObject) -> bool:
        steps = job.get("status", {}).get("steps") or [{}]
        return bool(steps[0].get("request", {}).get("action") == action)

    return bench.until("trainingjob", "nightly", reached)


def test_a_training_that_gets_no_better_finishes_and_the_job_goes_on(bench: Bench) -> None:
    rule = {"metric": "val_loss", "direction": "Minimize", "patience": 5}
    steps = (step("train", trainer=TRAINER), step("check", "train"))
    bench.kubectl.apply(training_job(*steps, termination=rule))
    training = Training(bench)
    assert training.tell(40, val_loss="0.5", **{BEST_METRIC: "0.4", WAIT_METRIC: "5"}) == ""
    stopped = asked(bench, "Finish")
    assert condition(stopped, "EarlyStopped")["reason"] == "NoImprovement"
    assert stopped["status"]["steps"][0]["watch"]["bestValue"] == "0.4"
    assert training.tell(41) == "Finish"
    bench.finish("nightly-train-1", report(artifact(), val_loss="0.4"))
    bench.finish("nightly-check-1", report())
    done = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    assert is_true(done, "EarlyStopped")
    assert (done["status"]["restarts"], done["status"]["attempt"]) == (0, 1)
    assert "EarlyStopped" in bench.events("nightly")


def test_a_gang_that_falls_silent_begins_again(bench: Bench) -> None:
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER), termination={"maxStallSeconds": 2}))
    Training(bench).tell(40)
    bench.job("nightly-train-2")
    again = bench.until("trainingjob", "nightly", lambda job: job["status"]["attempt"] == 2)
    assert again["status"]["restarts"] == 1
    assert "TrainingStalled" in bench.events("nightly")


@pytest.mark.parametrize(
    ("action", "priority"),
    [
        ({"action": "CheckpointAndYield", "yieldSeconds": 1}, None),
        ({"action": "LowerPriority", "priorityClassName": "scavenger"}, "scavenger"),
    ],
)
def test_a_gang_on_a_busy_node_gives_way(bench: Bench, action: dict[str, Any], priority: str | None) -> None:
    bench.kubectl.apply(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "scavenger"},
            "value": -10,
        }
    )
    rule = {"resourcePressure": {"seconds": 1, **action}}
    checkpoint = {"volumeClaimName": "checkpoints"}
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER), termination=rule, checkpoint=checkpoint))
    training = Training(bench)
    for percentage in range(100):
        if training.tell(percentage, **{CPU_METRIC: "0.99"}) == "Yield":
            break
        time.sleep(1.5)
    asked(bench, "Yield")
    # With the exit code of a launcher.
    bench.finish("nightly-train-1", code=1)
    bench.job("nightly-train-2")
    assert {pod["spec"].get("priorityClassName") for pod in bench.pods("nightly-train-2")} == {priority}
    again = bench.until("trainingjob", "nightly", lambda job: job["status"]["attempt"] == 2)
    assert (again["status"]["restarts"], "request" in again["status"]["steps"][0]) == (0, False)
    assert {"ResourcePressure", "Yielded"} <= bench.events("nightly")
