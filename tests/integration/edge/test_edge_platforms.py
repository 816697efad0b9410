"""KubeEdge and OpenYurt side by side on a real API server: what their labels bring about, and what is left alone."""

import json
from collections.abc import Iterator

import pytest

from e2e.cluster import gateways
from tests.integration.edge.conftest import Line
from tests.objects import RawObject

TAINT = "node-role.kubernetes.io/edge"
YURT = {"openyurt.io/is-edge-worker": "true", "apps.openyurt.io/nodepool": "line", TAINT: "", "fleet": "both"}
EDGE = {"apps.kubeedge.io/belonging-to": "line", "fleet": "both"}


@pytest.fixture
def both(line: Line) -> Iterator[Line]:
    """A line with two gateways of each platform: one by its label, one of KubeEdge's by its kubelet's version."""
    made = [gateways.node(gateways.POOLS[2], 8000 + index, YURT if index < 2 else EDGE) for index in range(4)]
    for each in made:
        each["metadata"]["name"] = each["metadata"]["labels"]["kubernetes.io/hostname"] = (
            f"{line.namespace}-{each['metadata']['name']}"
        )
    made[3]["status"]["nodeInfo"]["kubeletVersion"] = "v1.32.10-kubeedge-v1.23.1"
    del made[3]["metadata"]["labels"][TAINT]
    made[0]["metadata"]["annotations"]["node.openyurt.io/autonomy-duration"] = "0"
    line.cluster.gateways.add(made)
    yield line
    line.cluster.gateways.remove(each["metadata"]["name"] for each in made)


def pool(**fields: object) -> RawObject:
    return {"name": "both", "nodeSelector": {"fleet": "both"}, **fields}


def test_gateways_of_both_platforms_serve_side_by_side(both: Line) -> None:
    both.register("1.0.0")
    both.deploy([pool()])
    both.until_healthy("1.0.0")
    assert len(both.serving("1.0.0")) == 4
    pods = both.kubectl.list("pods")
    assert {each["metadata"]["labels"]["app-offline.kubeedge.io"] for each in pods} == {"autonomy"}
    for pod in pods:
        tolerated = {each["key"]: each.get("tolerationSeconds") for each in pod["spec"]["tolerations"]}
        assert TAINT in tolerated
        assert tolerated["node.kubernetes.io/unreachable"] is None, "for ever, as every DaemonSet's pod"
    (service,) = both.kubectl.list("services")
    assert service["metadata"]["name"] == "line-pool-both"
    assert {key: value for key, value in service["metadata"]["annotations"].items() if "modelfleet" not in key} == {
        "apps.kubeedge.io/service-topology": "range-nodegroup",
        "openyurt.io/topologyKeys": "openyurt.io/nodepool",
    }
    both.eventually(lambda: len(endpoints(both, "line-pool-both")) == 4)


def endpoints(line: Line, service: str) -> list[RawObject]:
    slices = line.kubectl.list("endpointslices", f"kubernetes.io/service-name={service}")
    return [each for piece in slices for each in piece["endpoints"] or ()]


def test_replicas_stay_on_the_edge_and_what_the_platform_rewrites_is_left_alone(both: Line) -> None:
    both.register("1.0.0")
    both.deploy([pool(placement="Replicas", replicas=2)])
    both.until_healthy("1.0.0")
    (deployment,) = both.kubectl.list("deployments")
    leaving = [each for each in deployment["spec"]["template"]["spec"]["tolerations"] if "NoExecute" in each.values()]
    assert all(each["tolerationSeconds"] > 10**8 for each in leaving)
    assert len(leaving) == 2
    both.eventually(lambda: len(endpoints(both, "line-pool-both")) == 2)
    before = len(both.until_quiet())
    pod = both.kubectl.list("pods")[0]
    # What OpenYurt's pod-binding controller and KubeEdge's webhook do to pods.
    more = [*pod["spec"]["tolerations"], {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}]
    patch = json.dumps([{"op": "replace", "path": "/spec/tolerations", "value": more}])
    both.kubectl("patch", "pod", pod["metadata"]["name"], "--type=json", f"--patch={patch}")
    both.edit(revisionHistoryLimit=6)
    both.until(lambda status: status["phase"] == "Healthy")
    written = both.until_quiet()[before:]
    what = [each["objectRef"]["resource"] for each in written]
    assert what == ["edgedeployments"], f"observedGeneration, and nothing else: {written}"


def test_a_service_of_somebody_elses_is_told_of_and_left_as_it_is(line: Line) -> None:
    line.kubectl("create", "service", "clusterip", "line", "--tcp=80:80")
    line.register("1.0.0")
    line.deploy([{"name": "x86", "nodeSelector": {"pool": "x86", "site": "plant-d"}, "placement": "Replicas"}])
    status = line.until(lambda status: status["conditions"][2]["reason"] == "ServiceNameTaken")
    assert status["counts"]["desired"] == 1
    line.until(lambda status: status["counts"]["healthy"] == 1)
    service = line.kubectl.get("service", "line")
    assert service is not None
    assert service["spec"]["selector"] == {"app": "line"}
    assert "ownerReferences" not in service["metadata"]
    line.kubectl("delete", "service", "line")
    line.until_healthy("1.0.0")
