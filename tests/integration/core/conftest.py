"""A control plane with our CRDs, and replicas of the operator inside the test's process, with reconcilers of its own."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from modelfleet.application import Application
from modelfleet.cluster.client import Cluster
from modelfleet.cluster.connection import Connection, load_configuration
from modelfleet.cluster.view import View
from modelfleet.plan.outcome import Outcome
from modelfleet.reconcile.context import Context, Key, Reconcile
from modelfleet.settings import LeaseSetting, Settings
from tests.plane import Plane, control_plane_without_nodes

CRDS = Path(__file__).parents[3] / "crds"
QUICK = LeaseSetting(duration_seconds=3.0, renew_deadline_seconds=2.0, retry_period_seconds=0.5)


@pytest.fixture(scope="session")
def plane() -> Iterator[Plane]:
    with control_plane_without_nodes(f"core-{os.getpid()}") as up:
        up.kubectl("apply", "-f", str(CRDS))
        up.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield up


@pytest.fixture
def space(plane: Plane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"core-{abs(hash(request.node.nodeid)) % 16**8:08x}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


class Open:
    """A fence that lets every write through."""

    def remaining(self) -> float:
        return 30.0


@dataclass(frozen=True)
class Hands:
    """A client of the plane with a view of its own, filled by its own requests only."""

    view: View
    cluster: Cluster
    connection: Connection
    codes: list[tuple[str, str, int]]

    def writes(self) -> list[tuple[str, str, int]]:
        """The write requests so far."""
        return [each for each in self.codes if each[0] != "GET"]


@pytest.fixture
async def hands(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hands]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    codes: list[tuple[str, str, int]] = []
    connection = Connection(
        await load_configuration(), "tests", lambda verb, kind, code: codes.append((verb, kind, code))
    )
    view = View()
    yield Hands(view, Cluster(connection, view, Open()), connection, codes)
    await connection.close()


async def nothing_to_do(key: Key, context: Context) -> Outcome | None:
    """A reconciler that leaves everything as it is."""
    return None if context.view.get(*key) is None else Outcome()


@dataclass
class Replica:
    """A running replica."""

    application: Application
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of one of its HTTP pages."""
        url = f"http://127.0.0.1:{self.application.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples whose line begins with ``name``."""
        lines = (await self.get("/metrics"))[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    async def is_ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def leads(self) -> bool:
        return await self.metric("modelfleet_leader") == 1


@pytest.fixture
def replica(plane: Plane, space: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., "asynccontextmanager[Replica]"]:
    """Starts a replica whose Lease is in the test's namespace; it is stopped at the end of the ``async with``."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))

    @asynccontextmanager
    async def running(reconcilers: Mapping[str, Reconcile] | None = None, **more: Any) -> AsyncIterator[Replica]:
        chosen = Settings(
            **{
                "installation_name": space,
                "namespace": space,
                "runtime_image": "none",
                "http_port": 0,
                "lease": QUICK,
                **more,
            }
        )
        kinds = {"ModelVersion": nothing_to_do, "TrainingJob": nothing_to_do, "EdgeDeployment": nothing_to_do}
        application = Application(chosen, {**kinds, **(reconcilers or {})}, await load_configuration())
        stop = asyncio.Event()
        up = Replica(application, stop, asyncio.create_task(application.run(stop)))
        try:
            await until(lambda: application.port or up.task.done(), "the probes to answer")
            await until(up.is_ready, "the replica to be ready")
            yield up
        finally:
            stop.set()
            await up.task

    return running


async def until(reached: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    """Poll until ``reached`` (plain or async) says so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = reached()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def deployment(space: str, name: str = "a") -> dict[str, Any]:
    """A small EdgeDeployment that the API server takes."""
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "modelVersion": "m-1-0-0",
            "pools": [{"name": "p", "placement": "EveryNode", "nodeSelector": {"pool": "none"}}],
        },
    }


def service(owner: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A child Service as a plan states it."""
    metadata = owner["metadata"]
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {
                "app.kubernetes.io/managed-by": "modelfleet",
                "modelfleet.dev/edge-deployment": metadata["name"],
            },
            "ownerReferences": [{**reference, "name": metadata["name"], "uid": metadata["uid"], "controller": True}],
        },
        "spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80}], **spec},
    }
