"""The chart, installed by the real Helm into a control plane of its own: an API server without nodes.

Its admission policies would hold for a whole shared cluster, and uninstalling it there would end everybody's operator.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from e2e.helm import NAMESPACE, Helm
from e2e.kubectl import Kubectl

OPERATOR = f"system:serviceaccount:{NAMESPACE}:modelfleet"


class ControlPlane(Protocol):
    """What is needed of a cluster here."""

    kubeconfig: Path
    kubectl: Path
    helm: Path


@pytest.fixture(scope="session")
def bare_kubectl(control_plane: ControlPlane) -> Kubectl:
    """The real kubectl with every right."""
    return Kubectl(control_plane.kubectl, control_plane.kubeconfig, "default")


@pytest.fixture(scope="session")
def chart_helm(control_plane: ControlPlane) -> Helm:
    return Helm(control_plane.helm, control_plane.kubeconfig)


@pytest.fixture(scope="session")
def install(chart_helm: Helm, bare_kubectl: Kubectl) -> Callable[[], None]:
    """Brings the release to the chart's default values, its policies in force."""

    def install_and_wait() -> None:
        chart_helm.install()
        wait_for_policies(bare_kubectl)

    return install_and_wait


def wait_for_policies(kubectl: Kubectl) -> None:
    """An API server takes up new admission policies all at once, a moment after they were written."""
    probe = kubectl.impersonating(OPERATOR)
    refusal = ""
    for _ in range(120):
        refusal = probe("create", "service", "nodeport", "probe", "--tcp=80", "--dry-run=server", check=False)
        if "denied request" in refusal:
            return
        time.sleep(0.25)
    raise AssertionError(f"the admission policies are not in force: {refusal}")


@pytest.fixture(scope="session")
def installed(install: Callable[[], None]) -> None:
    """The release ``modelfleet``, there once for all tests of the chart."""
    install()


@pytest.fixture
def chart_kubectl(bare_kubectl: Kubectl, installed: None) -> Kubectl:
    """The real kubectl with every right, where the chart is installed."""
    return bare_kubectl


@pytest.fixture
def operator_namespace() -> str:
    return NAMESPACE


@pytest.fixture
def operator_user() -> str:
    """The operator, as the API server knows it."""
    return OPERATOR
