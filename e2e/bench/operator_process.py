"""The operator of this checkout as a host process, under the RBAC and the settings that the chart ships.

As a process its CPU time and memory are the kernel's own account. One replica; its Lease is real.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.cluster import Cluster
from e2e.cluster.processes import Processes
from e2e.helm import NAMESPACE, RELEASE, Helm
from e2e.project import ROOT

PART = "modelfleet"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
"""The user that the operator is to the API server, as a process too."""


@dataclass(frozen=True)
class Cost:
    """What a process has used since it started."""

    cpu_seconds: float
    """User and system time together."""
    peak_bytes: int
    """Its largest resident memory."""


@dataclass(frozen=True)
class OperatorProcess:
    """The operator on a cluster into which ``prepare`` put the chart."""

    cluster: Cluster

    @property
    def _processes(self) -> Processes:
        return Processes(self.cluster.folder)

    def prepare(self, helm: Helm) -> None:
        """Install the chart, keep its pod off all nodes, and take over the identity and settings of its operator."""
        helm.install("--set", "operator.replicas=1", "--set", f"operator.nodeSelector.{PART}=nowhere")
        kubectl = self.cluster.kubectl.within(NAMESPACE)
        token = kubectl("create", "token", RELEASE, "--duration=24h").strip()
        kubeconfig = yaml.safe_load(self.cluster.kubeconfig.read_text())
        kubeconfig["users"][0]["user"] = {"token": token}
        self._write("operator.kubeconfig", yaml.safe_dump(kubeconfig))
        shipped = kubectl.get("configmap", RELEASE)
        if shipped is None:
            raise RuntimeError(f"the chart made no ConfigMap {RELEASE}")
        settings = yaml.safe_load(shipped["data"]["config.yaml"])
        # Its pods are simulated: they have no progress to tell, and no way to where this listens.
        own = {"httpHost": "127.0.0.1", "httpPort": 0, "progress": {}}
        self._write("operator.yaml", json.dumps({**settings, **own}))

    def start(self) -> None:
        """Start it; it takes the Lease as soon as its view is complete."""
        self._processes.start(
            PART,
            [sys.executable, "-m", "modelfleet"],
            {
                "PYTHONPATH": str(ROOT / "operator"),
                "KUBECONFIG": str(self._path("operator.kubeconfig")),
                "MODELFLEET_CONFIG": str(self._path("operator.yaml")),
            },
        )

    def stop(self) -> None:
        """End it; its Lease is given up."""
        self._processes.stop(PART)

    def cost(self) -> Cost:
        """What it has used so far; raises ``ClusterError`` when it has ended."""
        return cost_of(self._processes.pid(PART))

    def _path(self, name: str) -> Path:
        return self.cluster.folder.configuration / name

    def _write(self, name: str, text: str) -> None:
        path = self._path(name)
        path.touch(mode=0o600)
        path.write_text(text)


def cost_of(pid: int) -> Cost:
    """What a process has used since it started."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Cost(ticks / os.sysconf("SC_CLK_TCK"), int(status["VmHWM"].split()[0]) * 1024)
