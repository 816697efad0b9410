"""Outcomes against a real API server: what is written once is not written again, and what is foreign is left alone."""

from dataclasses import replace

import pytest

from modelfleet.cluster.errors import ApiError, NameTakenError
from modelfleet.plan.outcome import NodeLabels, Note, ObjectRef, Outcome, RawObject
from modelfleet.reconcile.execute import Executor
from tests.plane import Plane
from tests.replicas import Hands, deployment, service


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[Note]:
    return []


@pytest.fixture
def executor(hands: Hands, clock: Clock, told: list[Note]) -> Executor:
    return Executor(hands.cluster, hands.view, clock, lambda kind, note: told.append(note))


@pytest.fixture
async def owner(hands: Hands, space: str) -> RawObject:
    return await hands.cluster.create(deployment(space))


async def test_applied_once_and_never_again(executor: Executor, hands: Hands, owner: RawObject, space: str) -> None:
    outcome = Outcome(apply=[service(owner)])
    assert (await executor.execute(owner, outcome))[0]
    before = hands.view.get("Service", space, "a")
    writes = len(hands.writes())
    for _ in range(3):
        assert not (await executor.execute(owner, outcome))[0]
    assert len(hands.writes()) == writes
    after = await hands.cluster.read("Service", space, "a")
    assert before is not None
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_a_restart_writes_nothing(executor: Executor, hands: Hands, owner: RawObject, clock: Clock) -> None:
    await executor.execute(owner, Outcome(apply=[service(owner)]))
    fresh = Executor(hands.cluster, hands.view, clock, lambda kind, note: None)
    assert not (await fresh.execute(owner, Outcome(apply=[service(owner)])))[0]


async def test_a_field_no_longer_stated_is_taken_off(
    executor: Executor, hands: Hands, owner: RawObject, space: str
) -> None:
    await executor.execute(owner, Outcome(apply=[service(owner, sessionAffinity="ClientIP")]))
    await executor.execute(owner, Outcome(apply=[service(owner)]))
    live = await hands.cluster.read("Service", space, "a")
    assert live is not None
    assert live["spec"]["sessionAffinity"] == "None"


async def test_a_changed_field_is_put_right_and_a_foreign_one_kept(
    executor: Executor, hands: Hands, owner: RawObject, space: str, plane: Plane
) -> None:
    await executor.execute(owner, Outcome(apply=[service(owner)]))
    plane.kubectl.within(space)("label", "service", "a", "team=vision")
    plane.kubectl.within(space)("patch", "service", "a", "-p", '{"spec":{"selector":{"app":"y"}}}')
    await hands.cluster.read("Service", space, "a")
    assert (await executor.execute(owner, Outcome(apply=[service(owner)])))[0]
    live = await hands.cluster.read("Service", space, "a")
    assert live is not None
    assert live["spec"]["selector"] == {"app": "x"}
    assert live["metadata"]["labels"]["team"] == "vision"


async def test_what_is_new_is_made_without_a_look_before(executor: Executor, hands: Hands, owner: RawObject) -> None:
    before = len(hands.codes)
    await executor.execute(owner, Outcome(apply=[service(owner)]))
    assert hands.codes[before:] == [("PATCH", "Service", 201)]


async def test_what_the_view_has_not_seen_yet_is_found_when_it_is_to_be_made(
    executor: Executor, hands: Hands, owner: RawObject, space: str, clock: Clock
) -> None:
    await executor.execute(owner, Outcome(apply=[service(owner)]))
    held = hands.view.get("Service", space, "a")
    assert held is not None
    hands.view.forget("Service", held["metadata"])
    before = len(hands.codes)
    fresh = Executor(hands.cluster, hands.view, clock, lambda kind, note: None)
    assert not (await fresh.execute(owner, Outcome(apply=[service(owner)])))[0]
    assert hands.codes[before:] == [("PATCH", "Service", 409), ("GET", "Service", 200)]


@pytest.mark.parametrize(
    "ports", ['"selector":{"app":"mine"},"ports":[{"port":81}]', '"ports":[{"name":"http","port":80}]']
)
async def test_somebody_elses_object_is_left_alone(
    executor: Executor, hands: Hands, owner: RawObject, space: str, plane: Plane, ports: str
) -> None:
    foreign = f'{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"a"}},"spec":{{{ports}}}}}'
    plane.kubectl.within(space)("create", "-f", "-", stdin=foreign)
    before = await hands.cluster.read("Service", space, "a")
    with pytest.raises(NameTakenError, match=r"Service .*/a exists"):
        await executor.execute(owner, Outcome(apply=[service(owner)]))
    assert hands.cluster.was_not_taken(service(owner))
    assert await hands.cluster.read("Service", space, "a") == before
    plane.kubectl.within(space)("delete", "service", "a")
    assert (await executor.execute(owner, Outcome(apply=[service(owner)])))[0]
    assert not hands.cluster.was_not_taken(service(owner))


async def test_create_only_is_left_as_it_is(executor: Executor, hands: Hands, owner: RawObject, space: str) -> None:
    outcome = Outcome(create=[service(owner)])
    assert (await executor.execute(owner, outcome))[0]
    assert not (await executor.execute(owner, Outcome(create=[service(owner, sessionAffinity="ClientIP")])))[0]
    # Not in the view, as after a watch that lags: the API server's refusal is read as "already there".
    blind = type(hands.view)()
    fresh = Executor(type(hands.cluster)(hands.connection, blind, hands.cluster._fence), blind, Clock(), print)
    assert not (await fresh.execute(owner, outcome))[0]
    assert blind.get("Service", space, "a") is not None


async def test_create_only_of_a_predecessors_child_is_refused(
    executor: Executor, hands: Hands, owner: RawObject
) -> None:
    await executor.execute(owner, Outcome(create=[service(owner)]))
    successor = {**owner, "metadata": {**owner["metadata"], "uid": "00000000-0000-0000-0000-000000000001"}}
    with pytest.raises(NameTakenError):
        await executor.execute(successor, Outcome(create=[service(successor)]))


async def test_delete_is_guarded_by_uid(executor: Executor, hands: Hands, owner: RawObject, space: str) -> None:
    await executor.execute(owner, Outcome(create=[service(owner)]))
    await hands.cluster.delete(ObjectRef("v1", "Service", space, "a", uid="another"))
    live = await hands.cluster.read("Service", space, "a")
    assert live is not None
    outcome = Outcome(delete=[ObjectRef("v1", "Service", space, "a", uid=live["metadata"]["uid"])])
    assert (await executor.execute(owner, outcome))[0]
    assert hands.view.get("Service", space, "a") is None
    assert not (await executor.execute(owner, outcome))[0]


async def test_what_changed_since_it_was_seen_is_not_deleted(
    executor: Executor, hands: Hands, owner: RawObject, space: str
) -> None:
    await executor.execute(owner, Outcome(create=[service(owner)]))
    seen = await hands.cluster.read("Service", space, "a")
    assert seen is not None
    metadata = seen["metadata"]
    ref = ObjectRef("v1", "Service", space, "a", metadata["uid"], resource_version=metadata["resourceVersion"])
    await executor.execute(owner, Outcome(apply=[service(owner)]))
    await hands.cluster.delete(ref)
    changed = await hands.cluster.read("Service", space, "a")
    assert changed is not None
    await hands.cluster.delete(replace(ref, resource_version=changed["metadata"]["resourceVersion"]))
    assert await hands.cluster.read("Service", space, "a") is None


async def test_status_is_written_as_a_difference_and_guarded(
    executor: Executor, hands: Hands, owner: RawObject, space: str
) -> None:
    status = {"phase": "Progressing", "message": "x", "counts": {"desired": 3, "updated": 1}}
    assert (await executor.execute(owner, Outcome(status=status)))[0]
    seen = hands.view.get("EdgeDeployment", space, "a")
    assert seen is not None
    assert not (await executor.execute(seen, Outcome(status=status)))[0]
    with pytest.raises(ApiError) as caught:
        await executor.execute(owner, Outcome(status={"phase": "Healthy"}))
    assert caught.value.code == 409
    await executor.execute(seen, Outcome(status={"phase": "Healthy", "message": None}))
    live = await hands.cluster.read("EdgeDeployment", space, "a")
    assert live is not None
    assert "counts" not in live["status"]
    assert live["status"]["phase"] == "Healthy"


async def test_counts_wait_for_each_other_and_phases_do_not(
    executor: Executor, hands: Hands, owner: RawObject, space: str, clock: Clock
) -> None:
    def status(phase: str, updated: int) -> Outcome:
        return Outcome(status={"phase": phase, "counts": {"updated": updated}}, settle_status_seconds=5.0)

    async def write(outcome: Outcome) -> tuple[bool, float | None]:
        seen = hands.view.get("EdgeDeployment", space, "a")
        assert seen is not None
        return await executor.execute(seen, outcome)

    assert await write(status("Progressing", 1)) == (True, None)
    clock.now += 2
    assert await write(status("Progressing", 2)) == (False, 3.0)
    assert (await write(status("Degraded", 2)))[0]
    clock.now += 5
    assert (await write(status("Degraded", 3)))[0]


async def test_node_labels_are_written_once_and_a_gone_node_is_fine(
    executor: Executor, hands: Hands, owner: RawObject, space: str
) -> None:
    await hands.cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": space}})
    key = "node.modelfleet.dev/0123456789ab"
    outcome = Outcome(label_nodes=[NodeLabels(space, {key: "v"}), NodeLabels("no-such-node", {key: "v"})])
    assert (await executor.execute(owner, outcome))[0]
    assert not (await executor.execute(owner, outcome))[0]
    assert [each for each in hands.writes() if each[1] == "Node"] == [("POST", "Node", 201), ("PATCH", "Node", 200)]
    assert (await executor.execute(owner, Outcome(label_nodes=[NodeLabels(space, {key: None})])))[0]
    node = await hands.cluster.read("Node", "", space)
    assert node is not None
    assert key not in (node["metadata"].get("labels") or {})
    await hands.cluster.delete(ObjectRef("v1", "Node", "", space))
    assert await hands.cluster.label_node(NodeLabels(space, {key: "v"})) is None


async def test_an_event_is_told_once_also_after_a_restart(
    executor: Executor, hands: Hands, owner: RawObject, told: list[Note], clock: Clock
) -> None:
    note = Note("Warning", "HashMismatch", "artifact fp32 is not what was registered; register it again")
    outcome = Outcome(notes=[note])
    assert (await executor.execute(owner, outcome))[0]
    assert not (await executor.execute(owner, outcome))[0]
    fresh = Executor(hands.cluster, hands.view, clock, lambda kind, note: told.append(note))
    assert not (await fresh.execute(owner, outcome))[0]
    assert told == [note]
    warnings = await hands.cluster.latest_warnings(owner["metadata"]["namespace"], "EdgeDeployment", "a")
    assert [event["reason"] for event in warnings] == ["HashMismatch"]


async def test_an_invalid_object_is_named_by_the_api_server(executor: Executor, owner: RawObject) -> None:
    with pytest.raises(ApiError) as caught:
        await executor.execute(owner, Outcome(create=[service(owner, sessionAffinity="Sometimes")]))
    assert caught.value.code == 422
    assert caught.value.refused
    assert "sessionAffinity" in caught.value.message


async def test_what_was_not_taken_is_asked_for_in_a_dry_run_until_it_is(
    executor: Executor, hands: Hands, owner: RawObject
) -> None:
    good, bad = service(owner), service(owner, sessionAffinity="Sometimes")
    assert not hands.cluster.was_not_taken(bad)
    with pytest.raises(ApiError):
        await executor.execute(owner, Outcome(create=[bad]))
    assert hands.cluster.was_not_taken(bad)
    refusal = await hands.cluster.refusal(bad)
    assert refusal is not None
    assert "sessionAffinity" in refusal.message
    assert await hands.cluster.refusal(good) is None
    assert (await executor.execute(owner, Outcome(create=[good])))[0]
    assert not hands.cluster.was_not_taken(good)
