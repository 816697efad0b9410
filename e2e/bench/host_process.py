"""A peer's controller as a process of this machine, under the rights of a service account and no others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from e2e.bench.controller import Controller
from e2e.cluster.cluster import Cluster
from e2e.cluster.processes import Processes


@dataclass(frozen=True)
class HostProcess(Controller):
    """A controller that is started by its command line."""

    part: str
    """Name of the process."""
    words: Sequence[str | Path]
    """Its command line."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start it."""
        Processes(self.cluster.folder).start(self.part, self.words, self.environment)

    def stop(self) -> None:
        """End it, politely."""
        Processes(self.cluster.folder).stop(self.part)

    def expect(self) -> None:
        """Raise ``ClusterError`` with the end of its log when it has ended."""
        Processes(self.cluster.folder).expect(self.part)

    def pid(self) -> int:
        """Its process; raises ``ClusterError`` when it has ended."""
        return Processes(self.cluster.folder).pid(self.part)


def kubeconfig(cluster: Cluster, namespace: str, service_account: str) -> Path:
    """A kubeconfig with the token of a service account."""
    token = cluster.kubectl.within(namespace)("create", "token", service_account, "--duration=24h").strip()
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token}
    path = cluster.folder.configuration / f"{service_account}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))
    return path
