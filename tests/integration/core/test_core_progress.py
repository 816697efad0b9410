"""The Service of the progress server leads to whoever leads, under one authority that outlives each of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from modelfleet.api import progress
from modelfleet.cluster import papers
from modelfleet.plan.outcome import RawObject
from tests import operators
from tests.plane import Plane
from tests.replicas import Hands, Replica, until

Start = Callable[..., AbstractAsyncContextManager[Replica]]
TOLD: dict[str, Any] = {"progress": operators.told()}


@pytest.fixture
async def brought(plane: Plane, space: str) -> AsyncIterator[None]:
    """What the chart brings."""
    await asyncio.to_thread(plane.kubectl.within(space).apply, *operators.progress(space))
    yield


async def endpoint(hands: Hands, space: str) -> tuple[str, int]:
    """Where the Service leads."""
    found = await hands.cluster.read("EndpointSlice", space, operators.PROGRESS)
    if found is None:
        return "", 0
    return found["endpoints"][0]["addresses"][0], found["ports"][0]["port"]


async def leads_to(hands: Hands, space: str, up: Replica) -> None:
    async def reached() -> bool:
        return up.application.progress.port > 0 and await endpoint(hands, space) == (
            operators.POD_ADDRESS,
            up.application.progress.port,
        )

    await until(reached, "the Service to lead there")


async def authority(hands: Hands, space: str) -> bytes:
    held: RawObject | None = await hands.cluster.read("Secret", space, operators.PROGRESS)
    assert held is not None
    return papers.data(held).get("ca.crt", b"")


async def ask(up: Replica) -> int:
    """The code of a report without a token."""
    url = f"https://127.0.0.1:{up.application.progress.port}{progress.path('a', 'b')}"
    async with aiohttp.ClientSession() as session, session.post(url, json={}, ssl=False) as answer:
        assert answer.content_type == "application/json"
        assert (answer.headers.get("Connection") == "close") == (answer.status == 503)
        return answer.status


@pytest.mark.usefixtures("brought")
async def test_the_service_follows_the_leader(replica: Start, hands: Hands, space: str) -> None:
    async with replica(**TOLD) as first:
        await leads_to(hands, space, first)
        trusted = await authority(hands, space)
        assert len(x509.load_pem_x509_certificates(trusted)) == 1
        assert await ask(first) == 403
        async with replica(**TOLD) as second:
            first.stop.set()
            await first.task
            await leads_to(hands, space, second)
            assert await ask(second) == 403
        assert await authority(hands, space) == trusted
    owners = (await hands.cluster.read("EndpointSlice", space, operators.PROGRESS) or {})["metadata"]["ownerReferences"]
    assert [(owner["kind"], owner["name"]) for owner in owners] == [("Service", operators.PROGRESS)]


@pytest.mark.usefixtures("brought")
async def test_who_leads_no_more_says_so_and_takes_the_place_again(
    replica: Start, hands: Hands, space: str, plane: Plane
) -> None:
    kubectl = plane.kubectl.within(space)

    async def hold(holder: str) -> None:
        patch = json.dumps({"spec": {"holderIdentity": holder, "leaseDurationSeconds": 3600}})
        await asyncio.to_thread(kubectl, "patch", "lease", "modelfleet", "--type=merge", f"--patch={patch}")

    async with replica(**TOLD) as up:
        await leads_to(hands, space, up)
        await hold("somebody")

        async def is_refused() -> bool:
            return await ask(up) == 503

        await until(is_refused, "the answer that it does not lead")
        # Whoever leads in between writes the slice over; then there is none of ours left.
        await asyncio.to_thread(kubectl, "delete", "endpointslice", operators.PROGRESS)
        await hold("")
        await leads_to(hands, space, up)
        assert await ask(up) == 403


async def test_without_what_the_chart_brings_all_else_works(replica: Start, hands: Hands, space: str) -> None:
    async with replica(**TOLD) as up:
        await until(up.leads, "the Lease")
        assert up.application.progress.port == 0
        assert await endpoint(hands, space) == ("", 0)
