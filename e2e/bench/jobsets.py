"""JobSet doing the nearest job on the same API server: as many JobSets of one gang of four pods as TrainingJobs.

Its controller and CRD come from its Go module; it runs as a host process under the ClusterRole that it ships. Its
webhooks are left out: the objects state what they would default, and no pod asks for exclusive placement. In a cluster
they would be called for each JobSet and, as shipped, for each pod that anybody makes.
"""

import time
from pathlib import Path
from typing import Any

import yaml

from e2e.bench import workshop
from e2e.bench.fleet import PATIENCE_SECONDS, QUIET_SECONDS
from e2e.bench.host_process import HostProcess, kubeconfig
from e2e.bench.meter import Meter, Spent
from e2e.cluster import certificates, crds, programs, state
from e2e.cluster.cluster import Cluster
from e2e.cluster.network import Network
from e2e.progress import Progress

PART = "jobset"
NAME = "jobset-system"
"""Of the namespace and the service account."""
ROLE = "manager-role"
"""Of the ClusterRole that it ships."""

_WEBHOOKS_PORT = 9444

RawObject = dict[str, Any]


def jobset(number: int) -> RawObject:
    """A JobSet of one Job that begins again as a whole, as a distributed step does."""
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": f"trained-{number:05d}"},
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "successPolicy": {"operator": "All"},
            "startupPolicy": {"startupPolicyOrder": "AnyOrder"},
            "failurePolicy": {"maxRestarts": 3},
            "replicatedJobs": [
                {
                    "name": "train",
                    "replicas": 1,
                    "template": {
                        "spec": {
                            "completionMode": "Indexed",
                            "completions": workshop.PODS,
                            "parallelism": workshop.PODS,
                            "backoffLimit": 0,
                            "template": {"spec": _pod()},
                        }
                    },
                }
            ],
        },
    }


def _pod() -> RawObject:
    return {
        "restartPolicy": "Never",
        "nodeSelector": workshop.NODE_SELECTOR,
        "containers": [
            {"name": "train", "image": "registry.example/train:1", "command": ["torchrun", "train.py"]},
        ],
    }


def configuration(address: str, certificates_folder: Path) -> RawObject:
    """JobSet's own configuration: one replica, nothing that listens where somebody else may."""
    return {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": address, "port": _WEBHOOKS_PORT, "certDir": str(certificates_folder)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": "0"},
        # As fast as the operator: throttled, it would spend the same over a longer time.
        "clientConnection": {"qps": 500, "burst": 1000},
    }


class JobSets:
    """JobSet on a cluster that has the nodes already."""

    def __init__(self, cluster: Cluster, progress: Progress) -> None:
        kubectl = cluster.kubectl
        components = crds.module("jobset", "sigs.k8s.io/jobset", progress.say) / "config" / "components"
        crds.install(kubectl, sorted((components / "crd" / "bases").iterdir()))
        kubectl("create", "namespace", NAME)
        self.kubectl = kubectl.within(NAME)
        self.kubectl("create", "serviceaccount", NAME)
        kubectl("apply", f"--filename={components / 'rbac' / 'role.yaml'}")
        kubectl("create", "clusterrolebinding", NAME, f"--clusterrole={ROLE}", f"--serviceaccount={NAME}:{NAME}")
        self.progress = progress
        self.controller = HostProcess(
            cluster,
            f"system:serviceaccount:{NAME}:{NAME}",
            PART,
            [programs.find(PART, progress.say), f"--config={self._configured(cluster)}", "--zap-log-level=error"],
            {"KUBECONFIG": str(kubeconfig(cluster, NAME, NAME))},
        )
        self.meter = Meter(self.controller, workshop.largest_status(self.kubectl, "jobsets"), progress)

    def run(self, count: int) -> Spent:
        """``count`` JobSets at once, until all are complete."""

        def act() -> None:
            workshop.apply(self.kubectl, [jobset(number) for number in range(count)])
            workshop.wait_for("jobsets", count, self._complete, self.controller, self.progress, PATIENCE_SECONDS)

        return self.meter.measure("run to completion", count, act)

    def quiet(self, count: int) -> Spent:
        """A minute in which nothing happens."""
        return self.meter.measure(f"{QUIET_SECONDS} s converged", count, lambda: time.sleep(QUIET_SECONDS), settling=0)

    def _complete(self) -> int:
        ends = [each.get("status", {}).get("terminalState") for each in self.kubectl.list("jobsets")]
        if "Failed" in ends:
            raise RuntimeError(f"{ends.count('Failed')} JobSets failed")
        return ends.count("Completed")

    def _configured(self, cluster: Cluster) -> Path:
        now = state.load(cluster.folder)
        if now is None:
            raise RuntimeError(f"cluster {cluster.folder.name} is none of this machine")
        # It serves its webhooks whether they are called or not.
        address = Network(now.index).loopback
        served = certificates.Authority(cluster.folder.root / PART).issue("tls", PART, addresses=[address])
        path = cluster.folder.configuration / "jobset.yaml"
        path.write_text(yaml.safe_dump(configuration(address, served.certificate.parent)))
        return path
