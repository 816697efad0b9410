"""Where everything of a cluster lies, and the names that its parts bear on the host.

All of it follows from the cluster's name alone, so ``down`` finds what to remove after a crash, without any record.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache" / "modelfleet"
CLUSTERS = CACHE / "clusters"
DEFAULT_NAME = "modelfleet"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")


@dataclass(frozen=True)
class Folder:
    """The folder of one cluster; ``down`` removes it whole."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} cannot name a cluster: use 1 to 30 of a-z, 0-9 and '-', a letter or digit at both ends"
            )

    @property
    def root(self) -> Path:
        """The folder itself."""
        return CLUSTERS / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def state(self) -> Path:
        """What was started, see ``state``."""
        return self.root / "state.json"

    @property
    def certificates(self) -> Path:
        """Keys, certificates and the kubeconfigs of the parts."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """One log a part."""
        return self.root / "logs"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, JSON lines."""
        return self.logs / "audit.jsonl"

    @property
    def configuration(self) -> Path:
        """Configuration files written for the parts that run on the host."""
        return self.root / "configuration"

    @property
    def etcd(self) -> Path:
        """The data of etcd."""
        return self.root / "etcd"

    @property
    def store(self) -> Path:
        """The root of the object store; its buckets are folders in here."""
        return self.root / "store"

    @property
    def node(self) -> Path:
        """What the real node has in place of the host's ``/run``, ``/var/lib`` and ``/var/log``."""
        return self.root / "node"

    @property
    def token(self) -> str:
        """Six hex digits that tell this cluster's links, network namespace and cgroup from all others on the host."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:6]

    @property
    def network_namespace(self) -> str:
        """The network namespace of the real node."""
        return f"mf-{self.token}"

    @property
    def cgroup(self) -> str:
        """The cgroup, in every hierarchy's root, that holds all pods."""
        return f"modelfleet-{self.token}"
