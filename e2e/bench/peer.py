"""Argo Rollouts doing the nearest job on the same API server: as many Rollouts with canary steps as EdgeDeployments.

Its controller and CRDs come from its Go module; it runs as a host process under the ClusterRole that it ships.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from e2e.bench.fleet import PATIENCE_SECONDS, TOLERATION
from e2e.bench.host_process import HostProcess, kubeconfig
from e2e.bench.meter import Meter, Spent
from e2e.cluster import crds, programs
from e2e.cluster.cluster import Cluster
from e2e.progress import Progress

PART = "rollouts-controller"
NAME = "argo-rollouts"
"""Of the namespace, the service account and the ClusterRole."""


def rollout(number: int, version: str) -> dict[str, Any]:
    """A Rollout of one pod on a gateway of its own; half of the traffic's weight, a second's pause, then all."""
    labels = {"app": f"one-{number:05d}"}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": f"one-{number:05d}"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": 1}}]}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"gateway": f"g{number:05d}"},
                    "tolerations": [TOLERATION],
                    "containers": [{"name": "serve", "image": f"models.example/serve:{version}"}],
                },
            },
        },
    }


class Peer:
    """Argo Rollouts on a cluster that has the gateways already."""

    def __init__(self, cluster: Cluster, progress: Progress) -> None:
        kubectl = cluster.kubectl
        module = crds.module("argo-rollouts", "github.com/argoproj/argo-rollouts", progress.say)
        crds.install(kubectl, list((module / "manifests" / "crds").glob("*-crd.yaml")))
        kubectl("create", "namespace", NAME)
        self.kubectl = kubectl.within(NAME)
        self.kubectl("create", "serviceaccount", NAME)
        kubectl("apply", f"--filename={module / 'manifests' / 'role' / 'argo-rollouts-clusterrole.yaml'}")
        kubectl("create", "clusterrolebinding", NAME, f"--clusterrole={NAME}", f"--serviceaccount={NAME}:{NAME}")
        self.progress = progress
        self.controller = HostProcess(
            cluster,
            f"system:serviceaccount:{NAME}:{NAME}",
            PART,
            self._words(cluster, programs.find(PART, progress.say)),
        )
        self.meter = Meter(self.controller, lambda: 0, progress)

    def roll_out(self, count: int, version: str, what: str) -> Spent:
        """Apply ``count`` Rollouts of a version, and wait until all are healthy on it."""
        items = [rollout(number, version) for number in range(count)]

        def act() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda start: self.kubectl.apply(*items[start : start + 250]), range(0, count, 250)))
            deadline, healthy = time.monotonic() + PATIENCE_SECONDS, 0
            while healthy < count:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{healthy} of {count} Rollouts became healthy")
                time.sleep(5)
                self.controller.expect()
                healthy = sum(map(_is_done, self.kubectl.list("rollouts")))
                self.progress.say(f"{healthy} of {count} Rollouts are healthy")

        return self.meter.measure(what, count, act)

    def _words(self, cluster: Cluster, program: Path) -> list[str | Path]:
        return [
            program,
            f"--kubeconfig={kubeconfig(cluster, NAME, NAME)}",
            "--leader-elect=false",
            # As fast as the operator: throttled, it would spend the same over a longer time.
            "--qps=500",
            "--burst=1000",
            "--metricsPort=0",
            "--healthzPort=0",
        ]


def _is_done(rollout_: dict[str, Any]) -> bool:
    status = rollout_.get("status", {})
    seen = str(status.get("observedGeneration")) == str(rollout_["metadata"]["generation"])
    return seen and status.get("phase") == "Healthy" and status.get("stableRS") == status.get("currentPodHash")
