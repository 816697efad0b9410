"""etcd, the API server, the controller manager and the scheduler as host processes.

They hold what a test needs and a production cluster would not do: no fsync, a wide rate for the controllers (200 pods
of a DaemonSet at once), and an audit log of every answered request at Metadata level.
"""

import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster import certificates, programs
from e2e.cluster.commands import Report, wait_until
from e2e.cluster.folders import Folder
from e2e.cluster.network import Network
from e2e.cluster.processes import Processes
from e2e.kubectl import Kubectl

PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # Heartbeats of nodes, by far the most requests and of no interest.
        {
            "level": "None",
            "users": ["kwok", "system:kube-controller-manager", "system:kube-scheduler"],
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
        },
        {
            "level": "None",
            "userGroups": ["system:nodes"],
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
        },
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class ControlPlane:
    """A control plane to start, once."""

    folder: Folder
    network: Network
    processes: Processes

    def start(self, authority: certificates.Authority, report: Report) -> None:
        """Start all four parts; returns when the API server is ready."""
        self._start_etcd(report)
        self._start_api_server(authority, report)
        self._start_controllers(authority, report)

    def _start_etcd(self, report: Report) -> None:
        address = self.network.loopback
        self.processes.start(
            "etcd",
            [
                programs.find("etcd", report),
                f"--data-dir={self.folder.etcd}",
                f"--listen-client-urls=http://{address}:2379",
                f"--advertise-client-urls=http://{address}:2379",
                f"--listen-peer-urls=http://{address}:2380",
                f"--initial-advertise-peer-urls=http://{address}:2380",
                f"--initial-cluster=default=http://{address}:2380",
                "--unsafe-no-fsync",
                "--quota-backend-bytes=4294967296",
                "--auto-compaction-mode=periodic",
                "--auto-compaction-retention=10m",
                "--log-level=warn",
            ],
        )

    def _start_api_server(self, authority: certificates.Authority, report: Report) -> None:
        network, pki = self.network, self.folder.certificates
        serving = authority.issue(
            "kube-apiserver",
            "kube-apiserver",
            addresses=[
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                "localhost",
                network.api_service,
                network.host,
            ],
        )
        to_kubelet = authority.issue("kube-apiserver-kubelet-client", "kube-apiserver", ["system:masters"])
        signing = certificates.signing_key(pki / "service-accounts.key")
        self.folder.configuration.mkdir(parents=True, exist_ok=True)
        policy = self.folder.configuration / "audit-policy.yaml"
        policy.write_text(audit_policy())
        self.processes.start(
            "kube-apiserver",
            [
                programs.find("kube-apiserver", report),
                f"--etcd-servers=http://{network.loopback}:2379",
                f"--bind-address={network.host}",
                f"--advertise-address={network.host}",
                "--secure-port=6443",
                f"--service-cluster-ip-range={network.services}",
                f"--tls-cert-file={serving.certificate}",
                f"--tls-private-key-file={serving.key}",
                f"--client-ca-file={authority.certificate}",
                f"--kubelet-certificate-authority={authority.certificate}",
                f"--kubelet-client-certificate={to_kubelet.certificate}",
                f"--kubelet-client-key={to_kubelet.key}",
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={signing}",
                f"--service-account-key-file={signing}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.folder.audit_log}",
                "--audit-log-maxsize=2000",
                "--audit-log-maxbackup=1",
                "--profiling=false",
            ],
        )
        admin = authority.issue("admin", "admin", ["system:masters"])
        authority.kubeconfig(self.folder.kubeconfig, network.api_url, self.folder.name, admin)
        wait_until(
            lambda: is_ready(network.api_url, authority.certificate),
            "the API server to be ready",
            120,
            lambda: self.processes.expect("etcd", "kube-apiserver"),
        )

    def _start_controllers(self, authority: certificates.Authority, report: Report) -> None:
        network, pki = self.network, self.folder.certificates
        for part in ("kube-controller-manager", "kube-scheduler"):
            pair = authority.issue(part, f"system:{part}")
            authority.kubeconfig(pki / f"{part}.kubeconfig", network.api_url, self.folder.name, pair)
        common = ["--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"]
        self.processes.start(
            "kube-controller-manager",
            [
                programs.find("kube-controller-manager", report),
                f"--kubeconfig={pki / 'kube-controller-manager.kubeconfig'}",
                f"--root-ca-file={authority.certificate}",
                f"--service-account-private-key-file={pki / 'service-accounts.key'}",
                "--use-service-account-credentials=true",
                # Long: simulated gateways are told to be offline, see ``gateways``.
                "--node-monitor-grace-period=3600s",
                *common,
            ],
        )
        self.processes.start(
            "kube-scheduler",
            [
                programs.find("kube-scheduler", report),
                f"--kubeconfig={pki / 'kube-scheduler.kubeconfig'}",
                *common,
            ],
        )


def audit_policy() -> str:
    """The audit policy, as YAML; kind's API server gets the same one."""
    return yaml.safe_dump(_AUDIT_POLICY, sort_keys=False)


def is_ready(url: str, authority: Path) -> bool:
    """Whether an API server says it is ready; anybody may ask that."""
    trust = ssl.create_default_context(cafile=str(authority))
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5, context=trust) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def kubectl(kubeconfig: Path, report: Report = lambda _: None) -> Kubectl:
    """The kubectl that fits, bound to a cluster."""
    return Kubectl(program=programs.find("kubectl", report), kubeconfig=kubeconfig)


def wait_for_namespace(kubectl_: Kubectl) -> None:
    """Wait for the default service account: the last thing that a new namespace gets, and pods cannot do without."""
    wait_until(
        lambda: kubectl_.within("default").get("serviceaccount", "default") is not None,
        "the default service account",
        60,
    )
