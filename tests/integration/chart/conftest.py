"""The chart, installed by the real Helm into a control plane of its own: an API server without nodes.

Its admission policies would hold for a whole shared cluster, and uninstalling it there would end everybody's operator.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster import certificates, control_plane, programs, state
from e2e.cluster.folders import Folder
from e2e.cluster.network import Network
from e2e.cluster.processes import Processes
from e2e.helm import NAMESPACE, Helm
from e2e.kubectl import Kubectl

OPERATOR = f"system:serviceaccount:{NAMESPACE}:modelfleet"


@dataclass(frozen=True)
class OnLoopback(Network):
    """Addresses for a control plane that no node joins: all on one loopback address, told from others by its folder."""

    token: str = ""

    @property
    def loopback(self) -> str:
        """The one address."""
        first, second, third = (int(self.token[at : at + 2], 16) for at in (0, 2, 4))
        return f"127.{64 + first % 64}.{second}.{1 + third % 254}"

    @property
    def host(self) -> str:
        """The same."""
        return self.loopback


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[Path]:
    """A control plane for these tests alone."""
    folder = Folder(f"chart-{os.getpid()}")
    processes = Processes(folder)
    folder.root.mkdir(parents=True)
    state.save(folder, state.State(kind="local", access_key="", secret_key=""))
    try:
        authority = certificates.Authority(folder.certificates)
        control_plane.ControlPlane(folder, OnLoopback(0, folder.token), processes).start(authority, print)
        yield folder.kubeconfig
    finally:
        processes.kill_all()
        shutil.rmtree(folder.root)


@pytest.fixture(scope="session")
def bare_kubectl(kubeconfig: Path) -> Kubectl:
    """The real kubectl with every right."""
    kubectl = control_plane.kubectl(kubeconfig)
    control_plane.wait_for_namespace(kubectl)
    return kubectl.within("default")


@pytest.fixture(scope="session")
def chart_helm(kubeconfig: Path) -> Helm:
    """The real helm."""
    return Helm(programs.find("helm", print), kubeconfig)


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
