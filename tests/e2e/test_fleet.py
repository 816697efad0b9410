"""EdgeDeployments over the simulated gateways: pools that cannot be served, and two deployments on the same nodes."""

from e2e.kubectl import Kubectl, condition, is_true
from e2e.project import Files
from modelfleet.plan import naming
from tests import objects


def node_label_keys(kubectl: Kubectl, node: str) -> set[str]:
    """The labels of ours on a node."""
    observed = kubectl.get("node", node)
    assert observed is not None
    return {key for key in observed["metadata"]["labels"] if key.startswith("node.modelfleet.dev/")}


def label_key(kubectl: Kubectl, name: str) -> str:
    """The label that an EdgeDeployment puts on its nodes."""
    deployment = kubectl.get("edgedeployment", name)
    assert deployment is not None
    return naming.node_label_key(deployment["metadata"]["uid"])


def reasons(kubectl: Kubectl) -> set[str]:
    """The reasons of all Events of the namespace."""
    return {event["reason"] for event in kubectl.list("events.events.k8s.io")}


def test_a_pool_that_cannot_be_served_is_told_and_holds_up_no_other(
    kubectl: Kubectl, files: Files, namespace: str
) -> None:
    arm_only = objects.model(files, f"{namespace}/m.onnx", "arm", platforms=["linux/arm64"])
    pools = [
        objects.pool("nowhere", {"pool": "no-such"}),
        objects.pool("other", {"pool": "x86", "type": "kwok"}),
        objects.pool("fits", {"pool": "arm-edge", "type": "kwok"}),
    ]
    kubectl.apply(objects.model_version([arm_only]), objects.edge_deployment("m-1-0-0", pools))
    observed = kubectl.wait_for(
        "edgedeployment",
        "line",
        lambda line: (
            {pool["name"]: pool["healthy"] for pool in line.get("status", {}).get("pools", [])}.get("fits") == 80
        ),
    )
    said = {pool["name"]: pool.get("message", "") for pool in observed["status"]["pools"]}
    assert "no-such" in said["nowhere"]
    assert "linux/arm64" in said["other"] or "linux/amd64" in said["other"]
    assert observed["status"]["counts"]["noArtifact"] == 80
    assert "other" in str(observed["status"]["conditions"])
    assert {"EmptyPool", "NoArtifact"} <= reasons(kubectl)


def test_two_deployments_on_the_same_nodes_do_not_disturb_each_other(
    kubectl: Kubectl, files: Files, namespace: str
) -> None:
    kubectl.apply(
        objects.model_version([objects.model(files, f"{namespace}/a.onnx", "a")], model="a"),
        objects.model_version([objects.model(files, f"{namespace}/b.onnx", "b")], model="b"),
    )
    selector = {"pool": "arm-edge", "site": "plant-a", "type": "kwok"}
    for model in ("a", "b"):
        kubectl.apply(objects.edge_deployment(f"{model}-1-0-0", [objects.pool("gw", selector)], name=f"line-{model}"))
    for model in ("a", "b"):
        kubectl.wait_for("edgedeployment", f"line-{model}", lambda line: is_true(line, "Ready"))
    keys = {model: label_key(kubectl, f"line-{model}") for model in ("a", "b")}
    assert set(keys.values()) <= node_label_keys(kubectl, "gw-arm-edge-0000")
    kubectl("delete", "edgedeployment", "line-a", "--wait=true")
    kubectl("wait", "pods", "--for=delete", "--selector=modelfleet.dev/edge-deployment=line-a", "--timeout=120s")
    for _ in kubectl.readings("namespace", namespace, timeout=120):
        # Labels that earlier tests left are swept meanwhile: only these two count.
        if keys["a"] not in node_label_keys(kubectl, "gw-arm-edge-0000"):
            break
    left = node_label_keys(kubectl, "gw-arm-edge-0000")
    assert keys["a"] not in left
    assert keys["b"] in left
    other = kubectl.get("edgedeployment", "line-b")
    assert other is not None
    assert condition(other, "Ready")["status"] == "True"
    assert len(kubectl.list("pods", "modelfleet.dev/edge-deployment=line-b")) == 20
