"""Artifacts that are not what they should be, each refused in the cluster by a verification Job in a real pod."""

import hashlib
from collections.abc import Callable

import pytest

from e2e.cluster.cluster import Cluster
from e2e.kubectl import Kubectl, condition, is_true
from e2e.project import Files
from tests import objects
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
