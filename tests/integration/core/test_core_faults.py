"""The network between operator and API server goes away, and the world changes meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.plane import Plane
from tests.proxy import Proxy, server_of, with_port
from tests.replicas import Hands, Replica, deployment, one_service, settled, until

Start = Callable[..., AbstractAsyncContextManager[Replica]]


@pytest.fixture
async def proxy(
    hands: Hands, replica: Start, plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    """Between the replicas of the test and the API server; the test itself goes past it."""
    up = Proxy(*server_of(plane.kubeconfig))
    port = await up.start()
    monkeypatch.setenv("KUBECONFIG", str(with_port(plane.kubeconfig, port, tmp_path / "kubeconfig")))
    yield up
    await up.stop()


@pytest.mark.parametrize("restart", [False, True], ids=["watch resumed", "watch gone (410), listed again"])
async def test_what_was_deleted_while_apart_is_made_again(
    replica: Start, hands: Hands, proxy: Proxy, plane: Plane, space: str, restart: bool
) -> None:
    async with replica({"EdgeDeployment": one_service}) as up:
        for name in ("a", "b"):
            await hands.cluster.create(deployment(space, name))
            await settled(hands, space, name)
        old = await hands.cluster.read("Service", space, "a")
        assert old is not None
        await proxy.cut()
        await asyncio.to_thread(plane.kubectl.within(space), "delete", "service", "a")
        if restart:
            await asyncio.to_thread(plane.restart_api_server)
        assert up.application._view.get("Service", space, "a") is not None
        proxy.mend()

        async def is_back() -> bool:
            new = await hands.cluster.read("Service", space, "a")
            return new is not None and new["metadata"]["uid"] != old["metadata"]["uid"]

        await until(is_back, "the Service to be made again", 60)
        await until(up.leads, "the Lease to be had again", 60)
        assert (await up.get("/healthz"))[0] == 200


async def test_a_store_of_changes_made_while_apart_ends_at_the_last_one(
    replica: Start, hands: Hands, proxy: Proxy, plane: Plane, space: str
) -> None:
    async with replica({"EdgeDeployment": one_service}):
        await hands.cluster.create(deployment(space))
        await settled(hands, space)
        await proxy.cut()
        kubectl = plane.kubectl.within(space)
        for application in ("y", "z"):
            patch = f'--patch={{"spec":{{"selector":{{"app":"{application}"}}}}}}'
            await asyncio.to_thread(kubectl, "patch", "service", "a", patch)
        proxy.mend()

        async def is_right() -> bool:
            live = await hands.cluster.read("Service", space, "a")
            return live is not None and live["spec"]["selector"] == {"app": "x"}

        await until(is_right, "the Service to be put right", 60)
