"""What a training tells of itself: the latest word, off its own path, and no fault of it is the training's."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import http_server
from modelfleet.api import progress
from modelfleet.api.wire import BEST_METRIC, MEMORY_METRIC, ORDER_ENV, WAIT_METRIC, EarlyStopOrder, StepOrder
from modelfleet.runtime import progress as runtime
from modelfleet.runtime import train
from modelfleet.runtime.progress import Reporter


class Operator:
    """Takes reports, and answers with the codes it was given; 200 when there are none left."""

    def __init__(self, folder: Path) -> None:
        self.reports: list[dict[str, Any]] = []
        self.codes: list[int] = []
        self.asks = ""
        self.arrived = threading.Condition()
        self.gate = threading.Event()
        self.gate.set()
        self.token = folder / "token"
        self.token.write_text("first\n")
        outer = self

        class Handler(http_server.Handler):
            def post(self) -> None:
                body = json.loads(self.body())
                outer.gate.wait(60)
                with outer.arrived:
                    code = outer.codes.pop(0) if outer.codes else 200
                    outer.reports.append({"sender": self.headers["Authorization"], "code": code, **body})
                    outer.arrived.notify_all()
                answer = json.dumps({"message": "because", "code": code}).encode()
                self.answer(code, answer, {progress.REQUEST_HEADER: outer.asks} if outer.asks else {})

        self.handler = Handler
        self.address = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            progress.URL_ENV: f"{self.address}/x",
            progress.TOKEN_ENV: str(self.token),
        }

    def wait(self, count: int) -> list[dict[str, Any]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.reports) >= count, 60)
            return list(self.reports)


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    # What a busy machine takes its time for is no fault that is tried again.
    monkeypatch.setattr(runtime, "REQUEST_SECONDS", 60.0)
    monkeypatch.setattr(runtime, "CLOSE_SECONDS", 60.0)
    up = Operator(tmp_path)
    with http_server.answering(up.handler) as up.address:
        yield up
        up.gate.set()


def test_a_report_is_what_trainer_takes(operator: Operator) -> None:
    reporter = Reporter(operator.environment, interval=0.01)
    reporter.tell(42.9, {"loss": 0.25, "epoch": 3, "note": "warm", "nan": float("nan")}, 90.5)
    (report,) = operator.wait(1)
    parsed = progress.Progress.model_validate_json(json.dumps(report)).trainer_status
    assert parsed is not None
    assert parsed.last_updated_time is not None
    assert (parsed.progress_percentage, parsed.estimated_remaining_seconds) == (42, 90)
    metrics = {metric.name: metric.value for metric in parsed.metrics or ()}
    assert metrics == {"loss": "0.25", "epoch": "3", "note": "warm", "nan": "nan"}
    assert report["sender"] == "Bearer first"
    operator.token.write_text("second")
    reporter.tell(43)
    assert operator.wait(2)[1]["sender"] == "Bearer second"
    reporter.close()


def test_the_latest_word_wins_and_the_last_is_sent(operator: Operator) -> None:
    reporter = Reporter(operator.environment, interval=3600)
    operator.gate.clear()
    reporter.tell(1, {"val_loss": 1.0})
    for done in range(2, 1000):
        reporter.tell(done / 10, {"loss": done})
    operator.gate.set()
    operator.wait(1)
    reporter.tell(100)
    reporter.close()
    reports = operator.wait(2)
    # The first may have gone out before anything else was said.
    last = reports[-1]["trainerStatus"]
    assert len(reports) == 2
    assert last["progressPercentage"] == 100
    assert {"name": "loss", "value": "999"} in [
        metric for each in reports for metric in each["trainerStatus"].get("metrics", ())
    ]
    reporter.tell(50)
    assert len(operator.reports) == 2


@pytest.mark.parametrize("code", [403, 429, 500, 503])
def test_what_was_not_taken_is_sent_again(operator: Operator, code: int) -> None:
    operator.codes = [code, code]
    reporter = Reporter(operator.environment, interval=0.01)
    reporter.tell(7, {"loss": 1})
    reports = operator.wait(3)
    assert [each["code"] for each in reports] == [code, code, 200]
    assert {each["trainerStatus"]["progressPercentage"] for each in reports} == {7}
    reporter.close()


def test_what_is_malformed_is_not_sent_again(operator: Operator) -> None:
    operator.codes = [422]
    reporter = Reporter(operator.environment, interval=0.01)
    reporter.tell(7)
    operator.wait(1)
    reporter.tell(8)
    assert operator.wait(2)[1]["trainerStatus"]["progressPercentage"] == 8
    reporter.close()


def test_an_attempt_that_is_over_is_silent(operator: Operator) -> None:
    operator.codes = [409]
    reporter = Reporter(operator.environment, interval=0.01)
    reporter.tell(7)
    operator.wait(1)
    reporter.close()
    reporter.tell(8)
    assert len(operator.reports) == 1


@pytest.mark.parametrize("missing", [progress.TOKEN_ENV, "server"])
def test_no_fault_is_the_trainings(operator: Operator, missing: str, caplog: pytest.LogCaptureFixture) -> None:
    environment = operator.environment
    if missing == "server":
        environment[progress.URL_ENV] = "http://127.0.0.1:9/x"
    else:
        del environment[missing]
    reporter = Reporter(environment, interval=0.01)
    for done in range(20):
        reporter.tell(done, {"odd": object(), "": 1})
    reporter.close()
    assert "could not be told" in caplog.text
    assert caplog.text.count("could not be told") < 3


def test_outside_of_a_cluster_nothing_is_sent() -> None:
    reporter = Reporter({})
    reporter.tell(50)
    reporter.close()


@pytest.mark.parametrize(("rank", "told"), [("0", [25, 100]), ("1", [])])
def test_a_step_tells_it_by_its_rank_zero(
    operator: Operator, rank: str, told: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv(train.LOCAL_RUN_ENV, str(tmp_path / "run"))
    for name, value in operator.environment.items():
        monkeypatch.setenv(name, value)
    step = train.step(local="train")
    step.progress(1, of=4, metrics={"loss": 0.5})
    if told:
        operator.wait(1)
    step.progress(4, of=4)
    step.finish({"accuracy": 0.9})
    assert [each["trainerStatus"]["progressPercentage"] for each in operator.reports] == told


@pytest.mark.parametrize(
    ("asks", "finishes", "gives_way"), [("", False, False), ("Finish", True, False), ("Yield", False, True)]
)
def test_an_answer_may_ask_for_something_and_evaluations_are_counted(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, asks: str, finishes: bool, gives_way: bool
) -> None:
    rule = EarlyStopOrder(metric="val_loss", maximize=False, min_delta="0")
    order = StepOrder(
        training_job="nightly",
        namespace="vision",
        model="m",
        version="1.0.0",
        step="train",
        attempt=1,
        output_uri="s3://models/m",
        early_stop=rule,
        tells_pressure=True,
    )
    monkeypatch.setenv(ORDER_ENV, order.model_dump_json(by_alias=True, exclude_none=True))
    for name, value in operator.environment.items():
        monkeypatch.setenv(name, value)
    operator.asks = asks
    step = train.step()
    for epoch, loss in enumerate((0.5, 0.6), 1):
        step.progress(epoch, of=2, metrics={"val_loss": loss})
    step.reporter.close()
    metrics = {each["name"]: each["value"] for each in operator.wait(1)[-1]["trainerStatus"]["metrics"]}
    assert metrics.keys() >= {"val_loss", BEST_METRIC, WAIT_METRIC, MEMORY_METRIC}
    assert (step.should_finish(), step.told.give_way) == (finishes, gives_way)
