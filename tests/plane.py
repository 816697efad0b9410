"""A control plane for tests alone: API server, controllers and scheduler, no node. Up in seconds, all gone after."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import certificates, control_plane, state
from e2e.cluster.commands import wait_until
from e2e.cluster.folders import Folder
from e2e.cluster.network import Network
from e2e.cluster.processes import Processes
from e2e.kubectl import Kubectl


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


@dataclass(frozen=True)
class Plane:
    """A running control plane."""

    kubeconfig: Path
    audit_log: Path
    kubectl: Kubectl
    processes: Processes

    def restart_api_server(self) -> None:
        """End the API server and start it again: its watch cache begins anew, so old watches get 410 Gone."""
        command_line = Path(f"/proc/{self.processes.pid('kube-apiserver')}/cmdline").read_bytes()
        self.processes.stop("kube-apiserver")
        self.processes.start("kube-apiserver", [word.decode() for word in command_line.rstrip(b"\0").split(b"\0")])
        wait_until(lambda: self.kubectl("get", "--raw=/readyz", check=False) == "ok", "the API server", 60)


@contextmanager
def control_plane_without_nodes(name: str) -> Iterator[Plane]:
    """Bring one up, and take it down whatever happens."""
    folder = Folder(name)
    processes = Processes(folder)
    folder.root.mkdir(parents=True)
    state.save(folder, state.State(kind="local", access_key="", secret_key=""))
    try:
        authority = certificates.Authority(folder.certificates)
        control_plane.ControlPlane(folder, OnLoopback(0, folder.token), processes).start(authority, print)
        kubectl = control_plane.kubectl(folder.kubeconfig)
        control_plane.wait_for_namespace(kubectl)
        yield Plane(folder.kubeconfig, folder.audit_log, kubectl, processes)
    finally:
        processes.kill_all()
        shutil.rmtree(folder.root)
