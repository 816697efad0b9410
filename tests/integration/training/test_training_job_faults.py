"""Training under faults, on a real API server: death around each write, lost answers, a leader that freezes.

The oracle is the end of a run without faults: the same status, Events and ModelVersion, and every Job made once.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.kubectl import is_true
from modelfleet.plan.installation import Installation
from modelfleet.reconcile import training_job as training
from modelfleet.reconcile.key import Key
from tests.integration.training.conftest import Bench, artifact, report
from tests.integration.training.journey import FLOW, assert_as_without_faults, go_through, is_verified_by_one_job
from tests.lives import Lossy, Memory, Mortal, Refused, Witness
from tests.plane import Plane

ROOT = Path(__file__).parents[3]
INSTALLATION = Installation(name="faults", namespace="default", runtime_image="modelfleet/runtime:none")


async def live(bench: Bench, memory: Memory, kind_of_connection: type[Witness]) -> None:
    key = Key("TrainingJob", bench.kubectl.namespace, "nightly")
    await memory.work(key, training.reconcile, kind_of_connection)


def test_an_operator_that_dies_before_and_after_each_of_its_writes(
    alone: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(workshop.kubeconfig))
    Mortal.deaths.clear()
    done = go_through(alone, lambda: asyncio.run(live(alone, Memory(INSTALLATION), Mortal)))
    assert_as_without_faults(alone, done, workshop.audit_log)
    # Two Jobs, the Service, the ModelVersion, Events, and the status after each.
    assert len(Mortal.deaths) >= 12
    before = Mortal.deaths.total()
    assert before >= 2 * 12
    asyncio.run(live(alone, Memory(INSTALLATION), Mortal))
    assert Mortal.deaths.total() == before


def test_an_answer_lost_to_each_write_makes_nothing_twice(
    alone: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(workshop.kubeconfig))
    Lossy.lost.clear()
    memory = Memory(INSTALLATION)
    done = go_through(alone, lambda: asyncio.run(live(alone, memory, Lossy)))
    assert_as_without_faults(alone, done, workshop.audit_log)
    assert len(Lossy.lost) >= 12


def test_every_way_to_refuse_each_write_is_tried_again(
    alone: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(workshop.kubeconfig))
    Refused.refusals.clear()
    memory = Memory(INSTALLATION)
    done = go_through(alone, lambda: asyncio.run(live(alone, memory, Refused)))
    assert_as_without_faults(alone, done, workshop.audit_log)
    assert len(Refused.refusals) >= 12


@contextmanager
def program(plane: Plane, folder: Path, namespace: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A replica of the operator as a program of its own."""
    config = folder / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "installationName": namespace,
                "namespace": namespace,
                "runtimeImage": "modelfleet/runtime:none",
                "httpHost": "127.0.0.1",
                "httpPort": 0,
                "lease": {"durationSeconds": 3, "renewDeadlineSeconds": 2, "retryPeriodSeconds": 0.5},
            }
        )
    )
    environment = {
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(plane.kubeconfig),
        "MODELFLEET_CONFIG": str(config),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "modelfleet"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_leader_that_froze_in_mid_training_starts_nothing_when_it_wakes(
    alone: Bench, workshop: Plane, tmp_path: Path
) -> None:
    namespace = alone.kubectl.namespace

    def leader(*, other_than: str) -> str:
        lease = alone.until(
            "lease", "modelfleet", lambda obj: obj["spec"].get("holderIdentity", "") not in ("", other_than)
        )
        return str(lease["spec"]["holderIdentity"])

    with program(workshop, tmp_path, namespace) as first:
        holder = leader(other_than="")
        alone.kubectl.apply(FLOW)
        alone.job("nightly-prepare-1")
        with program(workshop, tmp_path, namespace):
            first.send_signal(signal.SIGSTOP)
            leader(other_than=holder)
            alone.finish("nightly-prepare-1", report(rows="500"))
            alone.job("nightly-train-1")
            first.send_signal(signal.SIGCONT)
            alone.finish("nightly-train-1", report(artifact(), accuracy="0.95"))
            done = alone.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
            assert first.poll() is None
            assert_as_without_faults(alone, done, workshop.audit_log)
            is_verified_by_one_job(alone, workshop.audit_log)


def test_what_others_change_in_mid_training_is_put_right(bench: Bench, workshop: Plane) -> None:
    """Its status, its Jobs and its Service: edited, robbed of their labels, deleted. What is foreign stays."""
    bench.kubectl.apply(FLOW)
    bench.job("nightly-prepare-1")
    service = bench.until("service", "nightly-training", lambda each: each)
    for change in (
        {"spec": {"selector": {"app": "another"}}, "metadata": {"labels": {"team": "vision"}}},
        {"spec": {"publishNotReadyAddresses": False}},
    ):
        bench.kubectl("patch", "service", "nightly-training", "--type=merge", f"--patch={json.dumps(change)}")
    whole = {key: service["spec"][key] for key in ("selector", "publishNotReadyAddresses")}
    mended = bench.until("service", "nightly-training", lambda each: whole.items() <= each["spec"].items())
    assert mended["metadata"]["labels"]["team"] == "vision"
    bench.kubectl("delete", "service", "nightly-training")
    bench.until("service", "nightly-training", lambda each: each["metadata"]["uid"] != service["metadata"]["uid"])
    # Without its label a Job is out of sight, and without its status the TrainingJob knows of none.
    bench.kubectl("label", "job", "nightly-prepare-1", "app.kubernetes.io/managed-by-", "modelfleet.dev/training-job-")
    bench.finish("nightly-prepare-1", report(rows="500"))
    bench.job("nightly-train-1")
    wipe = ("patch", "trainingjob", "nightly", "--subresource=status", "--type=merge", '--patch={"status": null}')
    bench.kubectl(*wipe)
    bench.until("trainingjob", "nightly", lambda job: len(job.get("status", {}).get("steps", ())) == 2)
    bench.kubectl("label", "job", "nightly-prepare-1", "modelfleet.dev/training-job=nightly")
    bench.finish("nightly-train-1", report(artifact(), accuracy="0.95"))
    done = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    assert_as_without_faults(bench, done, workshop.audit_log)
