"""Artifacts that are not what they should be, each refused in the cluster by a verification Job in a real pod."""

import hashlib
import io
from collections.abc import Callable

import numpy as np
import pytest

from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl, condition, is_true
from e2e.project import Files
from tests import objects, onnx
from tests.objects import RawObject


def missing(files: Files, path: str) -> RawObject:
    return objects.artifact(files, path, b"x" * 1000) | {"uri": files.uri(path + ".gone")}


def truncated(files: Files, path: str) -> RawObject:
    good = objects.artifact(files, path, b"x" * 1000)
    files.write(good["uri"], b"x" * 400)
    return good


def bigger(files: Files, path: str) -> RawObject:
    good = objects.artifact(files, path, b"x" * 1000)
    files.write(good["uri"], b"x" * 1001)
    return good


def wrong_hash(files: Files, path: str) -> RawObject:
    good = objects.artifact(files, path, b"x" * 1000)
    files.write(good["uri"], b"y" * 1000)
    return good


@pytest.mark.parametrize(
    ("broken", "reason", "hint"),
    [
        (missing, "Unreachable", "not found"),
        (truncated, "SizeMismatch", "400"),
        (bigger, "SizeMismatch", "1000"),
        (wrong_hash, "HashMismatch", hashlib.sha256(b"y" * 1000).hexdigest()[:8]),
    ],
)
def test_a_broken_artifact_is_refused_with_its_reason(
    kubectl: Kubectl,
    files: Files,
    namespace: str,
    broken: Callable[[Files, str], RawObject],
    reason: str,
    hint: str,
) -> None:
    kubectl.apply(objects.model_version([broken(files, f"{namespace}/m.bin")]))
    observed = kubectl.wait_for(
        "modelversion", "m-1-0-0", lambda version: condition(version, "Verified").get("reason") == reason
    )
    verified = condition(observed, "Verified")
    assert verified["status"] == "False"
    assert "raw" in verified["message"]
    assert hint in verified["message"] + str(observed["status"]["artifacts"])
    assert condition(observed, "Ready")["status"] == "False"
    events = kubectl.list("events.events.k8s.io")
    assert any(event["reason"] == reason and event["regarding"]["name"] == "m-1-0-0" for event in events)


def test_a_store_that_refuses_the_key_is_told_apart(kubectl: Kubectl, files: Files, namespace: str) -> None:
    kubectl.apply(
        files.secret(namespace, "wrong") | {"stringData": files.store.credentials | {"AWS_SECRET_ACCESS_KEY": "no"}}
    )
    broken = objects.artifact(files, f"{namespace}/m.bin", b"x", credentialsSecretRef={"name": "wrong"})
    kubectl.apply(objects.model_version([broken]))
    observed = kubectl.wait_for(
        "modelversion", "m-1-0-0", lambda version: condition(version, "Verified").get("reason") == "Unauthorized"
    )
    assert (
        "wrong" in condition(observed, "Verified")["message"]
        or "credentials" in condition(observed, "Verified")["message"]
    )


def test_a_store_that_is_down_is_tried_again(kubectl: Kubectl, files: Files, namespace: str, cluster: Cluster) -> None:
    good = objects.artifact(files, f"{namespace}/m.bin", b"x" * 1000)
    cluster.store.stop()
    try:
        kubectl.apply(objects.model_version([good]))
        kubectl.wait_for(
            "modelversion", "m-1-0-0", lambda version: condition(version, "Verified").get("reason") == "Unreachable"
        )
    finally:
        cluster.store.start()
    observed = kubectl.wait_for("modelversion", "m-1-0-0", lambda version: is_true(version, "Verified"))
    assert observed["status"]["verification"]["attempt"] >= 2


def test_models_are_loaded_and_compared_in_the_verifying_pod(kubectl: Kubectl, files: Files, namespace: str) -> None:
    """Two precisions that agree, and a build of another model: real ONNX Runtime, in the real image."""

    def build(name: str, content: bytes) -> RawObject:
        path = f"{namespace}/{name}.onnx"
        return objects.artifact(files, path, content, name=name, format="onnx", precision=name)

    fp32, fp16 = build("fp32", onnx.scaled(2.0)), build("fp16", onnx.scaled(2.0, kind=onnx.FLOAT16))
    kubectl.apply(objects.model_version([fp32, fp16]))
    good = kubectl.wait_for("modelversion", "m-1-0-0", lambda version: is_true(version, "Verified"))
    first, second = good["status"]["artifacts"]
    assert (first["opset"], first["inputs"], first["outputs"]) == (13, ["x: FP32[?, 3]"], ["y: FP32[?, 3]"])
    assert second["agreement"]["reference"] == "fp32"
    assert "2 agree with each other" in condition(good, "Verified")["message"]

    samples = io.BytesIO()
    np.savez(samples, x=np.ones((5, 3), np.float32))
    uri = files.uri(f"{namespace}/samples.npz")
    files.write(uri, samples.getvalue())
    digest = hashlib.sha256(samples.getvalue()).hexdigest()
    given = {"uri": uri, "sha256": digest, "sizeBytes": len(samples.getvalue())}
    int8 = build("int8", onnx.scaled(7.0))
    kubectl.apply(
        objects.model_version(
            [fp32, int8],
            version="2.0.0",
            verification={"samples": given | {"credentialsSecretRef": {"name": "store"}}},
        ),
        objects.model_version([build("bf16", b"no model")], version="3.0.0"),
    )
    for name, reason in (("m-2-0-0", "PrecisionMismatch"), ("m-3-0-0", "InvalidModel")):
        refused = kubectl.wait_for("modelversion", name, lambda version: is_true(version, "Stalled"))
        assert condition(refused, "Verified")["reason"] == reason
