"""What the operator sees is late, out of order, lost or old: the journey ends as it does without faults."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.kubectl import is_true
from modelfleet.cluster import client, sync
from modelfleet.cluster.client import Cluster, Take
from modelfleet.cluster.connection import Connection
from modelfleet.cluster.errors import ApiError
from tests.faults import LOST, watching
from tests.integration.training.conftest import Bench, artifact, found, model_version, report
from tests.integration.training.journey import (
    FLOW,
    assert_as_without_faults,
    go_through,
    is_verified_by_one_job,
    jobs_made,
)
from tests.objects import RawObject
from tests.plane import Plane
from tests.proxy import switch

OURS = ("TrainingJob", "ModelVersion", "Job", "Pod", "Service")


@pytest.fixture
def audited(alone: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Views are compared with the API server every second; operators start with the test."""
    monkeypatch.setattr(sync, "GRACE_SECONDS", 0.2)
    chosen = alone.operator.settings
    alone.operator.settings = chosen.model_copy(update={"audit_seconds": 1.0})
    yield alone
    alone.operator.settings = chosen


def journey(bench: Bench, plane: Plane) -> None:
    done = go_through(bench, lambda: time.sleep(0.2))
    assert_as_without_faults(bench, done, plane.audit_log)
    is_verified_by_one_job(bench, plane.audit_log)


def test_a_watch_that_brings_nothing_at_all(audited: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(lambda type_, obj: LOST if obj["kind"] in OURS else 0.0, monkeypatch):
        audited.operator.start()
        journey(audited, workshop)
        audited.operator.stop()


def test_events_that_come_late_in_another_order_or_never(
    audited: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(20261121)

    def delay(type_: str | None, obj: RawObject) -> float:
        return LOST if chance.random() < 0.3 else chance.uniform(0.0, 1.5)

    with watching(delay, monkeypatch):
        audited.operator.start()
        journey(audited, workshop)
        audited.operator.stop()


def test_an_operator_that_begins_with_an_old_list(
    audited: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is of the moment when the job was new, the watch is slow, and a Job that is done was deleted since."""
    bench, namespace = audited, audited.kubectl.namespace
    bench.kubectl.apply(FLOW)
    new = bench.kubectl.get("trainingjob", "nightly")
    assert new is not None
    bench.operator.start()
    bench.finish("nightly-prepare-1", report(rows="500"))
    bench.job("nightly-train-1")
    bench.until("trainingjob", "nightly", lambda job: job["status"]["steps"][1]["phase"] == "Running")
    bench.operator.stop()
    bench.kubectl("delete", "job", "nightly-prepare-1")

    original = Cluster.list_watched

    async def old_list(self: Cluster, kind: str, take: Take) -> str:
        def take_others(each: RawObject) -> None:
            if each["metadata"].get("namespace") != namespace:
                take(each)

        await original(self, kind, take_others)
        if kind == "TrainingJob":
            take(new)
        return str(new["metadata"]["resourceVersion"])

    def slow(type_: str | None, obj: Any) -> float:
        return 3.0 if obj["metadata"].get("namespace") == namespace else 0.0

    monkeypatch.setattr(Cluster, "list_watched", old_list)
    with watching(slow, monkeypatch):
        bench.operator.start()
        bench.finish("nightly-train-1", report(artifact(), accuracy="0.95"))
        done = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
        assert (done["status"]["restarts"], done["status"]["attempt"]) == (0, 1)
        assert sorted(jobs_made(bench, workshop.audit_log)) == ["nightly-prepare-1", "nightly-train-1"]
        is_verified_by_one_job(bench, workshop.audit_log)
        bench.operator.stop()


def test_an_operator_that_was_cut_off_and_whose_watches_are_gone(
    alone: Bench, workshop: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server begins anew, so old watches get 410: what ended and what was deleted meanwhile is taken up."""
    bench = alone
    with switch(workshop.kubeconfig, tmp_path / "kubeconfig") as network:
        monkeypatch.setenv("KUBECONFIG", str(network.kubeconfig))
        bench.operator.start()
        bench.kubectl.apply(FLOW, model_version(version="2.0.0"))
        for job in ("nightly-prepare-1", "verify-m-2-0-0-1"):
            bench.job(job)
        network.cut()
        bench.finish("nightly-prepare-1", report(rows="500"))
        bench.kubectl("delete", "job", "verify-m-2-0-0-1")
        workshop.restart_api_server()
        network.mend()
        bench.finish("verify-m-2-0-0-2", found())
        bench.finish("nightly-train-1", report(artifact(), accuracy="0.95"))
        done = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
        assert_as_without_faults(bench, done, workshop.audit_log)
        version = bench.until("modelversion", "m-2-0-0", lambda each: is_true(each, "Ready"))
        assert version["status"]["verification"]["attempt"] == 2
        bench.operator.stop()


def test_a_list_that_expires_between_its_pages(alone: Bench, workshop: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    original, expired = Connection.read_on, set()

    async def read_on(self: Connection, path: str, take: Callable[[bytes], None], **options: Any) -> None:
        if "continue" in (options.get("query") or {}) and path not in expired:
            expired.add(path)
            raise ApiError(410, "Expired", f"GET {path}: the provided continue parameter is too old")
        await original(self, path, take, **options)

    names = ["m-1-0-0", "m-2-0-0"]
    alone.kubectl.apply(*(model_version(version=name[2:].replace("-", ".")) for name in names))
    monkeypatch.setattr(client, "CHUNK", 1)
    monkeypatch.setattr(Connection, "read_on", read_on)
    alone.operator.start()
    for name in names:
        alone.finish(f"verify-{name}-1", found())
        alone.until("modelversion", name, lambda each: is_true(each, "Ready"))
    alone.operator.stop()
    assert any(path.endswith("/modelversions") for path in expired)
    assert sorted(jobs_made(alone, workshop.audit_log, verifying=True)) == [f"verify-{name}-1" for name in names]
