"""The real node of a local cluster: containerd, kubelet and kube-proxy.

They run in the node's network namespace, and containerd and kubelet besides in a mount namespace that has folders of
the cluster in place of the host's ``/run``, ``/var/lib`` and ``/var/log``. All mounts of all pods end with that
namespace, sockets have short paths, and two clusters do not meet although both use the default places.
"""

import json
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster import certificates, cgroups, network, oci, programs
from e2e.cluster.commands import ClusterError, Report, run, succeeds, wait_until
from e2e.cluster.folders import Folder
from e2e.cluster.network import Network
from e2e.cluster.node_configuration import (
    CONFIGURATION,
    PAUSE_IMAGE,
    containerd_configuration,
    kubelet_configuration,
    pod_network,
    proxy_configuration,
)
from e2e.cluster.processes import Processes

PARTS = ("containerd", "kubelet", "kube-proxy")

# The kubelet sets some of the kernel's switches for the whole host. It gets files in their place, so that the host
# stays as it was: what pods need of them (overcommitting memory, no panic) holds by default.
_SWITCHES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)

# $1 is the node's folder; the rest is the command. /run comes last: the folder may be reached through it no more.
_IN_OWN_MOUNTS = f"""
set -eu
node=$1; shift
for switch in {" ".join(_SWITCHES)}; do
  mount --bind "$node/sys/$switch" "/proc/sys/$switch"
done
mount --bind "$node/log" /var/log
mount --bind "$node/lib" /var/lib
mount --bind "$node/run" /run
mount --make-rshared /
exec "$@"
"""


@dataclass(frozen=True)
class Node:
    """The real node of one cluster."""

    folder: Folder
    network: Network
    processes: Processes

    @property
    def name(self) -> str:
        """The name of the Node object."""
        return f"{self.folder.name}-node"

    def start(self, authority: certificates.Authority, report: Report) -> None:
        """Start the node's parts; the kubelet registers it. The API server must answer by now."""
        cgroups.make(self.folder.cgroup)
        self._write_configuration(authority)
        self._start_containerd()
        self.start_kubelet(report)
        self.processes.start(
            "kube-proxy",
            [
                *network.enter(self.folder),
                programs.find("kube-proxy", report),
                f"--config={self._etc / 'kube-proxy.yaml'}",
                f"--hostname-override={self.name}",
            ],
        )
        self.import_image(_pause_archive(self.folder.root / "pause.tar", report))

    def import_image(self, archive: Path) -> None:
        """Put the images of an OCI archive into the node, under the names that the archive gives them."""
        inside = self._inside()
        listed = run(*inside, "ctr", "--namespace", "k8s.io", "images", "list").splitlines()
        present = {(words[0], words[2]) for words in map(str.split, listed) if len(words) > 2}
        if oci.images(archive).items() <= present:
            return
        with archive.open("rb") as content:
            # Fed through standard input: the node sees other files under /run, /var/lib and /var/log.
            run_with_input([*inside, "ctr", "--namespace", "k8s.io", "images", "import", "-"], content.fileno())

    def run(self, *words: str) -> str:
        """Run a command on the node; its output. Raises ``ClusterError`` when it fails."""
        return run(*self._inside(), *words)

    def start_kubelet(self, report: Report = lambda _: None) -> None:
        """Start the kubelet, unless it runs."""
        if self.processes.alive("kubelet"):
            return
        self.processes.start(
            "kubelet",
            [
                *self._inside(),
                programs.find("kubelet", report),
                f"--config={CONFIGURATION / 'kubelet.yaml'}",
                f"--kubeconfig={CONFIGURATION / 'kubelet.kubeconfig'}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.network.node}",
                "--node-labels=pool=lab,site=lab",
            ],
        )

    def stop_kubelet(self) -> None:
        """End the kubelet at once; containers run on."""
        self.processes.stop("kubelet", grace=0)

    def remove(self) -> None:
        """End all that runs on the node, pods and their shims too; needs no state."""
        cgroups.remove(self.folder.cgroup)

    @property
    def _etc(self) -> Path:
        return self.folder.configuration

    @property
    def _node_etc(self) -> Path:
        """The configuration of what sees the node's own /run, as the host sees it."""
        return self.folder.node / CONFIGURATION.relative_to("/")

    def _inside(self) -> list[str]:
        """What to put before a command so that it runs on the node."""
        pid = self.processes.pid("containerd")
        return ["nsenter", f"--target={pid}", "--mount", "--net", "--"]

    def _start_containerd(self) -> None:
        self.processes.start(
            "containerd",
            [
                *network.enter(self.folder),
                *("unshare", "--mount", "--propagation", "private", "--"),
                *("sh", "-c", _IN_OWN_MOUNTS, "sh", self.folder.node),
                *("containerd", "--config", CONFIGURATION / "containerd.toml"),
            ],
        )
        wait_until(self._containerd_answers, "containerd to answer", 60, lambda: self.processes.expect("containerd"))

    def _containerd_answers(self) -> bool:
        inside = self._inside()
        # Before it has its own mounts, the one that answers would be the host's.
        return succeeds(*inside, "test", "-e", CONFIGURATION / "containerd.toml") and succeeds(
            *inside, "ctr", "--connect-timeout=1s", "version"
        )

    def _write_configuration(self, authority: certificates.Authority) -> None:
        for folder in ("log", "lib", "run/modelfleet"):
            (self.folder.node / folder).mkdir(parents=True, exist_ok=True)
        for switch in _SWITCHES:
            file = self.folder.node / "sys" / switch
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text((Path("/proc/sys") / switch).read_text())
        self._etc.mkdir(parents=True, exist_ok=True)
        pair = authority.issue(
            "kubelet", f"system:node:{self.name}", ["system:nodes"], addresses=[self.name, self.network.node]
        )
        own = self._node_etc
        for source in (authority.certificate, pair.certificate, pair.key):
            (own / source.name).write_bytes(source.read_bytes())
        authority.kubeconfig(own / "kubelet.kubeconfig", self.network.api_url, self.folder.name, pair)
        (own / "resolv.conf").write_text(f"nameserver {self.network.host}\n")
        (own / "kubelet.yaml").write_text(yaml.safe_dump(kubelet_configuration(self.folder.cgroup, self.network)))
        (own / "containerd.toml").write_text(containerd_configuration())
        links = own / "net.d"
        links.mkdir(exist_ok=True)
        (links / "10-pods.conflist").write_text(json.dumps(pod_network(self.network), indent=1))
        proxy = authority.issue("kube-proxy", "system:kube-proxy")
        proxy_kubeconfig = authority.kubeconfig(
            self.folder.certificates / "kube-proxy.kubeconfig", self.network.api_url, self.folder.name, proxy
        )
        (self._etc / "kube-proxy.yaml").write_text(yaml.safe_dump(proxy_configuration(self.network, proxy_kubeconfig)))


def run_with_input(words: list[str], descriptor: int) -> None:
    """Run a command that reads from an open file; raises ``ClusterError`` with its stderr when it fails."""
    done = subprocess.run(words, stdin=descriptor, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{words[-1]} exited with {done.returncode}: {done.stderr.strip()[-2000:]}")


def _pause_archive(path: Path, report: Report) -> Path:
    architecture = oci.ARCHITECTURES[platform.machine()]
    return oci.write_archive(path, PAUSE_IMAGE, programs.find("pause", report), ["/pause"], architecture)
