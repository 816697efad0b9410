"""An operator that is there before its CustomResourceDefinitions: it says so, waits, and then misses nothing."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.plane import control_plane_without_nodes
from tests.replicas import Replica, deployment, one_service, until

CRDS = Path(__file__).parents[3] / "crds"


async def test_crds_that_come_later_are_waited_for(
    replica: Callable[..., AbstractAsyncContextManager[Replica]], space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with control_plane_without_nodes(f"late-{os.getpid()}") as plane:
        monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
        plane.kubectl("create", "namespace", space)
        kubectl = plane.kubectl.within(space)
        started: list[Replica] = []

        async def answers(status: int, text: str) -> bool:
            found = await started[0].get("/readyz")
            return found[0] == status and text in found[1]

        async def apply_when_asked_for() -> None:
            await until(lambda: started, "the replica to start")
            await until(lambda: answers(503, "does not list the group modelfleet.dev"), "readyz to tell")
            assert (await started[0].get("/healthz"))[0] == 200
            await asyncio.to_thread(kubectl, "apply", "-f", str(CRDS))

        applying = asyncio.create_task(apply_when_asked_for())
        async with replica({"EdgeDeployment": one_service}, started=started) as up:
            await applying
            await until(up.leads, "the Lease")
            # Made while it runs, so it is known from the watch alone.
            await asyncio.to_thread(kubectl.apply, deployment(space))
            await until(lambda: kubectl.get("service", "a"), "the Service")
