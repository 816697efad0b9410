"""The cluster's DNS: CoreDNS as a host process at the host's end of the node's link.

It answers for cluster.local only; there is no way from a pod to the outside anyway.
"""

from e2e.cluster import certificates, programs
from e2e.cluster.commands import Report
from e2e.cluster.folders import Folder
from e2e.cluster.network import Network
from e2e.cluster.processes import Processes
from e2e.kubectl import Kubectl

PART = "coredns"
_USER = "system:coredns"


def start(
    folder: Folder,
    network: Network,
    processes: Processes,
    kubectl: Kubectl,
    authority: certificates.Authority,
    report: Report,
) -> None:
    """Start CoreDNS with the rights to see Services, endpoints and namespaces."""
    kubectl.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": _USER},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": _USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _USER},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": _USER}],
        },
    )
    kubeconfig = authority.kubeconfig(
        folder.certificates / "coredns.kubeconfig", network.api_url, folder.name, authority.issue("coredns", _USER)
    )
    corefile = folder.configuration / "Corefile"
    corefile.write_text(
        f"""\
cluster.local {network.pods} {network.services} {{
    bind {network.host}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
"""
    )
    processes.start(PART, [programs.find("coredns", report), "-conf", corefile, "-quiet"])
