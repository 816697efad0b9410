"""Install, upgrade, uninstall, install again: the user's objects are there throughout."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.helm import NAMESPACE, Helm
from e2e.kubectl import Kubectl

CRDS = {f"{plural}.modelfleet.dev" for plural in ("modelversions", "trainingjobs", "edgedeployments")}
MODEL_VERSION = {
    "apiVersion": "modelfleet.dev/v1alpha1",
    "kind": "ModelVersion",
    "metadata": {"name": "kept-1-0-0", "namespace": "default"},
    "spec": {
        "model": "kept",
        "version": "1.0.0",
        "artifacts": [
            {
                "name": "fp32",
                "uri": "https://models.plant.example/kept.onnx",
                "sha256": "0" * 64,
                "sizeBytes": 1,
                "format": "onnx",
                "precision": "fp32",
            }
        ],
    },
}


@pytest.fixture
def kept(chart_kubectl: Kubectl) -> Iterator[dict[str, Any]]:
    """An object of a user's."""
    chart_kubectl.apply(MODEL_VERSION)
    found = chart_kubectl.get("modelversion", "kept-1-0-0")
    assert found is not None
    yield found
    chart_kubectl("delete", "modelversion", "kept-1-0-0")


def crds(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    return {
        crd["metadata"]["name"]: crd for crd in kubectl.list("customresourcedefinitions") if "modelfleet" in str(crd)
    }


def test_an_upgrade_keeps_the_objects_and_renews_the_definitions(
    chart_helm: Helm, chart_kubectl: Kubectl, kept: dict[str, Any]
) -> None:
    before = crds(chart_kubectl)
    assert set(before) == CRDS
    stale = "modelfleet.dev/schema-hash=of-an-older-chart"
    chart_kubectl("annotate", "--overwrite", "crd", "modelversions.modelfleet.dev", stale)
    chart_helm.install("--set", "operator.replicas=3")
    after = crds(chart_kubectl)
    for name in CRDS:
        assert after[name]["metadata"]["uid"] == before[name]["metadata"]["uid"]
        assert after[name]["metadata"]["annotations"] == before[name]["metadata"]["annotations"]
        assert after[name]["spec"] == before[name]["spec"]
    still = chart_kubectl.get("modelversion", "kept-1-0-0")
    assert still is not None
    assert still["metadata"]["uid"] == kept["metadata"]["uid"]
    deployment = chart_kubectl.within(NAMESPACE).get("deployment", "modelfleet")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 3


def test_a_rollback_keeps_the_objects(chart_helm: Helm, chart_kubectl: Kubectl, kept: dict[str, Any]) -> None:
    chart_helm.install("--set", "operator.replicas=1")
    assert chart_kubectl.within(NAMESPACE).list("poddisruptionbudgets") == []
    chart_helm("rollback", "modelfleet")
    assert len(chart_kubectl.within(NAMESPACE).list("poddisruptionbudgets")) == 1
    still = chart_kubectl.get("modelversion", "kept-1-0-0")
    assert still is not None
    assert still["metadata"]["uid"] == kept["metadata"]["uid"]


def test_uninstalling_leaves_what_is_the_users(
    chart_helm: Helm, chart_kubectl: Kubectl, kept: dict[str, Any], install: Callable[[], None]
) -> None:
    """Definitions and objects stay, all else goes; installing again takes the definitions over."""
    before = crds(chart_kubectl)
    chart_helm("uninstall", "modelfleet")
    try:
        assert {name: crd["metadata"]["uid"] for name, crd in crds(chart_kubectl).items()} == {
            name: crd["metadata"]["uid"] for name, crd in before.items()
        }
        still = chart_kubectl.get("modelversion", "kept-1-0-0")
        assert still is not None
        assert still["metadata"]["uid"] == kept["metadata"]["uid"]
        ours = "app.kubernetes.io/name=modelfleet"
        for kind in ("clusterroles", "clusterrolebindings", "validatingadmissionpolicies"):
            assert chart_kubectl.list(kind, ours) == []
        for kind in ("deployments", "roles", "rolebindings", "serviceaccounts", "services", "configmaps"):
            assert chart_kubectl.within(NAMESPACE).list(kind, ours) == []
    finally:
        install()
    assert {name: crd["metadata"]["uid"] for name, crd in crds(chart_kubectl).items()} == {
        name: crd["metadata"]["uid"] for name, crd in before.items()
    }
