"""From a branch on a real Git server to the version that says which commit it is, and the gate against what serves."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import git_server
from e2e.git_server import Behaviour, Repository
from e2e.kubectl import condition
from modelfleet.api.wire import CheckoutOrder, ResolveOrder
from modelfleet.plan import job_state
from modelfleet.runtime import checkout, resolve
from modelfleet.runtime.report import RefusedError, encode
from tests.integration.training.conftest import Bench, artifact, found, report, step, training_job

RESOLVE = "nightly-resolve-git-source-1"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "served" / "defect")


@pytest.fixture
def server(repository: Repository) -> Iterator[Behaviour]:
    with git_server.serving(repository.folder.parent) as up:
        yield up


def order(container: dict[str, Any]) -> str:
    """What the container is told, as the kubelet would hand it over."""
    text = next(each["value"] for each in container["env"] if each["name"] == "MODELFLEET_ORDER")
    return str(text).replace("$$", "$")


def play_resolve(bench: Bench, job: str = RESOLVE) -> None:
    """Run what the resolving pod runs, and end the pod as it would."""
    (container,) = bench.job(job)["spec"]["template"]["spec"]["containers"]
    try:
        said = resolve.resolve(ResolveOrder.model_validate_json(order(container)))
    except RefusedError as refusal:
        message = json.dumps({"reason": refusal.reason, "message": refusal.message})
        bench.finish(job, message, code=int(refusal.exit_code))
    else:
        bench.finish(job, encode(said).decode())


def test_a_branch_becomes_one_commit_for_all_steps_and_the_version(
    bench: Bench, server: Behaviour, repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit({"train/train.py": "print(1)", "train/params.yaml": "lr: 0.001\n"})
    git = {"repository": server.url("defect/.git"), "revision": "main", "path": "train"}
    bench.kubectl.apply(training_job(step("prepare"), step("train", "prepare"), source={"git": git}))
    play_resolve(bench)
    bench.job("nightly-prepare-1")
    repository.commit({"train/train.py": "print(2)"})
    bench.finish("nightly-prepare-1", report())
    made = bench.job("nightly-train-1")["spec"]["template"]["spec"]
    (init,) = made["initContainers"]
    told = CheckoutOrder.model_validate_json(order(init))
    assert told.commit == commit
    checkout.check_out(told.model_copy(update={"folder": str(tmp_path / "source")}))
    assert (tmp_path / "source/train/train.py").read_text() == "print(1)"
    assert made["containers"][0]["workingDir"] == "/workspace/source/train"
    bench.finish("nightly-train-1", report(artifact()))
    bench.kubectl("wait", "trainingjob/nightly", "--for=condition=Ready", "--timeout=180s")
    version = bench.kubectl.get("modelversion", "m-1-0-0")
    assert version is not None
    assert version["spec"]["channel"] == "production"
    assert version["spec"]["lineage"]["git"]["revision"] == commit
    assert version["spec"]["lineage"]["dvc"]["params"] == {"lr": "0.001"}
    assert "SourceResolved" in bench.events("nightly")


def test_a_revision_that_the_repository_lacks_ends_the_job(
    bench: Bench, server: Behaviour, repository: Repository
) -> None:
    repository.commit({"a": "1"})
    git = {"repository": server.url("defect/.git"), "revision": "mian"}
    bench.kubectl.apply(training_job(step("train"), source={"git": git}))
    play_resolve(bench)
    failed = bench.until("trainingjob", "nightly", lambda job: job.get("status", {}).get("phase") == "Failed")
    assert condition(failed, "Failed")["reason"] == "UnknownRevision"
    assert "its branches: main" in condition(failed, "Failed")["message"]


def test_a_server_that_is_down_is_told_and_asked_again(
    bench: Bench, server: Behaviour, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelfleet.runtime.store._FIRST_PAUSE_SECONDS", 0.001)
    repository.commit({"a": "1"})
    server.statuses = [503] * 5
    git = {"repository": server.url("defect/.git"), "revision": "main"}
    bench.kubectl.apply(training_job(step("train"), source={"git": git}))
    play_resolve(bench)
    told = bench.until("trainingjob", "nightly", lambda job: condition(job, "Ready").get("reason") == "Unreachable")
    assert "asked again at" in told["status"]["source"]["message"]
    play_resolve(bench, "nightly-resolve-git-source-2")
    bench.job("nightly-train-1")


def test_a_step_whose_commit_cannot_be_had_is_not_charged(
    bench: Bench, server: Behaviour, repository: Repository
) -> None:
    repository.commit({"a": "1"})
    git = {"repository": server.url("defect/.git"), "revision": "main"}
    bench.kubectl.apply(training_job(step("train"), source={"git": git}, backoffLimit=0))
    play_resolve(bench)
    said = json.dumps({"file": "source", "reason": "Unreachable", "message": "connection refused"})
    bench.finish("nightly-train-1", said, code=75, container=job_state.SOURCE)
    bench.until(
        "trainingjob", "nightly", lambda job: "connection refused" in condition(job, "Ready").get("message", "")
    )
    again = bench.job("nightly-train-2")
    assert again["spec"]["template"]["spec"]["initContainers"][0]["name"] == job_state.SOURCE


def test_a_model_worse_than_the_one_that_serves_is_not_registered(bench: Bench) -> None:
    gate = [{"metric": "accuracy", "direction": "Maximize", "baseline": "Online", "maxRegression": "0.005"}]
    first = training_job(step("train"), gate=gate)
    bench.kubectl.apply(first)
    bench.finish("nightly-train-1", report(artifact(), accuracy="0.95"))
    bench.kubectl("wait", "trainingjob/nightly", "--for=condition=Ready", "--timeout=180s")
    bench.finish("verify-m-1-0-0-1", found())
    line = {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": "line"},
        "spec": {"modelVersion": "m-1-0-0", "pools": [{"name": "gw", "nodeSelector": {"pool": "gw"}}]},
    }
    bench.kubectl.apply(line)
    serves = json.dumps({"status": {"stable": {"modelVersion": "m-1-0-0", "revision": "r"}}})
    bench.kubectl("patch", "edgedeployment", "line", "--subresource=status", "--type=merge", f"--patch={serves}")
    bench.until("modelversion", "m-1-0-0", lambda version: version.get("status", {}).get("stage") == "Online")
    output = {**first["spec"]["output"], "modelVersionName": "m-1-0-1"}
    second = training_job(step("train"), gate=gate, version="1.0.1", output=output)
    bench.kubectl.apply(second | {"metadata": {"name": "worse"}})
    bench.finish("worse-train-1", report(artifact(), accuracy="0.944"))
    failed = bench.until("trainingjob", "worse", lambda job: job.get("status", {}).get("phase") == "Failed")
    (judged,) = failed["status"]["gate"]
    assert (judged["baseline"], judged["passed"]) == ("m-1-0-0", False)
    assert "m-1-0-0 is online with 0.95" in condition(failed, "Failed")["message"]
    assert bench.kubectl.get("modelversion", "m-1-0-1") is None
