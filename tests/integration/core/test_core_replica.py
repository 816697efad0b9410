"""A whole replica against a real API server: watching, leading, handing over, and doing nothing when all is well."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from modelfleet.api import names
from modelfleet.cluster.errors import NotLeaderError
from modelfleet.plan import conditions, naming
from modelfleet.plan.outcome import Outcome, RawObject
from modelfleet.reconcile.context import Context
from modelfleet.reconcile.key import Key
from tests.plane import Plane
from tests.replicas import Hands, Replica, deployment, one_service, service, settled, until

Start = Callable[..., AbstractAsyncContextManager[Replica]]


async def test_created_converged_and_then_silent(replica: Start, hands: Hands, space: str) -> None:
    async with replica({"EdgeDeployment": one_service}, resync_seconds=10) as up:
        await until(up.leads, "the Lease")
        await hands.cluster.create(deployment(space))
        before = await settled(hands, space)
        await until_quiet(up)
        written, looked = await up.metric(WRITES), await up.metric(UNCHANGED)
        # Resyncs of an own kind come and go without a write.
        await until(lambda: reached(up, UNCHANGED, looked + 1), "a resync")
        assert await up.metric(WRITES) == written
        after = await hands.cluster.read("EdgeDeployment", space, "a")
        assert after == before


WRITES = 'modelfleet_reconciles_total{kind="EdgeDeployment",result="changed"}'
UNCHANGED = 'modelfleet_reconciles_total{kind="EdgeDeployment",result="unchanged"}'


async def reached(up: Replica, metric: str, value: float) -> bool:
    return await up.metric(metric) >= value


async def until_quiet(up: Replica) -> None:
    """Until the last reconcile found nothing to write."""
    last = -1.0
    while last != await up.metric("modelfleet_reconciles_total"):
        last = await up.metric("modelfleet_reconciles_total")
        await asyncio.sleep(1)


async def test_a_child_deleted_by_hand_is_back(replica: Start, hands: Hands, space: str, plane: Plane) -> None:
    async with replica({"EdgeDeployment": one_service}):
        await hands.cluster.create(deployment(space))
        await settled(hands, space)
        old = await hands.cluster.read("Service", space, "a")
        assert old is not None
        await asyncio.to_thread(plane.kubectl.within(space), "delete", "service", "a")

        async def is_back() -> bool:
            new = await hands.cluster.read("Service", space, "a")
            return new is not None and new["metadata"]["uid"] != old["metadata"]["uid"]

        await until(is_back, "the Service to be back")


async def test_what_happened_while_no_replica_ran_is_seen_at_start(replica: Start, hands: Hands, space: str) -> None:
    await hands.cluster.create(deployment(space))
    async with replica({"EdgeDeployment": one_service}):
        await settled(hands, space)


async def test_an_error_backs_off_is_counted_and_told(replica: Start, hands: Hands, space: str) -> None:
    broken = True

    async def fails(key: Key, context: Context) -> Outcome | None:
        if broken and key.namespace == space:
            raise ValueError("a bug")
        return await one_service(key, context)

    async with replica({"EdgeDeployment": fails}) as up:
        await hands.cluster.create(deployment(space))

        async def told() -> bool:
            events = await hands.cluster.list("Event", space, field_selector="type=Warning")
            return [event["reason"] for event in events] == ["ReconcileError"]

        await until(told, "the Event")

        async def stalled() -> bool:
            obj = await hands.cluster.read("EdgeDeployment", space, "a")
            return conditions.is_true(((obj or {}).get("status") or {}).get("conditions") or (), "Stalled")

        await until(stalled, "the condition")
        assert await up.metric("modelfleet_reconcile_errors_total") >= 3
        broken = False
        await settled(hands, space)


async def test_one_of_two_leads_and_a_stop_hands_over(replica: Start, hands: Hands, space: str) -> None:
    async with replica({"EdgeDeployment": one_service}) as first:
        await until(first.leads, "the first to lead")
        async with replica({"EdgeDeployment": one_service}) as second:
            assert not await second.leads()
            first.stop.set()
            await first.task
            lease = await read_lease(hands, space)
            assert lease["spec"]["leaseTransitions"] >= 1
            await until(second.leads, "the second to lead")
            await hands.cluster.create(deployment(space))
            await settled(hands, space)


async def read_lease(hands: Hands, space: str) -> RawObject:
    lease = await hands.cluster.read("Lease", space, "modelfleet")
    assert lease is not None
    return lease


async def test_who_loses_the_lease_writes_no_more(replica: Start, hands: Hands, space: str, plane: Plane) -> None:
    async with replica() as up:
        await until(up.leads, "the Lease")
        deployed = await hands.cluster.create(deployment(space))
        taken = json.dumps({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3600}})
        await asyncio.to_thread(
            plane.kubectl.within(space), "patch", "lease", "modelfleet", "--type=merge", f"--patch={taken}"
        )
        await until(lambda: lost(up), "the Lease to be lost")
        with pytest.raises(NotLeaderError):
            await up.application._cluster.create(service(deployed))
        assert await hands.cluster.read("Service", space, "a") is None
        assert (await up.get("/healthz"))[0] == 200
        given = json.dumps({"spec": {"holderIdentity": ""}})
        await asyncio.to_thread(
            plane.kubectl.within(space), "patch", "lease", "modelfleet", "--type=merge", f"--patch={given}"
        )
        await until(up.leads, "the Lease to be back")


async def lost(up: Replica) -> bool:
    return not await up.leads()


async def test_a_schema_of_another_version_is_not_ready(replica: Start, plane: Plane, space: str) -> None:
    name = "trainingjobs.modelfleet.dev"
    crd = plane.kubectl.get("crd", name)
    assert crd is not None
    right = crd["metadata"]["annotations"][names.SCHEMA_HASH_ANNOTATION]
    async with replica() as up:
        assert await up.is_ready()
    plane.kubectl("annotate", "--overwrite", "crd", name, f"{names.SCHEMA_HASH_ANNOTATION}=other")
    started: list[Replica] = []

    async def start() -> None:
        async with replica(started=started) as up:
            assert await up.is_ready()

    try:
        starting = asyncio.create_task(start())
        await until(lambda: started, "the replica to start")
        await until(lambda: says(started[0], name), "readyz to name the CRD")
    finally:
        plane.kubectl("annotate", "--overwrite", "crd", name, f"{names.SCHEMA_HASH_ANNOTATION}={right}")
    await starting


async def says(up: Replica, text: str) -> bool:
    status, answer = await up.get("/readyz")
    return status == 503 and text in answer


async def test_stray_node_labels_are_swept_and_owned_ones_stay(replica: Start, hands: Hands, space: str) -> None:
    living = await hands.cluster.create(deployment(space))
    owned = naming.node_label_key(living["metadata"]["uid"])
    stray = naming.node_label_key("an owner that is gone")
    value, foreign = naming.node_label_value(space, "w"), naming.node_label_value("another installation", "w")
    other = naming.node_label_key("another owner")
    labels = {owned: value, stray: value, other: foreign, "pool": "none"}
    await hands.cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": space, "labels": labels}})

    async def swept() -> bool:
        node: Any = await hands.cluster.read("Node", "", space)
        return stray not in node["metadata"]["labels"]

    async with replica(sweep_interval_seconds=1):
        await until(swept, "the stray label to be swept")
    node = await hands.cluster.read("Node", "", space)
    assert node is not None
    assert {owned: value, other: foreign, "pool": "none"}.items() <= node["metadata"]["labels"].items()
