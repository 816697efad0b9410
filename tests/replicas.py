"""Replicas of the operator inside the test's process, with reconcilers of the test's own; and what they work on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from modelfleet.api import names
from modelfleet.application import Application
from modelfleet.cluster.client import Cluster
from modelfleet.cluster.connection import Connection
from modelfleet.cluster.view import View
from modelfleet.plan.outcome import Outcome, RawObject
from modelfleet.reconcile.context import Context
from modelfleet.reconcile.key import Key
from modelfleet.settings import LeaseSetting

QUICK = LeaseSetting(duration_seconds=3.0, renew_deadline_seconds=2.0, retry_period_seconds=0.5)


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


async def one_service(key: Key, context: Context) -> Outcome | None:
    """A plan in small: one Service, and a status that counts it."""
    obj = context.view.get(*key)
    if obj is None:
        return None
    children = context.view.labelled("Service", key.namespace, names.EDGE_DEPLOYMENT_LABEL, key.name)
    return Outcome(apply=[service(obj)], status={"phase": "Healthy", "counts": {"desired": len(children)}})


async def settled(hands: Hands, space: str, name: str = "a") -> RawObject:
    """The EdgeDeployment once its status counts its Service."""

    async def counted() -> bool:
        obj = await hands.cluster.read("EdgeDeployment", space, name)
        return obj is not None and obj.get("status", {}).get("counts", {}).get("desired") == 1

    await until(counted, "the status to count the Service")
    found = await hands.cluster.read("EdgeDeployment", space, name)
    assert found is not None
    return found
