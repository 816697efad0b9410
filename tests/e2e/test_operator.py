"""The operator as it runs at night: killed, down, two of it, and quiet when there is nothing to do."""

import time
from collections import Counter
from collections.abc import Callable

import pytest

from e2e.audit import AuditLog, tally, writes
from e2e.cluster.cluster import Cluster
from e2e.helm import NAMESPACE
from e2e.kubectl import Kubectl, is_true
from e2e.project import Files
from modelfleet.api import names
from modelfleet.plan import naming
from tests import objects
from tests.objects import ARTIFACT, REPORT
from tests.operator_pods import OperatorPods

OPERATOR = f"system:serviceaccount:{NAMESPACE}:modelfleet"


def labels_of_ours(kubectl: Kubectl) -> set[str]:
    """The keys of ours that any node carries."""
    return {
        key
        for node in kubectl.list("nodes")
        for key in node["metadata"]["labels"]
        if key.startswith(names.NODE_LABEL_PREFIX)
    }


@pytest.fixture
def audit(cluster: Cluster) -> AuditLog:
    assert cluster.audit_log is not None
    return AuditLog(cluster.audit_log)


def await_swept(kubectl: Kubectl, key: str = "") -> None:
    """Wait until no node carries that label of ours (or any): the owners are gone, and the sweep was here."""
    for _ in kubectl.readings("namespace", "default", timeout=180):
        left = labels_of_ours(kubectl)
        if not left or (key and key not in left):
            return
    raise AssertionError("nodes still carry labels whose owner is gone")


def three_pools(**labels: str) -> list[objects.RawObject]:
    """All 200 simulated gateways, or those with these labels."""
    return [objects.pool(name, {"pool": name, "type": "kwok", **labels}) for name in ("cuda", "arm-edge", "x86")]


def test_killed_at_ten_random_moments_the_flow_still_ends_well(
    kubectl: Kubectl, operator: OperatorPods, files: Files, namespace: str, train_image: str
) -> None:
    """SIGKILL, ten times, from the training's start to the last gateway; the end is that of an undisturbed run."""
    kubectl.apply(
        objects.training_job(
            files,
            namespace,
            [
                objects.step("prepare", train_image, REPORT.format(metrics="{}")),
                objects.step("train", train_image, ARTIFACT, "prepare"),
            ],
        ),
        objects.edge_deployment("m-1-0-0", three_pools(site="plant-a")),
    )
    gateways = kubectl.list("nodes", "type=kwok,site=plant-a")
    kills = 0
    while kills < 10:
        # All replicas, so that the next leader starts from nothing but what lies in the cluster.
        kills += operator.kill(after=(0.5, 12)) > 0
    kubectl.wait_for("trainingjob", "job", lambda job: is_true(job, "Ready"), timeout=300)
    deployed = kubectl.wait_for("edgedeployment", "line", lambda deployment: is_true(deployment, "Ready"), timeout=300)
    assert deployed["status"]["counts"]["healthy"] == len(gateways)
    job = kubectl.get("trainingjob", "job")
    assert job is not None
    # No step ran twice: a second attempt would have another name.
    assert [step["jobName"] for step in job["status"]["steps"]] == ["job-prepare-1", "job-train-1"]
    # Told by the deployment's status, which the operator may have written as its last word before it was killed.
    kubectl.wait_for("modelversion", "m-1-0-0", lambda version: version["status"]["stage"] == "Online")
    # A DaemonSet keeps revisions of its own beside ours.
    owners = [each["metadata"]["ownerReferences"][0]["kind"] for each in kubectl.list("controllerrevisions")]
    assert owners.count("EdgeDeployment") == 1


def test_a_rollout_costs_at_most_two_writes_a_gateway_and_then_none(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str, audit: AuditLog, say: Callable[[str], None]
) -> None:
    await_swept(kubectl)  # what other tests left is not this rollout's to pay for
    kubectl.apply(
        objects.model_version([objects.model(files, f"{namespace}/1", "one")]),
        objects.model_version([objects.model(files, f"{namespace}/2", "two")], version="2.0.0"),
    )
    for name in ("m-1-0-0", "m-2-0-0"):
        kubectl.wait_for("modelversion", name, lambda version: is_true(version, "Ready"))
    kubectl.apply(
        objects.training_job(
            files, namespace, [objects.step("train", train_image, ARTIFACT)], model="other", version="1.0.0"
        )
    )
    kubectl.wait_for("trainingjob", "job", lambda job: is_true(job, "Ready"))
    kubectl.wait_for("modelversion", "other-1-0-0", lambda version: is_true(version, "Ready"))
    for name in ("m-1-0-0", "m-2-0-0"):
        audit.mark()
        deployment = objects.edge_deployment(
            name,
            three_pools(),
            strategy={"waves": [{"name": "pilot", "nodes": 5}, {"name": "half", "nodes": "50%"}, {"name": "all"}]},
        )
        kubectl.apply(deployment)
        kubectl.wait_for("edgedeployment", "line", lambda observed: is_true(observed, "Ready"), timeout=300)
        kubectl("wait", "edgedeployment/line", "--for=condition=Ready", "--timeout=1s")
        made = writes(audit.since_mark(OPERATOR))
        say(f"rollout of {name} to 200 gateways: {len(made)} writes, {len(made) / 200:.2f} a gateway: {tally(made)}")
        moved = Counter(each.name for each in made if each.resource == "nodes")
        # Ready beside the old pod, then handed over; a gateway that serves nothing takes one.
        assert set(moved.values()) == {1 if name == "m-1-0-0" else 2}
        assert len(made) - moved.total() <= 60

    # Settled counts may still be written once; from then on nothing is.
    time.sleep(15)
    kinds = "modelversions,trainingjobs,edgedeployments,daemonsets,controllerrevisions,jobs"
    before = {obj["metadata"]["uid"]: obj["metadata"]["resourceVersion"] for obj in kubectl.list(kinds)}
    audit.mark()
    time.sleep(60)
    quiet = writes(audit.since_mark(OPERATOR))
    assert quiet == []
    assert {obj["metadata"]["uid"]: obj["metadata"]["resourceVersion"] for obj in kubectl.list(kinds)} == before


def test_deleted_while_the_operator_is_down_nothing_runs_on_and_labels_are_swept(
    kubectl: Kubectl, operator_pods: Kubectl, files: Files, namespace: str
) -> None:
    kubectl.apply(
        objects.model_version([objects.model(files, f"{namespace}/1", "one")]),
        objects.edge_deployment("m-1-0-0", three_pools(site="plant-a")),
    )
    deployed = kubectl.wait_for("edgedeployment", "line", lambda observed: is_true(observed, "Ready"), timeout=300)
    key = naming.node_label_key(deployed["metadata"]["uid"])
    assert key in labels_of_ours(kubectl)
    operator_pods("scale", "deployment", "modelfleet", "--replicas=0")
    operator_pods("wait", "pods", "--for=delete", "--selector=app.kubernetes.io/name=modelfleet", "--timeout=90s")
    try:
        kubectl("delete", "edgedeployment", "line", "--wait=true")
        kubectl("wait", "pods", "--for=delete", "--selector=modelfleet.dev/edge-deployment=line", "--timeout=120s")
        assert kubectl.list("daemonsets") == []
    finally:
        operator_pods("scale", "deployment", "modelfleet", "--replicas=2")
    operator_pods("rollout", "status", "deployment/modelfleet", "--timeout=120s")
    await_swept(kubectl, key)


def test_one_of_two_replicas_leads_and_the_other_takes_over(
    kubectl: Kubectl, operator_pods: Kubectl, files: Files, namespace: str
) -> None:
    operator_pods("rollout", "status", "deployment/modelfleet", "--timeout=120s")
    (lease,) = operator_pods.list("leases")
    leader = lease["spec"]["holderIdentity"]
    pods = {pod["metadata"]["name"] for pod in operator_pods.list("pods", "app.kubernetes.io/name=modelfleet")}
    assert len(pods) == 2
    (led,) = [name for name in pods if name in leader]
    operator_pods("delete", "pod", led, "--wait=false")
    operator_pods.wait_for(
        "lease", lease["metadata"]["name"], lambda held: held["spec"].get("holderIdentity") not in ("", None, leader)
    )
    kubectl.apply(objects.model_version([objects.model(files, f"{namespace}/1", "one")]))
    kubectl.wait_for("modelversion", "m-1-0-0", lambda version: is_true(version, "Ready"))
