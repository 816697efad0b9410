"""``recall``: what a finished step left in the store is reported as its pod reported it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelfleet.api.wire import FetchReport, StepReport
from modelfleet.runtime import __main__ as program
from modelfleet.runtime import recall, report, store, train
from tests.unit.file_server import Behaviour, serving


@pytest.fixture
def server() -> Iterator[Behaviour]:
    with serving() as behaviour:
        yield behaviour


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(report.TERMINATION_LOG_ENV, str(tmp_path / "termination"))
    monkeypatch.setattr(store.time, "sleep", lambda _: None)

    def begin(uri: str) -> tuple[int, bytes]:
        monkeypatch.setenv("MODELFLEET_ORDER", json.dumps({"uri": uri}))
        return program.main(["recall"]), (tmp_path / "termination").read_bytes()

    return begin


def test_it_reports_to_the_letter_what_the_steps_pod_had_reported(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {
        "trainingJob": "nightly",
        "namespace": "vision",
        "model": "m",
        "version": "1.0.0",
        "step": "train",
        "attempt": 1,
        "outputUri": f"file://{tmp_path}/store/train/1",
    }
    monkeypatch.setenv("MODELFLEET_ORDER", json.dumps(order))
    step = train.step()
    (step.folder / "m.onnx").write_bytes(b"model")
    step.save_artifact("fp32", step.folder / "m.onnx", precision="fp32")
    step.save_file("log", step.folder / "m.onnx")
    step.finish({"accuracy": 0.95})
    by_the_pod = (tmp_path / "termination").read_bytes()
    (tmp_path / "termination").unlink()
    assert run(f"file://{tmp_path}/store/train/1/results.json") == (0, by_the_pod)
    assert StepReport.model_validate_json(by_the_pod).metrics == {"accuracy": "0.95"}


def refusal(said: bytes) -> FetchReport:
    return FetchReport.model_validate_json(said)


def test_that_there_are_none_is_an_answer(run: Any, server: Behaviour) -> None:
    code, said = run(server.url("results.json"))
    assert (code, refusal(said).reason) == (0, "Unreachable")
    assert "not found in the store" in refusal(said).message


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"metrics": {"accuracy": 1}}'])
def test_a_file_that_holds_no_results_is_an_answer(run: Any, server: Behaviour, content: bytes) -> None:
    server.files["results.json"] = content
    code, said = run(server.url("results.json"))
    assert (code, refusal(said).reason) == (0, "Invalid")
    assert "holds no results of a step" in refusal(said).message


@pytest.mark.parametrize(("status", "reason"), [(503, "Unreachable"), (403, "Unauthorized")])
def test_a_store_that_does_not_answer_is_asked_again(run: Any, server: Behaviour, status: int, reason: str) -> None:
    server.statuses = [status] * 9
    code, said = run(server.url("results.json"))
    assert (code, refusal(said).reason) == (75, reason)


def test_no_more_is_read_than_results_can_be(run: Any, server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_BYTES", 10)
    server.files["results.json"] = b'{"metrics": {}}'
    code, said = run(server.url("results.json"))
    assert (code, refusal(said).reason) == (0, "Invalid")
