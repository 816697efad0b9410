"""The operator as it is shipped: its image, its chart, a pod on the cluster's own node. One replica; its Lease is real.

That node is this machine, so the kernel tells what the pod's process takes.
"""

from dataclasses import dataclass
from pathlib import Path

from e2e import install
from e2e.bench.controller import Controller
from e2e.cluster import cgroups
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import ClusterError, wait_until
from e2e.helm import NAMESPACE, RELEASE
from e2e.kubectl import Kubectl, RawObject
from e2e.progress import Progress

_START_SECONDS = 120
_STOP_SECONDS = 60
_LOG_LINES = 12
_SELECTOR = "app.kubernetes.io/name=modelfleet"


def prepare(cluster: Cluster, progress: Progress) -> "OperatorPod":
    """Install the chart, with the operator at rest: :meth:`OperatorPod.start` lets it run."""
    if cluster.node is None:
        raise RuntimeError("this cluster's node is out of reach")
    images = install.load_images(cluster, ["operator"], progress.say)
    # Simulated nodes would only play it. A workshop's real node takes no other pods.
    there = [
        f"operator.nodeSelector.kubernetes\\.io/hostname={cluster.node.name}",
        "operator.tolerations[0].key=node.kubernetes.io/unschedulable",
        "operator.tolerations[0].operator=Exists",
        "operator.replicas=1",
    ]
    install.helm(cluster, progress.say).install(*install.values(images, there))
    pod = OperatorPod(cluster, f"system:serviceaccount:{NAMESPACE}:{RELEASE}")
    pod.stop()
    return pod


@dataclass(frozen=True)
class OperatorPod(Controller):
    """The one pod of the operator's Deployment."""

    def start(self) -> None:
        """Have the Deployment make its pod."""
        self._scale(1)
        wait_until(lambda: bool(self._pids()), "the operator's pod to run", _START_SECONDS)

    def stop(self) -> None:
        """Have the Deployment take its pod away."""
        self._scale(0)
        wait_until(lambda: not self._pods(), "the operator's pod to end", _STOP_SECONDS)

    def expect(self) -> None:
        """Raise ``ClusterError`` with the end of its log when it has ended."""
        for pod in self._pods():
            if any(each["restartCount"] for each in pod["status"].get("containerStatuses", ())):
                log = self._kubectl("logs", pod["metadata"]["name"], "--previous", f"--tail={_LOG_LINES}")
                raise ClusterError(f"the operator ended; the last lines of its log:\n{log}")
        self.pid()

    def pid(self) -> int:
        """Its process; raises ``ClusterError`` when it has ended."""
        pids = self._pids()
        if len(pids) != 1:
            raise ClusterError(f"{len(pids)} processes of the operator run, not one")
        return pids[0]

    @property
    def _kubectl(self) -> Kubectl:
        return self.cluster.kubectl.within(NAMESPACE)

    def _scale(self, replicas: int) -> None:
        self._kubectl("scale", f"deployment/{RELEASE}", f"--replicas={replicas}")

    def _pods(self) -> list[RawObject]:
        return self._kubectl.list("pods", _SELECTOR)

    def _pids(self) -> list[int]:
        """The processes of its pods, but for those that hold the pods' network."""
        uids = [pod["metadata"]["uid"] for pod in self._pods()]
        found = []
        for pid in cgroups.pids(self.cluster.folder.cgroup):
            try:
                where, line = (Path(f"/proc/{pid}/{file}").read_text() for file in ("cgroup", "cmdline"))
            except OSError:  # it has ended meanwhile
                continue
            if any(uid in where for uid in uids) and "modelfleet" in line:
                found.append(pid)
        return found
