"""A cluster that is up, as the demo, the benchmark and the tests use it, whichever kind it is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import state
from e2e.cluster.commands import Report
from e2e.cluster.folders import Folder
from e2e.cluster.gateways import Gateways
from e2e.cluster.store import Store
from e2e.kubectl import Kubectl


@dataclass(frozen=True)
class RealNode:
    """The cluster's real node, for those who want to know what happens when it breaks."""

    name: str
    """The name of the Node object."""
    run: Callable[..., str]
    """Run a command on it, given as words; its output. Raises ``ClusterError`` when it fails."""
    stop_kubelet: Callable[[], object]
    """End its kubelet; the containers run on, and nobody reports on them."""
    start_kubelet: Callable[[], object]
    """Start it again, as it was; no error where it runs."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up."""

    kind: state.Kind
    folder: Folder
    kubectl: Kubectl
    gateways: Gateways
    store: Store
    import_image: Callable[[Path], None]
    """Puts the images of an OCI archive on the cluster's real node, under the names that the archive gives them."""
    node: RealNode | None
    """``None`` where we have no way to the nodes."""
    audit_log: Path | None
    """The API server's audit log as JSON lines; ``None`` where we may not see it."""

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.folder.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder.kubeconfig

    def complete(self, gateways: int, report: Report) -> None:
        """Bring up what stands beside the cluster: the object store, and as many simulated gateways as asked for."""
        self.store.start(report)
        report(f"store: answers at {self.store.endpoint}")
        if gateways or self.gateways.names():
            with state.changing(self.folder) as now:
                now.made_gateways = True
            self.gateways.start(self.kubeconfig, report)
            self.gateways.scale(gateways)
            report(f"gateways: {gateways} simulated ones are Ready")
