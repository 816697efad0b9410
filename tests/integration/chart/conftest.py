"""The chart, installed by the real Helm into a control plane of its own: an API server without nodes.

Its admission policies would hold for a whole shared cluster, and uninstalling it there would end everybody's operator.
"""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from e2e.cluster import crds, programs
from e2e.helm import NAMESPACE, Helm
from e2e.kubectl import Kubectl
from tests.plane import Plane, control_plane_without_nodes

OPERATOR = f"system:serviceaccount:{NAMESPACE}:modelfleet"


@pytest.fixture(scope="package")
def chart_plane() -> Iterator[Plane]:
    """A control plane for these tests alone."""
    with control_plane_without_nodes(f"chart-{os.getpid()}") as plane:
        yield plane


@pytest.fixture(scope="package")
def bare_kubectl(chart_plane: Plane) -> Kubectl:
    """The real kubectl with every right."""
    return chart_plane.kubectl.within("default")


@pytest.fixture(scope="package")
def chart_helm(chart_plane: Plane) -> Helm:
    """The real helm."""
    return Helm(programs.find("helm", print), chart_plane.kubeconfig)


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def installed(install: Callable[[], None]) -> None:
    """The release ``modelfleet``, there once for all tests of the chart."""
    install()


@pytest.fixture
def chart_kubectl(bare_kubectl: Kubectl, installed: None) -> Kubectl:
    """The real kubectl with every right, where the chart is installed."""
    return bare_kubectl


@pytest.fixture(scope="package")
def routing_kinds(bare_kubectl: Kubectl) -> None:
    """The kinds of Istio and the Gateway API, served: a right on a kind that is not proves nothing."""
    crds.install(bare_kubectl, [*crds.istio(), *crds.gateway_api()])


@pytest.fixture(scope="package")
def queueing_kinds(bare_kubectl: Kubectl) -> None:
    """The kinds of Kueue, served, for the same reason."""
    crds.install(bare_kubectl, crds.kueue())


@pytest.fixture
def operator_namespace() -> str:
    return NAMESPACE


@pytest.fixture
def operator_user() -> str:
    """The operator, as the API server knows it."""
    return OPERATOR
