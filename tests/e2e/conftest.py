"""Real pods on the real node, the operator in a pod of its own under the chart's RBAC."""

import random
import threading
from collections.abc import Callable, Iterator

import pytest

from e2e import install, project
from e2e.cluster import kind, mesh, programs, prometheus
from e2e.cluster.cluster import Cluster, RealNode
from e2e.cluster.mesh import Mesh
from e2e.cluster.prometheus import Prometheus
from e2e.kubectl import Kubectl
from tests.line import Line
from tests.operator_pods import OperatorPods


@pytest.fixture(scope="session")
def files(cluster: Cluster) -> project.Files:
    """The store, through its S3 API."""
    return project.Files(cluster.store)


@pytest.fixture(scope="session")
def train_image(cluster: Cluster, say: Callable[[str], None]) -> str:
    """The image whose Python has the train library, on the real node; it is large, and few tests need it."""
    return install.load_images(cluster, ("train",), say)["train"]


@pytest.fixture(scope="session", autouse=True)
def control_plane_built_beside(request: pytest.FixtureRequest, say: Callable[[str], None]) -> None:
    """Begin to build Istio's control plane, minutes the first time, so that few tests have to wait for it."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    if "data_plane" in asked and not kind.is_available():
        threading.Thread(target=programs.find, args=("pilot-discovery", say), daemon=True).start()


@pytest.fixture(scope="session")
def data_plane(cluster: Cluster, say: Callable[[str], None]) -> Mesh:
    """Istio's control plane and Envoy."""
    if cluster.kind != "local":
        pytest.skip("the data plane reaches pods through the network of the local cluster's node")
    return mesh.start(cluster, say)


@pytest.fixture(scope="session")
def measured(cluster: Cluster, data_plane: Mesh, say: Callable[[str], None]) -> Prometheus:
    """Prometheus, which the operator may ask."""
    return prometheus.start(cluster, say)


@pytest.fixture
def make_line(
    kubectl: Kubectl, files: project.Files, namespace: str, data_plane: Mesh
) -> Iterator[Callable[[str, str], Line]]:
    """Makes lines of a name and a provider, all in the test's namespace."""
    made: list[Line] = []

    def make(name: str, provider: str) -> Line:
        made.append(Line(kubectl, files, namespace, data_plane, provider, name))
        return made[-1]

    yield make
    kubectl("delete", "edgedeployment", "--all", "--cascade=foreground")


@pytest.fixture
def line(make_line: Callable[[str, str], Line]) -> Line:
    """A line routed by Istio."""
    return make_line("line", "Istio")


@pytest.fixture
def node(cluster: Cluster) -> RealNode:
    """The real node, to be struck."""
    if cluster.node is None:
        pytest.skip("there is no way to the nodes of a cluster that was brought")
    return cluster.node


@pytest.fixture
def operator(operator_pods: Kubectl, node: RealNode) -> OperatorPods:
    """The operator, to be killed."""
    return OperatorPods(operator_pods, node, random.Random(20261121))
