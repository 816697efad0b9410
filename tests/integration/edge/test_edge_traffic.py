"""Routes on a real API server with the real CRDs of Istio and the Gateway API; nobody implements them here."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.cluster import crds
from e2e.cluster.cluster import Cluster
from tests.integration.edge.conftest import Line
from tests.objects import RawObject

ISTIO: dict[str, Any] = {"provider": "Istio", "gateways": ["istio-system/ingress"]}
GATEWAY: dict[str, Any] = {"provider": "GatewayAPI", "parentRefs": [{"name": "edge"}]}
POOL = {"name": "lab", "nodeSelector": {"pool": "x86", "site": "plant-c"}, "placement": "Replicas", "replicas": 2}
ROUTES = "virtualservices,destinationrules,peerauthentications,httproutes"


@pytest.fixture(scope="module")
def routing(fleet: Cluster, say: Callable[[str], None]) -> Iterator[None]:
    """The CRDs of both; taken away after the module."""
    files = [*crds.istio(say), *crds.gateway_api(say)]
    crds.install(fleet.kubectl, files)
    yield
    fleet.kubectl("delete", "--wait=false", *(f"--filename={file}" for file in files))


def routed(line: Line, by: RawObject) -> None:
    line.register("1.0.0")
    line.register("2.0.0")
    line.deploy([POOL], traffic={**by, "hosts": [host(line)]})


def host(line: Line) -> str:
    """Of the test's own: a host belongs to one route of the cluster."""
    return f"{line.namespace}.example"


def spec_of(line: Line, kind: str, name: str = "line") -> RawObject:
    found = line.kubectl.get(kind, name)
    assert found is not None, f"there is no {kind} {name}"
    return dict(found["spec"])


def reason(status: RawObject) -> str:
    """Of the condition TrafficRouted."""
    return str(next((each["reason"] for each in status["conditions"] if each["type"] == "TrafficRouted"), ""))


def revision_of(line: Line, role: str = "stable") -> str:
    deployment = line.kubectl.get("edgedeployment", "line")
    assert deployment is not None
    return str(deployment["status"][role]["revision"])


def test_routing_kinds_are_noticed_when_they_come(line: Line, fleet: Cluster, say: Callable[[str], None]) -> None:
    """First in this module: its CRDs are not there yet."""
    routed(line, ISTIO)
    line.until(lambda status: reason(status) == "TrafficProviderMissing")
    crds.install(fleet.kubectl, crds.istio(say))
    line.until_healthy("1.0.0")
    assert spec_of(line, "virtualservice")["hosts"] == [host(line)]


@pytest.mark.usefixtures("routing")
class TestRouted:
    """With the CRDs in place."""

    def test_requests_follow_a_rollout_through_istio(self, line: Line) -> None:
        routed(line, {**ISTIO, "mtls": "Strict"})
        status = line.until(lambda status: reason(status) == "NoSidecar")
        first = status["stable"]["revision"]
        assert status["traffic"]["services"] == {"stable": "line"}
        assert status["traffic"]["virtualServiceName"] == "line"
        assert spec_of(line, "virtualservice")["http"] == [
            {"route": [{"destination": destination(first), "weight": 100}]}
        ]
        assert spec_of(line, "peerauthentication")["mtls"] == {"mode": "STRICT"}
        line.edit(modelVersion="m-2-0-0")
        line.until_healthy("2.0.0")
        second = revision_of(line)
        assert spec_of(line, "virtualservice")["http"] == [
            {"route": [{"destination": destination(second), "weight": 100}]}
        ]
        line.eventually(lambda: subsets(line) == [second])
        assert spec_of(line, "service")["selector"]["modelfleet.dev/revision"] == second

    def test_what_is_deleted_or_edited_by_hand_is_back_and_foreign_routes_are_left(self, line: Line) -> None:
        routed(line, ISTIO)
        theirs = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "theirs"},
            "spec": {"hosts": ["other.example"], "http": [{"route": [{"destination": {"host": "other"}}]}]},
        }
        line.kubectl.apply(theirs)
        before = line.kubectl.get("virtualservice", "theirs")
        line.until_healthy("1.0.0")
        wanted = spec_of(line, "virtualservice")
        line.kubectl("delete", "virtualservice,destinationrule", "line", "--wait=true")
        line.eventually(lambda: line.kubectl.get("virtualservice", "line") and subsets(line))
        fault = {"fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}}
        patch = json.dumps({"spec": {"http": [{**wanted["http"][0], **fault}]}})
        line.kubectl("patch", "virtualservice", "line", "--type=merge", f"--patch={patch}")
        line.eventually(lambda: spec_of(line, "virtualservice") == wanted)
        line.kubectl("delete", "service", "line-routed", "--wait=true")
        line.eventually(lambda: line.kubectl.get("service", "line-routed"))
        assert line.kubectl.get("virtualservice", "theirs") == before

    def test_a_host_that_somebody_has_is_left_to_them_until_they_delegate(self, line: Line) -> None:
        rule: RawObject = {"route": [{"destination": {"host": "other"}}]}
        theirs: RawObject = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "root"},
            "spec": {"hosts": [host(line)], "gateways": ["istio-system/ingress"], "http": [rule]},
        }
        line.kubectl.apply(theirs)
        routed(line, ISTIO)
        status = line.until(lambda status: reason(status) == "HostConflict")
        stalled = next(each for each in status["conditions"] if each["type"] == "Stalled")
        assert f"{line.namespace}/root" in stalled["message"]
        assert line.kubectl.get("virtualservice", "line") is None
        theirs["spec"]["http"] = [{"delegate": {"name": "line"}}]
        line.kubectl.apply(theirs)
        line.until_healthy("1.0.0")
        assert set(spec_of(line, "virtualservice")) == {"http"}

    def test_a_gateways_word_is_waited_for(self, line: Line) -> None:
        routed(line, GATEWAY)
        status = line.until(lambda status: reason(status) == "RouteNotAccepted")
        assert status["phase"] != "Healthy"
        accept(line)
        line.until_healthy("1.0.0")
        (rule,) = spec_of(line, "httproute")["rules"]
        assert rule["backendRefs"][0]["name"] == f"line-{revision_of(line)}"
        before = len(line.writes())
        line.edit(revisionHistoryLimit=6)
        line.until(lambda status: status["phase"] == "Healthy")
        written = [each["objectRef"]["resource"] for each in line.writes()[before:]]
        assert set(written) == {"edgedeployments"}, "what the API server fills in is no difference"

    def test_without_traffic_all_routes_of_ours_go(self, line: Line) -> None:
        routed(line, ISTIO)
        line.until_healthy("1.0.0")
        line.edit(traffic=None)
        line.until_healthy("1.0.0")
        line.eventually(lambda: not line.kubectl.list(ROUTES))
        line.eventually(lambda: line.kubectl.get("service", "line-routed") is None)
        assert "modelfleet.dev/revision" not in spec_of(line, "service")["selector"]


def destination(revision: str) -> RawObject:
    return {"host": "line-routed", "subset": revision, "port": {"number": 8080}}


def subsets(line: Line) -> list[str]:
    rule = line.kubectl.get("destinationrule", "line")
    return [each["name"] for each in rule["spec"]["subsets"]] if rule else []


def accept(line: Line, name: str = "line") -> None:
    """What a Gateway's controller writes."""
    route = line.kubectl.get("httproute", name)
    assert route is not None
    told = {
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-11-21T00:00:00Z",
        "observedGeneration": route["metadata"]["generation"],
    }
    parent = {
        "parentRef": {"name": "edge"},
        "controllerName": "test.example/gateway",
        "conditions": [{**told, "type": type_} for type_ in ("Accepted", "ResolvedRefs")],
    }
    line.patch_status("httproute", name, {"parents": [parent]})
