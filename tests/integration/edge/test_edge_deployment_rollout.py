"""Rollouts over simulated gateways: a real API server, real controllers, 200 nodes in three pools."""

from collections import Counter
from collections.abc import Iterator

import pytest

from e2e.cluster import gateways
from tests import objects
from tests.integration.edge.conftest import Line, artifact
from tests.objects import RawObject

WAVES = [{"name": "pilot", "nodes": 1}, {"name": "half", "nodes": "50%"}, {"name": "all", "nodes": "100%"}]
BUILDS = [
    artifact("gpu-fp32", accelerators=["nvidia.com/gpu"], minMemory="20Gi"),
    artifact("gpu-fp16", accelerators=["nvidia.com/gpu"]),
    artifact("int8", cpuFeatures=["neon"], platforms=["linux/arm64"]),
    artifact("fp16", cpuFeatures=["avx2"]),
]


def pool(name: str, **fields: object) -> RawObject:
    return {"name": name, "nodeSelector": {"pool": name}, **fields}


def in_site(name: str, site: str, **fields: object) -> RawObject:
    return {"name": name, "nodeSelector": {"pool": name, "site": site}, **fields}


@pytest.fixture
def other_line(line: Line) -> Line:
    """A line with the first version on the x86 gateways of one plant, 20 of them, and a second one registered."""
    line.register("1.0.0")
    line.register("2.0.0")
    line.deploy([in_site("x86", "plant-a")], strategy={"waves": WAVES, "maxUnavailable": "50%"})
    line.until_healthy("1.0.0")
    return line


def test_two_hundred_gateways_take_two_versions_at_two_writes_each(line: Line) -> None:
    line.register("1.0.0", BUILDS)
    line.register("2.0.0", BUILDS)
    pools = [pool("cuda"), pool("arm-edge"), pool("x86")]
    line.deploy(pools, strategy={"waves": WAVES, "maxUnavailable": "20%"})
    status = line.until_healthy("1.0.0")
    assert [each["artifacts"] for each in status["pools"]] == [
        {"gpu-fp16": 20, "gpu-fp32": 20},
        {"int8": 80},
        {"fp16": 80},
    ]
    assert status["counts"] == {
        "desired": 200,
        "updated": 200,
        "healthy": 200,
        "failed": 0,
        "suspect": 0,
        "pendingOffline": 0,
        "noArtifact": 0,
    }
    assert len(line.serving("1.0.0")) == 200
    before = len(line.operator.writes())
    line.edit(modelVersion="m-2-0-0")
    line.until_healthy("2.0.0")
    rollout = line.operator.writes()[before:]
    labels = Counter(each["objectRef"]["name"] for each in rollout if each["objectRef"]["resource"] == "nodes")
    # One to make the new pod ready beside the old one, one to hand over; one alone where two pods have no accelerator.
    # A write whose answer comes too late is made again: the machine may be slow, so the sum counts.
    assert len(labels) == 200
    assert labels.total() <= 2 * 200
    others = Counter(each["objectRef"]["resource"] for each in rollout if each["objectRef"]["resource"] != "nodes")
    assert others.total() <= 100, others
    assert len(line.serving("2.0.0")) == 200
    # The gateways with one accelerator have no room for two pods.
    assert set(line.events()) == {"RolloutStarted", "WaveCompleted", "RolloutCompleted", "PrefetchSkipped"}


def test_a_converged_line_is_left_alone(other_line: Line) -> None:
    line = other_line
    before = len(line.until_quiet())
    # A change that wakes the reconciler and asks for nothing new.
    line.kubectl("label", "edgedeployment", "line", "touched=yes")
    line.kubectl("label", "node", "gw-x86-0000", "--overwrite", "touched=yes")
    line.edit(revisionHistoryLimit=6)
    line.until(lambda status: status["phase"] == "Healthy")
    written = line.until_quiet()[before:]
    what = [each["objectRef"].get("subresource") for each in written]
    assert what == ["status"], f"observedGeneration, and nothing else: {written}"


def test_a_restarted_operator_goes_on_where_it_was(other_line: Line) -> None:
    line = other_line
    line.edit(modelVersion="m-2-0-0")
    line.until(lambda status: status["counts"]["updated"] > 0)
    line.operator.stop()
    line.operator.start()
    line.until_healthy("2.0.0")
    assert len(line.serving("2.0.0")) == 20


def test_children_deleted_by_hand_come_back(other_line: Line) -> None:
    line = other_line
    line.kubectl("delete", "daemonsets,controllerrevisions", "--all", "--wait=true")
    line.until(lambda status: len(line.serving("1.0.0")) == 20 and status["phase"] == "Healthy")
    assert len(line.kubectl.list("daemonsets")) == 1


def test_offline_gateways_block_nobody_and_are_caught_up(other_line: Line) -> None:
    line = other_line
    away = ["gw-x86-0004", "gw-x86-0008"]
    line.cluster.gateways.take_offline(*away)
    try:
        line.edit(modelVersion="m-2-0-0", strategy={"offlineAfterSeconds": 1})
        status = line.until_healthy("2.0.0")
        line.until(lambda status: status["counts"]["pendingOffline"] == 2)
        assert status["counts"]["healthy"] == 18
        assert len(line.kubectl.list("daemonsets")) == 2
    finally:
        line.cluster.gateways.bring_back(*away)
    line.until(lambda status: status["counts"]["healthy"] == 20 and status["phase"] == "Healthy")
    assert len(line.serving("2.0.0")) == 20


def test_a_refused_model_version_leaves_stable_alone(other_line: Line) -> None:
    line = other_line
    line.register("3.0.0", status="False", reason="HashMismatch", message="int8: other bytes")
    line.edit(modelVersion="m-3-0-0")
    line.until(lambda status: status["conditions"][2]["reason"] == "ModelVersionNotVerified")
    line.edit(modelVersion="m-4-0-0")
    line.until(lambda status: status["conditions"][2]["reason"] == "ModelVersionNotFound")
    assert len(line.serving("1.0.0")) == 20
    line.edit(modelVersion="m-1-0-0")
    line.until_healthy("1.0.0")
    assert {"ModelVersionNotVerified", "ModelVersionNotFound"} <= set(line.events())


def endpoints(line: Line) -> list[RawObject]:
    """The addresses behind the Service."""
    slices = line.kubectl.list("endpointslices", "kubernetes.io/service-name=line")
    return [each for piece in slices for each in piece["endpoints"] or ()]


def test_replicas_are_moved_and_reached_by_a_service_of_their_own(line: Line) -> None:
    line.register("1.0.0")
    line.register("2.0.0")
    line.deploy([in_site("x86", "plant-b", placement="Replicas", replicas=4), in_site("arm-edge", "plant-b")])
    line.until_healthy("1.0.0")
    line.eventually(lambda: len(endpoints(line)) == 4)
    line.edit(modelVersion="m-2-0-0")
    line.until_healthy("2.0.0")
    line.eventually(lambda: [each["spec"]["replicas"] for each in line.kubectl.list("deployments")] == [4])
    line.edit(pools=[in_site("arm-edge", "plant-b")])
    line.until(lambda status: status["counts"]["desired"] == 20 and status["phase"] == "Healthy")
    # What is left is the pool's own: the simulated gateways say that they are KubeEdge's.
    line.eventually(
        lambda: (
            [each["metadata"]["name"] for each in line.kubectl.list("deployments,services")] == ["line-pool-arm-edge"]
        )
    )


def test_a_quota_that_refuses_the_pods_is_told_of(line: Line) -> None:
    line.kubectl("create", "quota", "none", "--hard=pods=0")
    line.register("1.0.0")
    line.deploy([in_site("arm-edge", "plant-c")])
    status = line.until(lambda status: status["conditions"][2]["reason"] == "PodsRefused")
    assert "exceeded quota" in status["message"]
    line.kubectl("delete", "quota", "none")
    line.until_healthy("1.0.0")


def test_nothing_is_left_of_a_deleted_deployment(other_line: Line) -> None:
    line = other_line
    line.kubectl("delete", "edgedeployment", "line")
    kinds = "daemonsets,deployments,controllerrevisions,services,pods"
    line.eventually(lambda: line.kubectl.list(kinds) == [])


HAND = "hand-played"


@pytest.fixture
def by_hand(line: Line) -> Iterator[RawObject]:
    """A gateway whose kubelet is the test."""
    node = gateways.node(gateways.POOLS[2], 9000, {"type": HAND, "site": HAND, "kubernetes.io/hostname": HAND})
    node["metadata"]["name"] = f"gw-{line.namespace}"
    line.cluster.gateways.add([node])
    yield node
    line.kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
    line.cluster.gateways.remove([node["metadata"]["name"]])


def report(line: Line, version: str, fetch: RawObject | None) -> None:
    """Play the kubelet: the pod of this version is ready, or its fetch container ended as given."""
    pod = pod_of(line, version)
    condition = {"type": "Ready", "lastTransitionTime": "2026-11-21T00:00:00Z"}
    if fetch is None:
        serve = {
            "name": "serve",
            "ready": True,
            "state": {"running": {}},
            "image": "",
            "imageID": "",
            "restartCount": 0,
        }
        status = {"phase": "Running", "conditions": [{**condition, "status": "True"}], "containerStatuses": [serve]}
    else:
        container = {"name": "fetch", "ready": False, "image": "", "imageID": "", "restartCount": 1}
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        container |= {"state": waiting, "lastState": {"terminated": fetch}}
        status = {"phase": "Pending", "conditions": [{**condition, "status": "False"}]}
        status["initContainerStatuses"] = [container]
    line.patch_status("pod", pod["metadata"]["name"], status)


def end(line: Line, version: str) -> None:
    """Play the kubelet: the pod of this version, which is to go, has gone."""
    pod = pod_of(line, version, terminating=True)
    line.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")


def pod_of(line: Line, version: str, *, terminating: bool = False) -> RawObject:
    """Wait for the pod of this version, bound to its node, that is to go or is not."""
    found: list[RawObject] = []

    def there(_: RawObject) -> bool:
        pods = line.kubectl.list("pods", f"modelfleet.dev/model-version={objects.name_of('m', version)}")
        found[:] = [
            pod
            for pod in pods
            if pod["spec"].get("nodeName") and ("deletionTimestamp" in pod["metadata"]) == terminating
        ]
        return bool(found)

    line.kubectl.wait_for("edgedeployment", "line", there)
    return found[0]


def test_a_wire_cut_in_mid_update_finds_the_old_version_serving_and_the_new_one_there(
    line: Line, by_hand: RawObject
) -> None:
    name = by_hand["metadata"]["name"]
    line.register("1.0.0")
    line.register("2.0.0")
    line.deploy([in_site("x86", HAND)])
    report(line, "1.0.0", None)
    line.until_healthy("1.0.0")
    line.edit(modelVersion="m-2-0-0")
    beside = pod_of(line, "2.0.0")
    line.cluster.gateways.take_offline(name)
    line.until(lambda status: status["counts"]["healthy"] == 0)
    line.operator.stop()
    line.operator.start()
    # What reached the gateway while it fetched is what it goes on with, however long nobody hears of it.
    assert "deletionTimestamp" not in pod_of(line, "1.0.0")["metadata"]
    assert pod_of(line, "2.0.0")["metadata"]["uid"] == beside["metadata"]["uid"]
    line.cluster.gateways.bring_back(name)
    line.until_healthy("2.0.0")
    line.eventually(
        lambda: [each["metadata"]["uid"] for each in line.kubectl.list("pods")] == [beside["metadata"]["uid"]]
    )


def test_a_mismatch_on_the_device_is_named_and_going_back_heals_it(line: Line, by_hand: RawObject) -> None:
    name = by_hand["metadata"]["name"]
    line.register("1.0.0")
    line.register("2.0.0")
    line.deploy([in_site("x86", HAND)], strategy={"onFailure": "Pause"})
    report(line, "1.0.0", None)
    line.until_healthy("1.0.0")
    line.edit(modelVersion="m-2-0-0")
    told = '{"file":"int8","reason":"HashMismatch","message":"the store has other bytes"}'
    report(line, "2.0.0", {"exitCode": 1, "message": told})
    status = line.until(lambda status: status["counts"]["failed"] == 1)
    assert line.serving("1.0.0") == {name}, "the old version goes on beside the one that is refused"
    end(line, "2.0.0")
    assert status["failures"] == [
        {"node": name, "reason": "HashMismatch", "message": "int8: the store has other bytes"}
    ]
    assert status["phase"] == "Paused"
    assert status["conditions"][2] | {"lastTransitionTime": ""} == {
        "type": "Stalled",
        "status": "True",
        "reason": "HashMismatch",
        "message": "1 failed, no more are moved; fix the cause and annotate "
        f"modelfleet.dev/retry={status['candidate']['revision']}/1, or set spec.modelVersion back to m-1-0-0. {name} "
        "(HashMismatch): int8: the store has other bytes",
        "observedGeneration": 2,
        "lastTransitionTime": "",
    }
    line.edit(modelVersion="m-1-0-0")
    line.until_healthy("1.0.0")
    assert {"HashMismatch", "RolledBack"} <= set(line.events())
