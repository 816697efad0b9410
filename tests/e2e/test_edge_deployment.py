"""Serving in real pods: the default image and one of the user's own, wrong bytes, and what a pod waits for."""

import json
import urllib.request
from typing import Any

import pytest

from e2e.kubectl import Kubectl, condition, is_true
from e2e.project import Files
from tests import objects, onnx
from tests.objects import RawObject

LAB = objects.pool("lab", {"pool": "lab"}, placement="Replicas", replicas=1)


def register(kubectl: Kubectl, files: Files, namespace: str, version: str) -> RawObject:
    """A version whose model says so in its bytes, verified in the cluster."""
    path = f"{namespace}/{version}.onnx"
    build = objects.artifact(files, path, onnx.identity(producer=version), name="fp32", format="onnx")
    kubectl.apply(objects.model_version([build], version=version))
    kubectl.wait_for("modelversion", objects.name_of("m", version), lambda each: is_true(each, "Ready"))
    return build


def address(kubectl: Kubectl) -> str:
    """Where the deployment's Service answers; the host reaches it directly."""
    service = kubectl.get("service", "line")
    assert service is not None
    return f"http://{service['spec']['clusterIP']}:8080"


def infer(kubectl: Kubectl, values: list[float]) -> tuple[str, Any]:
    """The version that answers a request to the Service, and its answer."""
    request = {"inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP32", "data": values}]}
    url = f"{address(kubectl)}/v2/models/m/infer"
    asked = urllib.request.Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310 (a fixed scheme)
        body = json.load(answer)
    return body["model_version"], body["outputs"][0]["data"]


def until_answered_by(kubectl: Kubectl, version: str) -> None:
    """Wait until the version answers whatever is asked.

    Ready is said when the last pod of the version before is on its way out; kube-proxy hears of that a moment later,
    and until then it chooses among both: one answer proves nothing.
    """
    answers: list[str] = []
    for _ in kubectl.readings("service", "line", timeout=60):
        answers = [infer(kubectl, [1.0, 2.0, 3.0])[0] for _ in range(10)]
        if set(answers) == {version}:
            return
    raise AssertionError(f"{version} does not answer alone: {answers}")


def test_bytes_changed_after_their_verification_are_refused_on_the_device(
    kubectl: Kubectl, files: Files, namespace: str
) -> None:
    register(kubectl, files, namespace, "1.0.0")
    second = register(kubectl, files, namespace, "2.0.0")
    kubectl.apply(objects.edge_deployment("m-1-0-0", [LAB]))
    kubectl.wait_for("edgedeployment", "line", lambda each: is_true(each, "Ready"))
    assert infer(kubectl, [1.5, -2.0, 3.25]) == ("1.0.0", [1.5, -2.0, 3.25])

    whole = files.read(second["uri"])
    files.write(second["uri"], whole.replace(b"2.0.0", b"6.6.6"))
    kubectl("patch", "edgedeployment", "line", "--type=merge", "--patch", objects.merge_patch(modelVersion="m-2-0-0"))
    refused = kubectl.wait_for(
        "edgedeployment", "line", lambda each: condition(each, "Stalled").get("reason") == "HashMismatch"
    )
    status = refused["status"]
    assert status["phase"] == "RolledBack"
    assert "rolled back to m-1-0-0" in condition(refused, "Stalled")["message"]
    assert infer(kubectl, [1.0, 2.0, 3.0])[0] == "1.0.0", "stable goes on"

    files.write(second["uri"], whole)
    retry = f"modelfleet.dev/retry={status['abortedRevision']}/{status['attempt']}"
    assert retry in condition(refused, "Stalled")["message"], "the message says how to go on"
    kubectl("annotate", "edgedeployment", "line", retry)
    kubectl.wait_for("edgedeployment", "line", lambda each: is_true(each, "Ready"), timeout=400)
    until_answered_by(kubectl, "2.0.0")


def test_a_gateway_answers_with_the_old_version_until_the_new_one_is_ready_beside_it(
    kubectl: Kubectl, files: Files, namespace: str
) -> None:
    gateway = objects.pool("lab", {"pool": "lab"})
    register(kubectl, files, namespace, "1.0.0")
    second = register(kubectl, files, namespace, "2.0.0")
    kubectl.apply(objects.edge_deployment("m-1-0-0", [gateway]))
    kubectl.wait_for("edgedeployment", "line", lambda each: is_true(each, "Ready"))
    (old,) = serving(kubectl)

    whole = files.read(second["uri"])
    files.filesystem.rm_file(second["uri"])
    kubectl("patch", "edgedeployment", "line", "--type=merge", "--patch", objects.merge_patch(modelVersion="m-2-0-0"))
    kubectl.wait_for("edgedeployment", "line", lambda each: "Unreachable" in each["status"].get("message", ""))
    assert answer_of(old) == "1.0.0", "the store does not give the new one"
    beside = next(pod for pod in kubectl.list("pods", LINE) if pod["metadata"]["uid"] != old["metadata"]["uid"])

    files.write(second["uri"], whole)
    for _ in kubectl.readings("edgedeployment", "line", timeout=300):
        there = serving(kubectl)
        assert there, "one of the two is ready at any moment"
        if [pod["metadata"]["uid"] for pod in there] == [beside["metadata"]["uid"]]:
            break
    kubectl.wait_for("edgedeployment", "line", lambda each: is_true(each, "Ready"))
    (new,) = kubectl.list("pods", LINE)
    assert new["metadata"]["uid"] == beside["metadata"]["uid"], "what was ready beside is what serves"
    assert answer_of(new) == "2.0.0"


LINE = "modelfleet.dev/edge-deployment=line"


def serving(kubectl: Kubectl) -> list[RawObject]:
    """The pods that are ready and not on their way out."""
    pods = kubectl.list("pods", LINE)
    return [each for each in pods if is_true(each, "Ready") and "deletionTimestamp" not in each["metadata"]]


def answer_of(pod: RawObject) -> str:
    """The version that a gateway's pod answers with; the host reaches it directly."""
    request = {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}]}
    url = f"http://{pod['status']['podIP']}:8080/v2/models/m/infer"
    asked = urllib.request.Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310 (a fixed scheme)
        return str(json.load(answer)["model_version"])


def test_an_image_of_the_users_own_finds_the_model_of_any_format(
    kubectl: Kubectl, files: Files, namespace: str, images: dict[str, str]
) -> None:
    build = objects.artifact(files, f"{namespace}/m.bin", b"weights of any kind", format="other")
    # Python's own web server stands for a serving image that knows nothing of modelfleet.
    command = ["python", "-m", "http.server", "8080", "--directory", "/models"]
    kubectl.apply(
        objects.model_version([build]),
        objects.edge_deployment("m-1-0-0", [LAB], serving={"image": images["runtime"], "command": command}),
    )
    kubectl.wait_for("edgedeployment", "line", lambda each: is_true(each, "Ready"))
    with urllib.request.urlopen(f"{address(kubectl)}/model.bin", timeout=20) as answer:  # noqa: S310 (a fixed scheme)
        assert answer.read() == b"weights of any kind"


@pytest.mark.parametrize(
    ("serving", "missing", "hint"),
    [
        ({"image": "registry.invalid/none:1"}, "", "ImagePull"),
        ({}, "store", 'secret "store" not found'),
    ],
)
def test_what_a_pod_waits_for_is_told(
    kubectl: Kubectl, files: Files, namespace: str, serving: RawObject, missing: str, hint: str
) -> None:
    register(kubectl, files, namespace, "1.0.0")
    if missing:
        kubectl("delete", "secret", missing)
    kubectl.apply(objects.edge_deployment("m-1-0-0", [LAB], serving=serving))
    waiting = kubectl.wait_for("edgedeployment", "line", lambda each: hint in each.get("status", {}).get("message", ""))
    assert waiting["status"]["phase"] == "Progressing"
