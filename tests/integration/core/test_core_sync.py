"""The audit, with a view that nobody feeds: the worst a watch stream can do."""

import pytest

from modelfleet.cluster import sync
from modelfleet.cluster.sync import Synchronizer
from modelfleet.plan.outcome import ObjectRef
from tests.plane import Plane
from tests.replicas import Hands, deployment, service


@pytest.fixture
def synchronizer(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> Synchronizer:
    monkeypatch.setattr(sync, "GRACE_SECONDS", 0.1)
    return Synchronizer(hands.cluster, hands.view, 3600.0, lambda kind: None)


async def test_what_vanished_unseen_is_taken_out(
    synchronizer: Synchronizer, hands: Hands, space: str, plane: Plane
) -> None:
    owner = await hands.cluster.create(deployment(space))
    await hands.cluster.create(service(owner))
    await synchronizer.fill()
    assert hands.view.get("Service", space, "a") is not None
    plane.kubectl.within(space)("delete", "service", "a")
    # The audit proves it by a list at least as new as the object; the watch cache may need a moment for that.
    while hands.view.get("Service", space, "a") is not None:
        await synchronizer.audit("Service")
    assert not synchronizer.dead_streams()


async def test_the_history_of_a_daemon_set_is_not_taken_for_ours(
    synchronizer: Synchronizer, hands: Hands, space: str
) -> None:
    """Its controller gives it the labels of the pods, which are ours."""
    labels = {"app.kubernetes.io/managed-by": "modelfleet"}
    for name, more in (("ours", {}), ("its", {"controller-revision-hash": "5d4f"})):
        metadata = {"name": name, "namespace": space, "labels": {**labels, **more}}
        revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1}
        path = f"/apis/apps/v1/namespaces/{space}/controllerrevisions"
        await hands.connection.request("POST", path, kind="ControllerRevision", body={**revision, "data": {"spec": {}}})
    await synchronizer.fill()
    assert [each["metadata"]["name"] for each in hands.view.list("ControllerRevision", space)] == ["ours"]
    await synchronizer.audit("ControllerRevision")
    assert [each["metadata"]["name"] for each in hands.view.list("ControllerRevision", space)] == ["ours"]


async def test_what_was_never_told_is_fetched_and_the_stream_counts_as_dead(
    synchronizer: Synchronizer, hands: Hands, space: str, plane: Plane
) -> None:
    await synchronizer.fill()
    for number in range(sync.DEAD_AFTER):
        assert not synchronizer.dead_streams()
        plane.kubectl.apply(deployment(space, f"e{number}"))
        while hands.view.get("EdgeDeployment", space, f"e{number}") is None:
            await synchronizer.audit("EdgeDeployment")
    assert synchronizer.dead_streams() == ["EdgeDeployment"]
    while await synchronizer.audit("EdgeDeployment"):
        pass
    assert not synchronizer.dead_streams()


async def test_an_audit_of_a_true_view_changes_nothing(synchronizer: Synchronizer, hands: Hands, space: str) -> None:
    await hands.cluster.create(deployment(space))
    await synchronizer.fill()
    while await synchronizer.audit("EdgeDeployment"):
        pass
    heard: list[object] = []
    hands.view.listen(lambda before, after, own: heard.append(after))
    assert await synchronizer.audit("EdgeDeployment") == 0
    assert await synchronizer.audit("Node") == 0
    assert not heard


async def test_an_own_delete_is_not_a_repair(synchronizer: Synchronizer, hands: Hands, space: str) -> None:
    owner = await hands.cluster.create(deployment(space))
    await synchronizer.fill()
    uid = owner["metadata"]["uid"]
    await hands.cluster.delete(ObjectRef(owner["apiVersion"], owner["kind"], space, "a", uid))
    assert hands.view.get("EdgeDeployment", space, "a") is None
