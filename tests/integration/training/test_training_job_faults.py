"""Training under faults, on a real API server: death around each write, lost answers, a leader that freezes.

The oracle is the end of a run without faults: the same status, Events and ModelVersion, and every Job made once.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from e2e.kubectl import is_true
from modelfleet.cluster.client import Cluster
from modelfleet.cluster.connection import Connection, load_configuration
from modelfleet.cluster.data_plane import DataPlane
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.kinds import VIEWED_KINDS
from modelfleet.cluster.view import View
from modelfleet.plan.installation import Installation
from modelfleet.reconcile import training_job as training
from modelfleet.reconcile.confirmations import Confirmations
from modelfleet.reconcile.context import Context
from modelfleet.reconcile.execute import Executor
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.measurements import Measurements
from modelfleet.reconcile.reports import Reports
from tests.integration.training.conftest import Bench, artifact, report
from tests.integration.training.journey import FLOW, assert_as_without_faults, go_through, is_verified_by_one_job
from tests.objects import RawObject
from tests.plane import Plane
from tests.replicas import Open

ROOT = Path(__file__).parents[3]
INSTALLATION = Installation(name="faults", namespace="default", runtime_image="modelfleet/runtime:none")


async def _nothing_is_measured(address: str, query: str) -> float | None:
    raise AssertionError("a training asks no metrics server")


def _now() -> datetime:
    return datetime.now(UTC)


MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")


class DeathError(Exception):
    """The operator died here."""


class Mortal(Connection):
    """Dies before each write, and when that is tried again, after it was done and before it is told."""

    deaths: ClassVar[Counter[tuple[str, str, str]]] = Counter()

    async def request(self, method: str, path: str, **fields: Any) -> RawObject:
        if method == "GET" or (fields.get("query") or {}).get("dryRun"):
            return await super().request(method, path, **fields)
        # The same write tried again says another time.
        call = (method, path, MOMENT.sub("", json.dumps(fields.get("body"), sort_keys=True)))
        if Mortal.deaths[call] == 0:
            Mortal.deaths[call] += 1
            raise DeathError(f"before {method} {path}")
        answer = await super().request(method, path, **fields)
        if Mortal.deaths[call] == 1:
            Mortal.deaths[call] += 1
            raise DeathError(f"after {method} {path}")
        return answer


class Lossy(Connection):
    """Does every write, and loses the answer the first time."""

    lost: ClassVar[set[tuple[str, str, str]]] = set()

    async def request(self, method: str, path: str, **fields: Any) -> RawObject:
        answer = await super().request(method, path, **fields)
        call = (method, path, MOMENT.sub("", json.dumps(fields.get("body"), sort_keys=True)))
        if method == "GET" or (fields.get("query") or {}).get("dryRun") or call in Lossy.lost:
            return answer
        Lossy.lost.add(call)
        raise ApiError(0, "Unreachable", f"{method} {path}: no answer in time")


class Refused(Connection):
    """Refuses each write in several ways, one after the other, before it does it."""

    refusals: ClassVar[Counter[tuple[str, str, str]]] = Counter()

    async def request(self, method: str, path: str, **fields: Any) -> RawObject:
        if method == "GET" or (fields.get("query") or {}).get("dryRun"):
            return await super().request(method, path, **fields)
        # To an Event, 409 says that it was made before, and a refusal that it is not wanted.
        codes = (429, 500) if path.endswith("/events") else (409, 422, 429, 500)
        call = (method, path, MOMENT.sub("", json.dumps(fields.get("body"), sort_keys=True)))
        Refused.refusals[call] += 1
        if Refused.refusals[call] <= len(codes):
            code = codes[Refused.refusals[call] - 1]
            raise ApiError(code, "Injected", f"{method} {path}: injected", 1.0 if code == 429 else None)
        return await super().request(method, path, **fields)


class Memory:
    """What an operator knows: its view, and what its executor remembers. A new one is that of a new process."""

    def __init__(self) -> None:
        self.view = View()
        self.executor: Executor | None = None

    async def work(self, bench: Bench, kind_of_connection: type[Connection]) -> None:
        """List what there is, as a watch would tell it, and write until nothing is left to write, or a fault."""
        connection = kind_of_connection(await load_configuration(), "modelfleet-operator/faults")
        cluster = Cluster(connection, self.view, Open())
        executor = self.executor = self.executor or Executor(cluster, self.view, time.monotonic, lambda *_: None)
        # Connections live as long as an event loop, the memory longer.
        executor._cluster = cluster
        measurements = Measurements(_nothing_is_measured, lambda _: None, _now, lambda _: None)
        confirmations = Confirmations(DataPlane().ask, lambda _: None, _now)
        reports = Reports(lambda _: None)
        context = Context(self.view, cluster, INSTALLATION, measurements, confirmations, reports, _now)
        key = Key("TrainingJob", bench.kubectl.namespace, "nightly")
        try:
            for kind in VIEWED_KINDS:
                for obj in await cluster.list_watched(kind):
                    self.view.observe(obj)
            written = True
            while written:
                seen = self.view.get(*key)
                outcome = await training.reconcile(key, context)
                assert seen is not None
                assert outcome is not None
                written, _ = await executor.execute(seen, outcome)
        except (DeathError, ApiError):
            pass
        finally:
            await connection.close()


def test_an_operator_that_dies_before_and_after_each_of_its_writes(
    alone: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(workshop.kubeconfig))
    Mortal.deaths.clear()
    done = go_through(alone, lambda: asyncio.run(Memory().work(alone, Mortal)))
    assert_as_without_faults(alone, done, workshop.audit_log)
    # Two Jobs, the Service, the ModelVersion, Events, and the status after each.
    assert len(Mortal.deaths) >= 12
    before = Mortal.deaths.total()
    assert before >= 2 * 12
    asyncio.run(Memory().work(alone, Mortal))
    assert Mortal.deaths.total() == before


def test_an_answer_lost_to_each_write_makes_nothing_twice(
    alone: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(workshop.kubeconfig))
    Lossy.lost.clear()
    memory = Memory()
    done = go_through(alone, lambda: asyncio.run(memory.work(alone, Lossy)))
    assert_as_without_faults(alone, done, workshop.audit_log)
    assert len(Lossy.lost) >= 12


def test_every_way_to_refuse_each_write_is_tried_again(
    alone: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(workshop.kubeconfig))
    Refused.refusals.clear()
    memory = Memory()
    done = go_through(alone, lambda: asyncio.run(memory.work(alone, Refused)))
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
