"""The operator of this checkout as a host process, under the RBAC and the settings that the chart ships.

As a process its CPU time and memory are the kernel's own account. One replica; its Lease is real.
"""

import json
import sys
from pathlib import Path

import yaml

from e2e.bench.meter import Controller
from e2e.cluster.cluster import Cluster
from e2e.helm import NAMESPACE, RELEASE, Helm
from e2e.project import ROOT

PART = "modelfleet"


def prepare(cluster: Cluster, helm: Helm) -> Controller:
    """Install the chart, keep its pod off all nodes, and take over the identity and settings of its operator."""
    helm.install("--set", "operator.replicas=1", "--set", f"operator.nodeSelector.{PART}=nowhere")
    shipped = cluster.kubectl.within(NAMESPACE).get("configmap", RELEASE)
    if shipped is None:
        raise RuntimeError(f"the chart made no ConfigMap {RELEASE}")
    settings = yaml.safe_load(shipped["data"]["config.yaml"])
    path = cluster.folder.configuration / "operator.yaml"
    # Its pods are simulated: they have no progress to tell, and no way to where this listens.
    path.write_text(json.dumps({**settings, "httpHost": "127.0.0.1", "httpPort": 0, "progress": {}}))
    return Controller(
        cluster,
        PART,
        f"system:serviceaccount:{NAMESPACE}:{RELEASE}",
        [sys.executable, "-m", "modelfleet"],
        {
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(kubeconfig(cluster, NAMESPACE, RELEASE)),
            "MODELFLEET_CONFIG": str(path),
        },
    )


def kubeconfig(cluster: Cluster, namespace: str, service_account: str) -> Path:
    """A kubeconfig with the token of a service account, so that a host process has its rights and no others."""
    token = cluster.kubectl.within(namespace)("create", "token", service_account, "--duration=24h").strip()
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token}
    path = cluster.folder.configuration / f"{service_account}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))
    return path
