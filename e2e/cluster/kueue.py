"""Kueue beside a control plane: its controller as a process of the host, its webhooks called there by their address.

In a cluster, Kueue makes its webhooks' certificate itself, for the name of their Service. Here there is no way from the
API server to a Service, so the certificate is of our own making, for the address; the one that Kueue makes
nevertheless lies in its Secret and is not used.
"""

import base64
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import certificates, crds, programs
from e2e.cluster.commands import Report, wait_until
from e2e.cluster.folders import Folder
from e2e.cluster.processes import Processes
from e2e.kubectl import Kubectl

PART = "kueue"
API_VERSION = "kueue.x-k8s.io/v1beta1"
NAMESPACE = "kueue-system"

_SECRET = "kueue-webhook-server-cert"  # noqa: S105 - a name
_WEBHOOKS_PORT = 9443
_PROBES_PORT = 9081

RawObject = dict[str, Any]


def start(folder: Folder, processes: Processes, address: str, report: Report) -> None:
    """Start Kueue for the cluster of this folder; returns when it admits, and its webhooks answer.

    ``address`` is one of the host's that the API server reaches and nothing else of that cluster listens on.
    """
    program = programs.find("kueue", report)
    kubectl = Kubectl(program=programs.find("kubectl", report), kubeconfig=folder.kubeconfig)
    crds.install(kubectl, crds.kueue(report))
    authority = certificates.Authority(folder.root / PART)
    served = authority.issue("tls", PART, addresses=[address])
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _SECRET, "namespace": NAMESPACE}},
    )
    configuration = folder.configuration / "kueue.yaml"
    configuration.write_text(yaml.safe_dump(_configuration(address, served.certificate.parent)))
    processes.start(PART, [program, f"--config={configuration}", f"--kubeconfig={folder.kubeconfig}"])
    wait_until(lambda: _is_ready(address), "Kueue to be ready", 120, lambda: processes.expect(PART))
    kubectl.apply(*_webhooks(f"https://{address}:{_WEBHOOKS_PORT}", authority.certificate, report))


def _configuration(address: str, certificates_folder: Path) -> RawObject:
    """Kueue's own configuration: plain Jobs only, one replica, nothing that listens elsewhere."""
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta1",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f"{address}:{_PROBES_PORT}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": address, "port": _WEBHOOKS_PORT, "certDir": str(certificates_folder)},
        # With this off it would look for a certificate of its metrics in /etc.
        "internalCertManagement": {"enable": True, "webhookSecretName": _SECRET},
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"qps": 100, "burst": 200},
        "integrations": {"frameworks": ["batch/job"]},
        # They serve or need APIs that this control plane has not.
        "featureGates": {"VisibilityOnDemand": False, "MultiKueue": False},
    }


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{_PROBES_PORT}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _webhooks(url: str, authority: Path, report: Report) -> list[RawObject]:
    """Kueue's own webhook configurations, reduced to what it serves here.

    Under names of our own: Kueue would put the authority of its own certificate into those that it knows.
    """
    folder = crds.module("kueue", "sigs.k8s.io/kueue", report) / "config" / "components" / "webhook"
    found = []
    for each in yaml.safe_load_all((folder / "manifests.yaml").read_text()):
        each["metadata"] = {"name": f"modelfleet-e2e-{each['kind'].removesuffix('Configuration').lower()}"}
        each["webhooks"] = [
            webhook
            | {"clientConfig": {"url": url + webhook["clientConfig"]["service"]["path"], "caBundle": _data(authority)}}
            for webhook in each["webhooks"]
            if {"batch", "kueue.x-k8s.io"} & {group for rule in webhook["rules"] for group in rule["apiGroups"]}
        ]
        found.append(each)
    return found


def _data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def stop(folder: Folder, processes: Processes) -> None:
    """End Kueue and take its webhooks away; Jobs are made and run without it again."""
    kubectl = Kubectl(program=programs.find("kubectl", lambda _: None), kubeconfig=folder.kubeconfig)
    for kind in ("mutatingwebhook", "validatingwebhook"):
        kubectl("delete", f"{kind}configuration", f"modelfleet-e2e-{kind}")
    processes.stop(PART)
