"""The local cluster: host processes, one real node and simulated gateways, all of it gone after ``down``.

``up`` writes down what it starts as it starts it. ``down`` needs none of that to find the namespace, the links and the
cgroup, whose names follow from the cluster's: it also removes one that was half made or whose processes were killed.
"""

import secrets
import shutil

from e2e.cluster import certificates, control_plane, dns, host, network, node, processes, programs, state
from e2e.cluster.cluster import Cluster, RealNode
from e2e.cluster.commands import ClusterError, Report, timed_lines, wait_until
from e2e.cluster.folders import CLUSTERS, DEFAULT_NAME, Folder
from e2e.cluster.gateways import Gateways
from e2e.cluster.store import Store

PARTS = (*control_plane.PARTS, *node.PARTS, dns.PART)
"""The parts without which the cluster is broken; KWOK and the store may be stopped and started."""

PROGRAMS = (*control_plane.PARTS, "kubelet", "kube-proxy", dns.PART, "pause", "kubectl", "kwok", "versitygw")


def up(name: str = DEFAULT_NAME, gateways: int = 0, report: Report | None = None) -> Cluster:
    """Bring a cluster up, or take one that is up and whole as it is; a broken one is taken down first.

    Returns when the real node and all ``gateways`` simulated ones are Ready. Raises ``ClusterError``.
    """
    folder, say = Folder(name), report or timed_lines()
    with state.locked(CLUSTERS / f".{name}.lock"):
        if is_whole(folder):
            say(f"cluster {name}: is up")
        else:
            host.check(say)
            programs.provide(PROGRAMS, say)
            _remove(folder)
            _make(folder, say)
        cluster = connect(name)
        cluster.complete(gateways, say)
    return cluster


def down(name: str = DEFAULT_NAME, report: Report | None = None) -> None:
    """Remove a cluster and all it left on the host; no error when there is none."""
    folder = Folder(name)
    with state.locked(CLUSTERS / f".{name}.lock"):
        _remove(folder)
        (CLUSTERS / f".{name}.lock").unlink()
    (report or timed_lines())(f"cluster {name}: is gone")


def connect(name: str = DEFAULT_NAME) -> Cluster:
    """The cluster that ``up`` brought up under this name. Raises ``ClusterError`` when there is none."""
    folder = Folder(name)
    now = state.load(folder)
    if now is None or not folder.kubeconfig.exists():
        raise ClusterError(f"there is no cluster {name!r}: bring it up with `python -m e2e.cluster up --name {name}`")
    addresses = network.Network(now.index)
    kubectl = control_plane.kubectl(folder.kubeconfig)
    real = node.Node(folder, addresses, processes.Processes(folder))
    return Cluster(
        kind="local",
        folder=folder,
        kubectl=kubectl,
        gateways=Gateways(folder, kubectl, addresses.simulated_pods),
        store=Store(folder),
        import_image=real.import_image,
        node=RealNode(real.name, real.run, real.stop_kubelet, real.start_kubelet),
        audit_log=folder.audit_log,
    )


def is_whole(folder: Folder) -> bool:
    """Whether every part of the cluster runs and its API server is ready."""
    now = state.load(folder)
    if now is None:
        return False
    parts = processes.Processes(folder).parts()
    return all(parts.get(part, False) for part in PARTS) and control_plane.is_ready(
        network.Network(now.index).api_url, folder.certificates / "ca.crt"
    )


def _make(folder: Folder, report: Report) -> None:
    addresses = _claim(folder)
    own = processes.Processes(folder)
    authority = certificates.Authority(folder.certificates)
    control_plane.ControlPlane(folder, addresses, own).start(authority, report)
    report(f"control plane: ready at {addresses.api_url}")
    kubectl = control_plane.kubectl(folder.kubeconfig, report)
    # What kubeadm's addon does: kube-proxy's user gets its role.
    kubectl.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "modelfleet-e2e:node-proxier"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-proxy"}],
        }
    )
    dns.start(folder, addresses, own, kubectl, authority, report)
    real = node.Node(folder, addresses, own)
    real.start(authority, report)
    wait_until(
        lambda: _is_ready(kubectl.get("node", real.name)),
        f"the node {real.name} to be Ready",
        120,
        lambda: own.expect(*PARTS),
    )
    control_plane.wait_for_namespace(kubectl)
    report(f"node {real.name}: Ready")


def _claim(folder: Folder) -> network.Network:
    """Claim a range of addresses and hold it by the link that has one of them."""
    with state.locked(CLUSTERS / ".lock"):
        others = [state.load(Folder(name)) for name in state.names() if name != folder.name]
        addresses = network.Network(network.free_index({other.index for other in others if other}))
        state.save(
            folder,
            state.State(
                kind="local",
                index=addresses.index,
                store_address=addresses.host,
                access_key=f"modelfleet-{secrets.token_hex(4)}",
                secret_key=secrets.token_urlsafe(24),
            ),
        )
        network.make(folder, addresses)
    return addresses


def _remove(folder: Folder) -> None:
    own = processes.Processes(folder)
    own.kill_all()
    # Pods are left, in their cgroup; with the last process of the node's mount namespace all mounts in it are gone.
    node.Node(folder, network.Network(0), own).remove()
    network.remove(folder)
    if folder.root.exists():
        shutil.rmtree(folder.root)


def _is_ready(node_: dict[str, object] | None) -> bool:
    status = (node_ or {}).get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
