"""A control plane with our CRDs, for replicas inside the test's process."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modelfleet.application import Application
from modelfleet.cluster.client import Cluster
from modelfleet.cluster.connection import Connection, load_configuration
from modelfleet.cluster.view import View
from modelfleet.reconcile.context import Reconcile
from modelfleet.settings import Settings
from tests.plane import Plane, control_plane_without_nodes
from tests.replicas import QUICK, Hands, Open, Replica, nothing_to_do, until

CRDS = Path(__file__).parents[3] / "crds"


@pytest.fixture(scope="package")
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


@pytest.fixture
def replica(
    plane: Plane, space: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractAsyncContextManager[Replica]]:
    """Starts a replica whose Lease is in the test's namespace; it is stopped at the end of the ``async with``."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))

    @asynccontextmanager
    async def running(
        reconcilers: Mapping[str, Reconcile] | None = None, started: list[Replica] | None = None, **more: Any
    ) -> AsyncIterator[Replica]:
        chosen = Settings(
            **{
                "installation_name": space,
                "namespace": space,
                "runtime_image": "none",
                "http_host": "127.0.0.1",
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
            if started is not None:
                started.append(up)
            await until(up.is_ready, "the replica to be ready")
            yield up
        finally:
            stop.set()
            await up.task

    return running
