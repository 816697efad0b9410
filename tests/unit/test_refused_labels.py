"""Nodes that the API server lets take no label: the others go on, they are named, and asked again with pauses."""

from collections import Counter
from datetime import timedelta

import pytest

from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.view import View
from modelfleet.plan.edge import assignment
from modelfleet.plan.outcome import NodeLabels, ObjectRef, Outcome
from modelfleet.plan.refusal import reason_in
from modelfleet.reconcile.execute import NODES_AT_ONCE, Executor, LabelsRefusedError
from modelfleet.reconcile.refused_labels import FORGOTTEN_AFTER, RefusedLabels
from tests.unit.edge_world import START, World, model_version, node, pool

V1, V2 = "defect-1-0-0", "defect-2-0-0"
KEYS = assignment.keys("uid-of-line")
DENIED = "admission webhook gatekeeper denied the request: hands off"


def fleet(count: int = 4, pools: list[dict[str, object]] | None = None, **strategy: object) -> World:
    world = World([node(f"gw-{index:04}") for index in range(count)], pools, strategy=strategy)
    world.add_model(model_version("2.0.0"))
    world.run()
    world.notes.clear()
    world.label_writes = 0
    return world


def first(world: World) -> str:
    """The node whose turn is first."""
    return world.plan().label_nodes[0].node


@pytest.mark.parametrize("order", ["PrefetchFirst", "StopFirst"])
@pytest.mark.parametrize(
    "waves", [[], [{"name": "pilot", "nodes": 1, "soak": "10m"}, {"name": "all", "nodes": "100%"}]]
)
def test_the_others_are_moved_and_the_refused_one_is_named_with_the_servers_words(
    order: str, waves: list[object]
) -> None:
    world = fleet(recreateOrder=order, maxUnavailable=1, waves=waves)
    world.edit(modelVersion=V2)
    bad = first(world)
    world.refusing[bad] = DENIED
    world.run()
    world.play(seconds=700)
    world.run()
    assert Counter(world.serving().values()) == {V1: 1, V2: 3}
    assert world.serving()[bad] == V1
    assert world.status["stable"]["modelVersion"] == V2
    assert world.condition("Stalled") | {"lastTransitionTime": ""} == {
        "type": "Stalled",
        "status": "True",
        "reason": "LabelRefused",
        "message": f"1 cannot be labelled: {bad}; have what refuses it let the operator pass: {DENIED}",
        "observedGeneration": 2,
        "lastTransitionTime": "",
    }
    assert world.status["failures"] == [{"node": bad, "reason": "LabelRefused", "message": DENIED}]
    assert world.status["counts"]["failed"] == 0
    assert world.status.get("abortedRevision") is None
    assert "LabelRefused" in {note.reason for note in world.notes}
    world.refusing.clear()
    world.play(seconds=700)
    world.run()
    assert Counter(world.serving().values()) == {V2: 4}
    assert world.condition("Ready")["status"] == "True"


def test_it_is_asked_again_with_growing_pauses_and_nothing_else_is_written() -> None:
    world = fleet()
    world.edit(modelVersion=V2)
    world.refusing["gw-0001"] = DENIED
    world.run()
    asked, status = world.refusals, world.status
    for _ in range(120):
        world.play(seconds=30)
        assert world.step().requeue_after is not None
        assert world.status == status
    assert 5 <= world.refusals - asked <= 10, "an hour, at most every ten minutes in the end"


def test_a_handover_that_is_refused_holds_nobody_up() -> None:
    world = fleet(2, maxUnavailable=1)
    world.edit(modelVersion=V2)
    bad = first(world)
    world.step()
    world.play()
    world.refusing[bad] = DENIED
    world.run()
    assert world.nodes[bad]["metadata"]["labels"][KEYS.next]
    other = next(name for name in world.nodes if name != bad)
    assert KEYS.next not in world.nodes[other]["metadata"]["labels"]
    assert world.condition("Stalled")["reason"] == "LabelRefused"
    world.refusing.clear()
    world.play(seconds=700)
    world.run()
    assert Counter(world.serving().values()) == {V2: 2}


def test_a_wave_of_which_nothing_else_is_left_waits_for_a_person() -> None:
    world = World(
        [node("pilot", pool="lab"), node("gw-0000")],
        [pool("lab"), pool()],
        strategy={"waves": [{"name": "pilot", "pools": ["lab"], "nodes": 1}, {"name": "all", "nodes": "100%"}]},
    )
    world.add_model(model_version("2.0.0"))
    world.run()
    world.refusing["pilot"] = DENIED
    world.edit(modelVersion=V2)
    world.run()
    assert set(world.serving().values()) == {V1}
    assert world.condition("Stalled")["reason"] == "LabelRefused"
    assert "pilot" in world.status["message"]
    world.command(promote=f"{world.status['candidate']['revision']}/1/pilot")
    world.run()
    assert world.serving() == {"pilot": V1, "gw-0000": V2}


def test_going_back_is_not_held_up_and_a_note_that_cannot_be_written_keeps_no_rollout_from_giving_up() -> None:
    world = fleet(3, waves=[{"name": "pilot", "nodes": 2}], maxUnavailable="100%", progressDeadlineSeconds=600)
    world.behaviour = lambda pod, name: (  # type: ignore[assignment]
        {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
        if V2 in pod["metadata"]["labels"].values()
        else {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    )
    world.edit(modelVersion=V2)
    world.step()
    world.play()
    bad = next(name for name, each in world.nodes.items() if KEYS.next in each["metadata"]["labels"])
    world.refusing[bad] = DENIED
    world.play(seconds=1000)
    world.run()
    assert set(world.serving().values()) == {V1}
    assert world.status["phase"] == "RolledBack"
    assert world.nodes[bad]["metadata"]["labels"][KEYS.next], "that is not waited for"
    world.refusing.clear()
    world.play(seconds=700)
    world.run()
    assert not [name for name, each in world.nodes.items() if KEYS.next in each["metadata"]["labels"]]


def test_a_gateway_that_left_and_keeps_its_label_is_told_of() -> None:
    world = fleet(2)
    world.nodes["gw-0000"]["metadata"]["labels"]["pool"] = "elsewhere"
    world.refusing["gw-0000"] = DENIED
    world.run()
    assert "gw-0000" in world.condition("Stalled")["message"]
    world.refusing.clear()
    world.play(seconds=700)
    world.run()
    assert world.condition("Ready")["status"] == "True"


def test_pauses_grow_and_are_forgotten() -> None:
    now = START
    memory = RefusedLabels(lambda: now)
    pauses = []
    for _ in range(9):
        memory.refused("uid", "gw", "no")
        until = memory.standing("uid")["gw"].until
        pauses.append((until - now).total_seconds())
        now = until
        assert memory.standing("uid") == {}
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert memory.standing("another") == {}
    now += FORGOTTEN_AFTER + timedelta(seconds=1)
    memory.standing("uid")
    memory.refused("uid", "gw", "no")
    assert (memory.standing("uid")["gw"].until - now).total_seconds() == 10
    memory.written("uid", "gw")
    assert memory.standing("uid") == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nodes \"gw-1\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no", None),
        (
            '(combined from similar events): Error creating: pods "line-x-6k5gx" is forbidden: exceeded quota: q',
            "quota",
        ),
        ('admission webhook "a.b" denied the request: no', "all"),
        ("", "all"),
    ],
)
def test_what_is_quoted_of_a_refusal(words: str, expected: str | None) -> None:
    known = {"quota": "exceeded quota: q", "all": words, None: "ValidatingAdmissionPolicy 'p' denied request: no"}
    assert reason_in(words) == known[expected]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, False),
        (400, True),
        (401, False),
        (403, True),
        (409, False),
        (422, True),
        (429, False),
        (500, True),
        (503, False),
    ],
)
def test_which_errors_may_be_about_one_object_only(code: int, *, expected: bool) -> None:
    assert ApiError(code, "R", "m").may_be_this_object is expected


class Nodes:
    """Stands in for the API server: refuses to label some nodes."""

    def __init__(self, refusing: set[str], code: int = 403) -> None:
        self.refusing, self.code = refusing, code
        self.asked: list[str] = []

    async def label_node(self, labels: NodeLabels) -> None:
        self.asked.append(labels.node)
        if labels.node in self.refusing:
            raise ApiError(self.code, "Denied", "hands off")


OWNER = {"metadata": {"uid": "uid", "name": "line"}}


def hands(nodes: Nodes, count: int) -> tuple[Executor, Outcome]:
    view, names = View(), [f"gw-{index:04}" for index in range(count)]
    for name in names:
        view.observe(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name, "resourceVersion": "1"}}
        )
    labels = [NodeLabels(name, {"a": "b"}) for name in names]
    executor = Executor(nodes, view, lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    return executor, Outcome(label_nodes=labels, delete=[ObjectRef("v1", "Pod", "n", "p")])


async def test_all_others_are_labelled_before_a_refusal_ends_an_outcome() -> None:
    nodes = Nodes({"gw-0003", "gw-0011"})
    executor, outcome = hands(nodes, 20)
    with pytest.raises(LabelsRefusedError, match="403 Denied: hands off") as refusal:
        await executor.execute(OWNER, outcome)
    assert refusal.value.written
    assert len(nodes.asked) == 20
    assert set(executor.refused_labels.standing("uid")) == {"gw-0003", "gw-0011"}


async def test_where_none_of_a_batch_may_be_labelled_thousands_are_not_tried() -> None:
    nodes = Nodes({f"gw-{index:04}" for index in range(1000)})
    executor, outcome = hands(nodes, 1000)
    with pytest.raises(LabelsRefusedError) as refusal:
        await executor.execute(OWNER, outcome)
    assert not refusal.value.written
    assert len(nodes.asked) == NODES_AT_ONCE


async def test_an_api_server_that_does_not_answer_is_no_refusal() -> None:
    executor, outcome = hands(Nodes({"gw-0003"}, code=503), 8)
    with pytest.raises(ApiError):
        await executor.execute(OWNER, outcome)
    assert executor.refused_labels.standing("uid") == {}
