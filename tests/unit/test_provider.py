"""Edge platforms: told from nodes, alone or side by side, and what pods and Services there get."""

from typing import Any

import pytest

from modelfleet.plan.edge import provider
from modelfleet.plan.edge.provider import KUBE_EDGE, KUBERNETES, OPEN_YURT, Platform
from tests.unit.edge_world import Object, World, node, pool

KUBE_EDGE_NODE = {"node-role.kubernetes.io/edge": ""}
YURT_NODE = {"openyurt.io/is-edge-worker": "true", "apps.openyurt.io/nodepool": "line-a"}


def labelled(**labels: str) -> Object:
    return {"metadata": {"name": "n", "labels": labels}}


@pytest.mark.parametrize(
    ("labels", "version", "told"),
    [
        ({}, "v1.36.3", KUBERNETES),
        (KUBE_EDGE_NODE, "v1.36.3", KUBE_EDGE),
        ({"node-role.kubernetes.io/edge": "false"}, "", KUBERNETES),
        ({}, "v1.32.10-kubeedge-v1.23.1", KUBE_EDGE),
        (YURT_NODE, "v1.32.1", OPEN_YURT),
        (YURT_NODE | KUBE_EDGE_NODE, "v1.32.1", OPEN_YURT),
        ({"openyurt.io/is-edge-worker": "false"}, "v1.32.1", KUBERNETES),
    ],
)
def test_what_tells_a_platform(labels: dict[str, str], version: str, told: str) -> None:
    made = labelled(**labels) | {"status": {"nodeInfo": {"kubeletVersion": version}}}
    assert provider.of_node(made) == told
    assert provider.of_pool(None, [made, made]) == Platform(frozenset({told}))
    assert provider.of_pool(KUBERNETES, [made]) == Platform(frozenset({KUBERNETES})), "the spec settles it"


@pytest.mark.parametrize(
    ("providers", "seconds"),
    [
        ([], {60}),
        ([KUBERNETES], {60}),
        ([KUBE_EDGE], {None}),
        ([KUBE_EDGE, KUBERNETES], {None}),
        ([OPEN_YURT], {provider.STAY_SECONDS}),
        ([OPEN_YURT, KUBE_EDGE], {provider.STAY_SECONDS}),
    ],
)
def test_when_replicas_leave_an_unreachable_node(providers: list[str], seconds: set[Any]) -> None:
    found = Platform(frozenset(providers)).leaving(60)
    assert {each["key"] for each in found} == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert {each.get("tolerationSeconds") for each in found} == seconds


def mixed(**fields: Any) -> World:
    """A pool with a node of each platform, and one of plain nodes."""
    nodes = [node("k", **KUBE_EDGE_NODE), node("y", **YURT_NODE), node("p"), node("lab-0", pool="lab")]
    for each in nodes[:2]:
        each["spec"]["taints"] = [{"key": "node-role.kubernetes.io/edge", "effect": "NoSchedule"}]
    world = World(nodes, [pool(**fields), pool("lab")])
    world.run()
    return world


def service(world: World, name: str) -> Object:
    return next(each for each in world.kind("Service") if each["metadata"]["name"] == name)


def test_nodes_of_both_platforms_in_one_pool() -> None:
    world = mixed()
    assert set(world.serving()) == {"k", "y", "p", "lab-0"}
    by_pool = {each["metadata"]["labels"]["modelfleet.dev/pool"]: each for each in world.kind("DaemonSet")}
    template = by_pool["gw"]["spec"]["template"]
    assert template["spec"]["tolerations"] == [
        {"key": "node-role.kubernetes.io/edge", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert template["metadata"]["labels"]["app-offline.kubeedge.io"] == "autonomy"
    assert "tolerations" not in by_pool["lab"]["spec"]["template"]["spec"]
    assert "app-offline.kubeedge.io" not in by_pool["lab"]["spec"]["template"]["metadata"]["labels"]


def test_edge_pools_have_a_service_of_their_own_that_stays_within_reach() -> None:
    world = mixed()
    (made,) = world.kind("Service")
    assert made["metadata"]["name"] == "line-pool-gw"
    assert made["metadata"]["annotations"] == {
        "apps.kubeedge.io/service-topology": "range-nodegroup",
        "openyurt.io/topologyKeys": "openyurt.io/nodepool",
    }
    assert made["spec"]["selector"] == {"modelfleet.dev/edge-deployment": "line", "modelfleet.dev/pool": "gw"}


def test_a_pool_local_service_goes_with_its_pool_and_outlives_its_nodes() -> None:
    world = mixed()
    for name in ("k", "y", "p"):
        world.nodes[name]["metadata"]["labels"]["pool"] = "nowhere"
    world.run()
    assert service(world, "line-pool-gw")
    world.edit(pools=[pool("lab")])
    world.run()
    assert world.kind("Service") == []


def test_replicas_on_the_edge_have_both_services_and_stay() -> None:
    world = World(
        [node("lab-0", pool="lab", **YURT_NODE)], [pool("lab", placement="Replicas", tolerations=[{"key": "x"}])]
    )
    world.run()
    assert {each["metadata"]["name"] for each in world.kind("Service")} == {"line", "line-pool-lab"}
    (made,) = world.kind("Deployment")
    seconds = {
        each["key"]: each.get("tolerationSeconds") for each in made["spec"]["template"]["spec"]["tolerations"][2:]
    }
    assert seconds == dict.fromkeys(
        ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"), provider.STAY_SECONDS
    )


def test_a_service_name_that_is_taken_is_told_and_holds_nothing_up() -> None:
    world = World([node("lab-0", pool="lab")], [pool("lab", placement="Replicas")])
    world.taken = {"line"}
    world.run()
    assert world.replicas() == {"defect-1-0-0": 1}
    assert world.kind("Service") == []
    assert world.condition("Stalled")["reason"] == "ServiceNameTaken"
    assert "Service line exists and is not this deployment's" in world.condition("Stalled")["message"]
    assert (world.plan().requeue_after or 0) <= 30
    world.taken = set()
    world.run()
    assert service(world, "line")
    assert world.condition("Ready")["status"] == "True"
