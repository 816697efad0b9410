"""Routes: what they become as objects, what they never touch, and that no request goes where nothing answers."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan import conditions
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic import gateway_api, istio, traffic
from modelfleet.plan.traffic.route import Route
from tests.unit.edge_world import Object, World, healthy, model_version, node, pod_status, pool

OWNER: RawObject = {
    "apiVersion": "modelfleet.dev/v1alpha1",
    "kind": "EdgeDeployment",
    "metadata": {"name": "line", "namespace": "vision", "uid": "u"},
}
OLD, NEW = "5d9c000000", "7be1000000"
HOST = "defect.vision.svc.cluster.local"
ISTIO: dict[str, Any] = {"provider": "Istio", "hosts": [HOST], "gateways": ["istio-system/ingress"]}
GATEWAY: dict[str, Any] = {"provider": "GatewayAPI", "hosts": ["defect.example"], "parentRefs": [{"name": "edge"}]}
CANARY = Route(OLD, NEW, weight=5, header=("X-Version", "v2"))


def spec(by: dict[str, Any], ports: dict[str, int] | None = None) -> EdgeDeploymentSpec:
    lab = pool("lab", placement="Replicas", replicas=2)
    return EdgeDeploymentSpec.model_validate(
        {"modelVersion": "m-1-0-0", "pools": [lab], "traffic": by, "serving": {"ports": ports or {}}}
    )


def foreign(kind: str, name: str, body: dict[str, Any], namespace: str = "vision", created: str = "2026") -> RawObject:
    return {
        "apiVersion": "x/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": name, "creationTimestamp": created},
        "spec": body,
    }


def owned(obj: RawObject, **more: Any) -> RawObject:
    return {**copy.deepcopy(obj), **more}


def state_of_istio(route: Route, *services: RawObject, rules: tuple[RawObject, ...] = ()) -> Any:
    chosen = spec(ISTIO)
    assert chosen.traffic is not None
    seen = {"VirtualService": services, "DestinationRule": rules, "PeerAuthentication": ()}
    return istio.state(OWNER, chosen, chosen.traffic, route, {OLD, NEW}, seen)


def subset(revision: str, port: int = 8080) -> dict[str, Any]:
    return {"host": "line-routed", "subset": revision, "port": {"number": port}}


@pytest.mark.parametrize(
    ("route", "rules"),
    [
        (Route(OLD), [{"route": [{"destination": subset(OLD), "weight": 100}]}]),
        (Route(OLD, NEW), [{"route": [{"destination": subset(OLD), "weight": 100}]}]),
        (Route(OLD, NEW, weight=100), [{"route": [{"destination": subset(NEW), "weight": 100}]}]),
        (
            CANARY,
            [
                {
                    "match": [{"headers": {"x-version": {"exact": "v2"}}}],
                    "route": [{"destination": subset(NEW), "weight": 100}],
                },
                {
                    "route": [
                        {"destination": subset(OLD), "weight": 95},
                        {"destination": subset(NEW), "weight": 5},
                    ]
                },
            ],
        ),
        (
            Route(OLD, NEW, mirror=20),
            [
                {
                    "route": [{"destination": subset(OLD), "weight": 100}],
                    "mirrors": [{"destination": subset(NEW), "percentage": {"value": 20}}],
                }
            ],
        ),
    ],
    ids=str,
)
def test_a_route_as_a_virtual_service(route: Route, rules: list[dict[str, Any]]) -> None:
    chosen = spec(ISTIO)
    assert chosen.traffic is not None
    made = istio.virtual_service(OWNER, chosen, chosen.traffic, route, delegated=False)
    assert made["spec"] == {"http": rules, "hosts": [HOST], "gateways": ["istio-system/ingress", "mesh"]}


def test_with_two_ports_grpc_is_told_by_its_content_type() -> None:
    chosen = spec(ISTIO, {"http": 8080, "grpc": 8081})
    assert chosen.traffic is not None
    made = istio.virtual_service(OWNER, chosen, chosen.traffic, CANARY, delegated=False)
    grpc = {"content-type": {"prefix": "application/grpc"}}
    header = {"x-version": {"exact": "v2"}}
    rules = made["spec"]["http"]
    assert [rule.get("match", [{}])[0].get("headers") for rule in rules] == [{**header, **grpc}, header, grpc, None]
    assert [rule["route"][0]["destination"]["port"]["number"] for rule in rules] == [8081, 8080, 8081, 8080]


def test_a_subset_is_there_before_a_route_uses_it_and_as_long_as_one_does() -> None:
    first = state_of_istio(CANARY)
    assert [each["kind"] for each in first.apply] == ["DestinationRule"]
    (rule,) = first.apply
    assert [each["name"] for each in rule["spec"]["subsets"]] == [OLD, NEW]
    assert rule["spec"]["subsets"][0]["labels"] == {"modelfleet.dev/revision": OLD}
    then = state_of_istio(CANARY, rules=(rule,))
    assert [each["kind"] for each in then.apply] == ["DestinationRule", "VirtualService"]
    chosen = spec(ISTIO)
    assert chosen.traffic is not None
    seen = {"VirtualService": [then.apply[1]], "DestinationRule": [rule], "PeerAuthentication": ()}
    back = istio.state(OWNER, chosen, chosen.traffic, Route(OLD), (), seen)
    assert NEW in [each["name"] for each in back.apply[0]["spec"]["subsets"]]


def test_the_users_virtual_service_delegates_to_ours() -> None:
    theirs = foreign("VirtualService", "root", {"hosts": [HOST], "http": [{"delegate": {"name": "line"}}]})
    stated = state_of_istio(Route(OLD), theirs, rules=(istio.destination_rule(OWNER, [OLD]),))
    assert stated.problem is None
    assert set(stated.apply[1]["spec"]) == {"http"}, "a delegate has neither hosts nor gateways"


@pytest.mark.parametrize(
    ("theirs", "namespace", "conflict"),
    [
        ({"hosts": [HOST]}, "shop", True),
        ({"hosts": ["defect.vision.svc"]}, "shop", True),
        ({"hosts": ["defect"]}, "vision", True),
        ({"hosts": ["defect"]}, "shop", False),
        ({"hosts": [HOST], "gateways": ["istio-system/ingress"]}, "shop", True),
        ({"hosts": [HOST], "gateways": ["ingress"]}, "shop", False),
        ({"hosts": [HOST], "exportTo": ["."]}, "shop", False),
        ({"hosts": ["*.vision.svc.cluster.local"]}, "shop", False),
        ({"hosts": [HOST], "http": [{"delegate": {"name": "line", "namespace": "other"}}]}, "shop", True),
    ],
)
def test_a_host_of_somebody_elses_is_left_to_them(theirs: dict[str, Any], namespace: str, conflict: bool) -> None:
    rules = (istio.destination_rule(OWNER, [OLD]),)
    stated = state_of_istio(Route(OLD), foreign("VirtualService", "theirs", theirs, namespace), rules=rules)
    assert (stated.problem is not None) is conflict
    if stated.problem:
        assert f"{namespace}/theirs" in stated.problem.message
        assert "VirtualService" not in [each["kind"] for each in stated.apply]


def test_a_virtual_service_of_our_name_that_is_not_ours_is_told_of() -> None:
    stated = state_of_istio(Route(OLD), foreign("VirtualService", "line", {"hosts": ["other.example"]}))
    assert stated.problem.reason == "RouteNameTaken"


def test_what_istio_says_of_a_virtual_service_counts_where_it_says_anything() -> None:
    rule = istio.destination_rule(OWNER, [OLD])
    made = state_of_istio(Route(OLD), rules=(rule,)).apply[1]
    told = {"validationMessages": [{"level": "ERROR", "type": {"name": "ReferencedResourceNotFound"}}]}
    late = {"conditions": [{"type": "Reconciled", "status": "False", "message": "1/2 proxies"}]}
    assert state_of_istio(Route(OLD), owned(made), rules=(rule,)).accepted
    for status in (told, late):
        assert not state_of_istio(Route(OLD), owned(made, status=status), rules=(rule,)).accepted


@pytest.mark.parametrize(
    ("pod", "bare"),
    [
        ({"spec": {"containers": [{"name": "serve"}]}}, True),
        ({"spec": {"containers": [{"name": "serve"}, {"name": "istio-proxy"}]}}, False),
        ({"spec": {"containers": [{"name": "serve"}], "initContainers": [{"name": "istio-proxy"}]}}, False),
        ({"metadata": {"annotations": {"ambient.istio.io/redirection": "enabled"}}}, False),
    ],
)
def test_a_pod_without_a_proxy_is_named(pod: dict[str, Any], bare: bool) -> None:
    metadata = {"name": "p", **pod.get("metadata", {})}
    assert bool(istio.lacks_sidecar([{**pod, "metadata": metadata}])) is bare


def route_of_gateway(route: Route, *routes: RawObject, by: dict[str, Any] = GATEWAY) -> Any:
    chosen = spec(by)
    assert chosen.traffic is not None
    services = [{"metadata": {"name": f"line-{each}", "namespace": "vision"}} for each in (OLD, NEW)]
    return gateway_api.state(OWNER, chosen, chosen.traffic, route, services, {"HTTPRoute": routes})


def backend(revision: str, weight: int) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": f"line-{revision}", "port": 8080, "weight": weight}


def test_a_route_as_an_http_route() -> None:
    (made,) = route_of_gateway(CANARY).apply
    path = {"type": "PathPrefix", "value": "/"}
    header = {"type": "Exact", "name": "X-Version", "value": "v2"}
    assert made["spec"] == {
        "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
        "hostnames": ["defect.example"],
        "rules": [
            {"matches": [{"path": path, "headers": [header]}], "backendRefs": [backend(NEW, 1)]},
            {"matches": [{"path": path}], "backendRefs": [backend(OLD, 95), backend(NEW, 5)]},
        ],
    }
    (mirrored,) = route_of_gateway(Route(OLD, NEW, mirror=10)).apply
    (filter_,) = mirrored["spec"]["rules"][-1]["filters"]
    assert filter_["requestMirror"]["backendRef"]["name"] == f"line-{NEW}"
    assert filter_["requestMirror"]["percent"] == 10


USERS = foreign(
    "HTTPRoute",
    "users",
    {
        "parentRefs": [{"name": "edge", "namespace": "infra", "sectionName": "http"}],
        "hostnames": ["defect.example"],
        "rules": [
            {
                "matches": [
                    {"path": {"type": "PathPrefix", "value": "/v2"}, "method": "POST"},
                    {"path": {"type": "Exact", "value": "/x"}, "headers": [{"name": "x-version", "value": "v1"}]},
                ],
                "filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "model"}}],
                "timeouts": {"request": "5s"},
                "retry": {"attempts": 2},
                "backendRefs": [{"name": "line", "port": 9000, "filters": [{"type": "RequestHeaderModifier"}]}],
            },
            {"matches": [gateway_api.ANY_PATH], "backendRefs": [{"name": "shop-window", "port": 80}]},
        ],
    },
)
BY_REFERENCE: dict[str, Any] = {"provider": "GatewayAPI", "routeRef": {"name": "users"}}


def test_the_users_matches_are_copied_with_the_header_and_all_they_carry() -> None:
    (made,) = route_of_gateway(CANARY, USERS, by=BY_REFERENCE).apply
    assert made["metadata"]["name"] == "line-canary"
    assert made["spec"]["parentRefs"] == USERS["spec"]["parentRefs"]
    assert made["spec"]["hostnames"] == ["defect.example"]
    # Neither the rule for another Service nor the match that speaks of the header is copied.
    (rule,) = made["spec"]["rules"]
    assert rule == {
        "matches": [
            {
                "path": {"type": "PathPrefix", "value": "/v2"},
                "method": "POST",
                "headers": [{"type": "Exact", "name": "X-Version", "value": "v2"}],
            }
        ],
        "filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "model"}}],
        "timeouts": {"request": "5s"},
        "retry": {"attempts": 2},
        "backendRefs": [backend(NEW, 1) | {"port": 9000, "filters": [{"type": "RequestHeaderModifier"}]}],
    }


def test_without_a_header_the_users_route_is_all_there_is() -> None:
    ours = route_of_gateway(CANARY, USERS, by=BY_REFERENCE).apply[0]
    stated = route_of_gateway(Route(OLD), USERS, ours, by=BY_REFERENCE)
    assert [each.name for each in stated.delete] == ["line-canary"]
    assert not stated.accepted
    assert route_of_gateway(Route(OLD), USERS, by=BY_REFERENCE).accepted


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        ((), "RouteNotFound"),
        (
            (foreign("HTTPRoute", "users", {"rules": [{"backendRefs": [{"name": "x", "port": 1}]}]}),),
            "RouteWithoutService",
        ),
        ((USERS, foreign("HTTPRoute", "line-canary", {"rules": []})), "RouteNameTaken"),
    ],
)
def test_a_route_that_cannot_be_added_to_is_told_of(routes: tuple[RawObject, ...], reason: str) -> None:
    stated = route_of_gateway(CANARY, *routes, by=BY_REFERENCE)
    assert stated.problem.reason == reason
    assert not stated.apply


def parent(generation: int, name: str = "edge", **conditions: str) -> dict[str, Any]:
    told = [
        {"type": type_, "status": status, "reason": "R", "message": "m", "observedGeneration": generation}
        for type_, status in conditions.items()
    ]
    return {"parentRef": {"name": name}, "conditions": told}


@pytest.mark.parametrize(
    ("parents", "accepted"),
    [
        ([], False),
        ([parent(2, Accepted="True", ResolvedRefs="True")], True),
        ([parent(1, Accepted="True", ResolvedRefs="True")], False),
        ([parent(2, Accepted="True", ResolvedRefs="False")], False),
        ([parent(2, Accepted="False", ResolvedRefs="True")], False),
        ([parent(2, Accepted="True")], False),
        ([parent(2, "other", Accepted="True", ResolvedRefs="True")], False),
        ([parent(2, Accepted="True", ResolvedRefs="True"), parent(1, Accepted="True", ResolvedRefs="True")], False),
    ],
)
def test_a_route_is_accepted_at_its_generation_by_all(parents: list[dict[str, Any]], accepted: bool) -> None:
    (made,) = route_of_gateway(CANARY).apply
    live = owned(made, status={"parents": parents})
    live["metadata"]["generation"] = 2
    assert route_of_gateway(CANARY, live).accepted is accepted
    assert not route_of_gateway(Route(OLD), live).accepted, "it is another route"


@pytest.mark.parametrize(
    ("theirs", "created", "conflict"),
    [
        ({"parentRefs": [{"name": "edge"}], "hostnames": ["defect.example"]}, "2020", True),
        ({"parentRefs": [{"name": "edge"}], "hostnames": ["defect.example"]}, "2027", False),
        ({"parentRefs": [{"name": "edge"}], "hostnames": ["shop.example"]}, "2020", False),
        ({"parentRefs": [{"name": "other"}], "hostnames": ["defect.example"]}, "2020", False),
        (
            {
                "parentRefs": [{"name": "edge"}],
                "hostnames": ["defect.example"],
                "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/shop"}}]}],
            },
            "2020",
            False,
        ),
    ],
)
def test_an_older_route_for_all_requests_of_the_host_wins(theirs: dict[str, Any], created: str, conflict: bool) -> None:
    (made,) = route_of_gateway(Route(OLD)).apply
    made["metadata"]["creationTimestamp"] = "2026"
    stated = route_of_gateway(Route(OLD), made, foreign("HTTPRoute", "theirs", theirs, created=created))
    assert (stated.problem is not None) is conflict


ROUTES = st.builds(
    Route,
    st.just(OLD),
    st.sampled_from([None, NEW]),
    weight=st.integers(0, 100),
    header=st.none() | st.tuples(st.sampled_from(["X-Version", "x-line"]), st.sampled_from(["v2", "V2"])),
    mirror=st.integers(0, 100),
)


@given(ROUTES, st.booleans())
def test_of_any_route_the_first_rule_is_the_header_and_the_last_one_shares_out_all(route: Route, two: bool) -> None:
    chosen = spec(ISTIO, {"http": 8080, "grpc": 8081} if two else None)
    assert chosen.traffic is not None
    rules = istio.virtual_service(OWNER, chosen, chosen.traffic, route, delegated=False)["spec"]["http"]
    assert sum(each["weight"] for each in rules[-1]["route"]) == 100
    assert "match" not in rules[-1]
    if route.header and route.candidate:
        assert rules[0]["match"][0]["headers"][route.header[0].lower()] == {"exact": route.header[1]}
        assert [each["destination"]["subset"] for each in rules[0]["route"]] == [NEW]
    used = {each["destination"]["subset"] for rule in rules for each in rule["route"]}
    used |= {each["destination"]["subset"] for rule in rules for each in rule.get("mirrors", ())}
    assert used == route.revisions
    own = gateway_api.state(OWNER, spec(GATEWAY), spec(GATEWAY).traffic, route, [], {"HTTPRoute": []})  # type: ignore[arg-type]
    assert own.apply == [], "no Service is there yet"


LAB = [node("lab-0", pool="lab")]


def lab(by: dict[str, Any]) -> World:
    world = World(LAB, [pool("lab", placement="Replicas", replicas=2)], traffic=by)
    world.served = set(traffic.KINDS[by["provider"]])
    return world


def until(world: World, holds: Any, rounds: int = 120) -> None:
    """Run until it holds, checking all along that requests are sent only where something answers."""
    for _ in range(rounds):
        world.run(1, watch=lambda: nothing_is_lost(world))
        if holds():
            return
    raise AssertionError(world.status)


def ready(world: World) -> set[str]:
    return {
        each["metadata"]["labels"]["modelfleet.dev/revision"]
        for each in world.kind("Pod")
        if each["status"]["conditions"][0]["status"] == "True"
    }


def nothing_is_lost(world: World) -> None:
    """Every revision that a route names has a subset and a ready pod, and the Service of stable has one."""
    subsets = {each["name"] for rule in world.kind("DestinationRule") for each in rule["spec"]["subsets"]}
    used = {
        each["destination"]["subset"]
        for service in world.kind("VirtualService")
        for rule in service["spec"]["http"]
        for each in rule["route"]
    }
    assert used <= subsets
    assert used <= ready(world)
    services = {each["metadata"]["name"]: each["spec"]["selector"] for each in world.kind("Service")}
    for route in world.kind("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for each in rule["backendRefs"]:
                assert services[each["name"]]["modelfleet.dev/revision"] in ready(world)
    if used:
        assert services["line"]["modelfleet.dev/revision"] in ready(world)


def accept(world: World) -> None:
    """What a Gateway's controller does."""
    for each in world.kind("HTTPRoute"):
        each["metadata"]["generation"] = 1
        each["status"] = {"parents": [parent(1, Accepted="True", ResolvedRefs="True")]}


def test_requests_move_when_the_new_replicas_are_ready_and_none_is_lost() -> None:
    world = lab(ISTIO)
    until(world, lambda: world.status["phase"] == "Healthy")
    first = world.status["stable"]["revision"]
    world.add_model(model_version("2.0.0"))
    world.edit(modelVersion="defect-2-0-0")
    until(world, lambda: world.status["phase"] == "Healthy" and world.status["stable"]["revision"] != first)
    second = world.status["stable"]["revision"]
    assert world.replicas() == {"defect-2-0-0": 2}
    (service,) = world.kind("VirtualService")
    assert [each["destination"]["subset"] for each in service["spec"]["http"][0]["route"]] == [second]
    (rule,) = world.kind("DestinationRule")
    until(world, lambda: [each["name"] for each in world.kind("DestinationRule")[0]["spec"]["subsets"]] == [second])
    names = {each["metadata"]["name"] for each in world.kind("Service")}
    assert names == {"line", "line-routed"}
    assert world.condition("TrafficRouted")["reason"] == "Routed"
    traffic_status = {key: world.status["traffic"][key] for key in ("virtualServiceName", "services")}
    assert traffic_status == {"virtualServiceName": "line", "services": {"stable": "line"}}
    assert rule["spec"]["host"] == "line-routed"


def test_through_the_gateway_api_too() -> None:
    world = lab(GATEWAY)

    def healthy_with(model: str) -> bool:
        accept(world)
        return bool(world.status["phase"] == "Healthy" and world.status["stable"]["modelVersion"] == model)

    until(world, lambda: healthy_with("defect-1-0-0"))
    world.add_model(model_version("2.0.0"))
    world.edit(modelVersion="defect-2-0-0")
    until(world, lambda: healthy_with("defect-2-0-0"))
    second = world.status["stable"]["revision"]
    until(world, lambda: {each["metadata"]["name"] for each in world.kind("Service")} == {"line", f"line-{second}"})
    assert world.replicas() == {"defect-2-0-0": 2}


def test_a_candidate_that_does_not_come_up_gets_no_request_and_takes_no_replica_away() -> None:
    world = lab(ISTIO)
    until(world, lambda: world.status["phase"] == "Healthy")
    first = world.status["stable"]["revision"]

    def broken(pod: Object, at: str) -> Object:
        if pod["metadata"]["labels"]["modelfleet.dev/model-version"] == "defect-2-0-0":
            return {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
        return healthy(pod, at)

    world.behaviour = broken
    world.add_model(model_version("2.0.0"))
    world.edit(modelVersion="defect-2-0-0")
    until(world, lambda: world.replicas().get("defect-2-0-0"))
    world.run(10, watch=lambda: nothing_is_lost(world))
    assert world.replicas()["defect-1-0-0"] == 2
    world.edit(modelVersion="defect-1-0-0")
    until(world, lambda: world.status["phase"] == "Healthy" and world.replicas() == {"defect-1-0-0": 2})
    assert world.status["stable"]["revision"] == first


def test_what_was_routed_to_outlives_its_requests_also_where_it_never_became_stable() -> None:
    world = lab(ISTIO)
    world.add_model(model_version("2.0.0"))
    world.edit(strategy={"waves": [{"name": "all", "nodes": "100%", "approval": "Manual"}]})
    until(world, lambda: world.condition("TrafficRouted")["reason"] == "Routed" and world.status["phase"] == "Paused")
    assert "stable" not in world.status
    routed = world.kind("VirtualService")[0]["spec"]["http"]
    world.edit(modelVersion="defect-2-0-0", strategy={})
    until(world, lambda: world.kind("VirtualService")[0]["spec"]["http"] != routed)
    moved = world.now
    until(world, lambda: "defect-1-0-0" not in world.replicas())
    assert 30 <= (world.now - moved).total_seconds() <= 40
    until(world, lambda: world.status["phase"] == "Healthy")
    assert world.replicas() == {"defect-2-0-0": 2}


def test_going_back_while_the_replicas_are_still_there_makes_none_anew() -> None:
    world = lab(ISTIO)
    until(world, lambda: world.status["phase"] == "Healthy")
    world.add_model(model_version("2.0.0"))
    first = {pod["metadata"]["name"] for pod in world.kind("Pod")}
    world.edit(modelVersion="defect-2-0-0")
    until(world, lambda: world.status["stable"]["modelVersion"] == "defect-2-0-0")
    assert first < {pod["metadata"]["name"] for pod in world.kind("Pod")}, "they linger"
    world.edit(modelVersion="defect-1-0-0")
    until(world, lambda: world.status["phase"] == "Healthy" and len(world.kind("Pod")) == 2)
    assert {pod["metadata"]["name"] for pod in world.kind("Pod")} == first


def test_pods_that_have_just_become_ready_wait_for_their_endpoints() -> None:
    world = lab(ISTIO)
    until(world, lambda: world.status["phase"] == "Healthy")
    routed = world.kind("VirtualService")[0]["spec"]["http"]

    def fresh(pod: Object, _at: str) -> Object:
        status = pod_status("True")
        status["conditions"][0]["lastTransitionTime"] = conditions.timestamp(world.now)
        return status

    world.behaviour = fresh
    world.add_model(model_version("2.0.0"))
    world.edit(modelVersion="defect-2-0-0")
    world.run(8)
    assert world.replicas()["defect-2-0-0"] == 2
    assert world.kind("VirtualService")[0]["spec"]["http"] == routed
    world.behaviour = healthy
    until(world, lambda: world.kind("VirtualService")[0]["spec"]["http"] != routed)


def test_a_route_deleted_by_hand_comes_back_the_same() -> None:
    world = lab(ISTIO)
    until(world, lambda: world.status["phase"] == "Healthy")
    before = copy.deepcopy(world.kind("VirtualService") + world.kind("DestinationRule"))
    for each in before:
        del world.children[each["kind"], each["metadata"]["name"]]
    world.step()
    world.step()
    assert world.kind("VirtualService") + world.kind("DestinationRule") == before


def test_what_is_not_installed_is_named_and_noticed_when_it_comes() -> None:
    world = lab(ISTIO)
    world.served = set()
    world.run()
    assert world.condition("Stalled")["reason"] == "TrafficProviderMissing"
    assert "install Istio" in world.condition("TrafficRouted")["message"]
    world.served = set(istio.KINDS)
    until(world, lambda: world.status["phase"] == "Healthy")


def test_without_traffic_nothing_of_it_is_left() -> None:
    world = lab({**ISTIO, "mtls": "Strict"})
    until(world, lambda: world.condition("TrafficRouted")["reason"] == "NoSidecar")
    (authentication,) = world.kind("PeerAuthentication")
    assert authentication["spec"] == {
        "selector": {"matchLabels": {"modelfleet.dev/edge-deployment": "line", "modelfleet.dev/placement": "Replicas"}},
        "mtls": {"mode": "STRICT"},
    }
    world.deployment["spec"].pop("traffic")
    until(world, lambda: world.status["phase"] == "Healthy")
    for kind in istio.KINDS:
        assert world.kind(kind) == []
    (service,) = world.kind("Service")
    assert "modelfleet.dev/revision" not in service["spec"]["selector"]
    assert "traffic" not in world.status


@pytest.mark.parametrize("chosen", [ISTIO, GATEWAY], ids=["istio", "gateway"])
@settings(max_examples=25)
@given(data=st.data())
def test_interrupted_anywhere_no_request_is_lost(chosen: dict[str, Any], data: st.DataObject) -> None:
    world = lab(chosen)
    world.add_model(model_version("2.0.0"))

    def rounds(count: int) -> None:
        for _ in range(count):
            world.step(data.draw(st.none() | st.integers(0, 6)))
            nothing_is_lost(world)
            accept(world)
            world.play(data.draw(st.sampled_from([1, 4])))
            nothing_is_lost(world)

    rounds(8)
    for version in data.draw(st.lists(st.sampled_from(["1", "2"]), max_size=3)):
        world.edit(modelVersion=f"defect-{version}-0-0")
        rounds(data.draw(st.integers(1, 8)))
    last = world.deployment["spec"]["modelVersion"]

    def done() -> bool:
        accept(world)
        return bool(world.status["phase"] == "Healthy" and world.replicas() == {last: 2})

    until(world, done)
