"""A kind cluster, where Docker answers: the control plane and the real node are one container.

KWOK and the object store run beside it as host processes, the store at the address of the kind network's gateway.
"""

import json
import os
import secrets
import shutil

import yaml

from e2e.cluster import control_plane, processes, state
from e2e.cluster.cluster import Cluster, RealNode
from e2e.cluster.commands import ClusterError, Report, run, succeeds, wait_until
from e2e.cluster.folders import CLUSTERS, Folder
from e2e.cluster.gateways import Gateways
from e2e.cluster.store import Store

_AUDIT_INSIDE = "/var/log/kubernetes"
_POLICY_INSIDE = "/etc/kubernetes/policies"


def is_available() -> bool:
    """Whether Docker answers and kind is there."""
    return shutil.which("kind") is not None and shutil.which("docker") is not None and succeeds("docker", "info")


def up(name: str, gateways: int, report: Report) -> Cluster:
    """Create the kind cluster ``name``, or take it as it is when it is there."""
    folder = Folder(name)
    with state.locked(CLUSTERS / f".{name}.lock"):
        if name in run("kind", "get", "clusters").split() and state.load(folder) is not None:
            report(f"kind cluster {name}: is up")
        else:
            _remove(folder)
            _make(folder, report)
        cluster = connect(name)
        cluster.complete(gateways, report)
    return cluster


def down(name: str, report: Report) -> None:
    """Delete the kind cluster and what stands beside it."""
    with state.locked(CLUSTERS / f".{name}.lock"):
        _remove(Folder(name))
        (CLUSTERS / f".{name}.lock").unlink()
    report(f"kind cluster {name}: is gone")


def connect(name: str) -> Cluster:
    """The kind cluster that ``up`` created under this name."""
    folder = Folder(name)
    if state.load(folder) is None:
        raise ClusterError(f"there is no kind cluster {name!r} of ours")
    kubectl = control_plane.kubectl(folder.kubeconfig)
    return Cluster(
        kind="kind",
        folder=folder,
        kubectl=kubectl,
        gateways=Gateways(folder, kubectl),
        store=Store(folder),
        import_image=lambda archive: _load(name, str(archive)),
        node=_node(name),
        audit_log=folder.audit_log,
    )


def is_whole(folder: Folder) -> bool:
    """Whether kind knows the cluster and its API server is ready."""
    known = is_available() and folder.name in run("kind", "get", "clusters").split()
    return known and succeeds(*control_plane.kubectl(folder.kubeconfig).command("get", "--raw", "/readyz"))


def configuration(folder: Folder) -> str:
    """The configuration for ``kind create cluster``, as YAML: one node, and the audit log on the host."""
    api_server = {
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": {
                "audit-log-path": f"{_AUDIT_INSIDE}/{folder.audit_log.name}",
                "audit-policy-file": f"{_POLICY_INSIDE}/audit-policy.yaml",
            },
            "extraVolumes": [
                _volume("audit-policies", _POLICY_INSIDE, read_only=True),
                _volume("audit-logs", _AUDIT_INSIDE, read_only=False),
            ],
        },
    }
    return yaml.safe_dump(
        {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [
                {
                    "role": "control-plane",
                    "labels": {"pool": "lab", "site": "lab"},
                    "kubeadmConfigPatches": [yaml.safe_dump(api_server, sort_keys=False)],
                    "extraMounts": [
                        {"hostPath": str(folder.configuration), "containerPath": _POLICY_INSIDE, "readOnly": True},
                        {"hostPath": str(folder.logs), "containerPath": _AUDIT_INSIDE},
                    ],
                }
            ],
        },
        sort_keys=False,
    )


def _volume(name: str, path: str, *, read_only: bool) -> dict[str, object]:
    return {"name": name, "hostPath": path, "mountPath": path, "readOnly": read_only, "pathType": "DirectoryOrCreate"}


def _make(folder: Folder, report: Report) -> None:
    now = state.State(
        kind="kind",
        access_key=f"modelfleet-{secrets.token_hex(4)}",
        secret_key=secrets.token_urlsafe(24),
    )
    state.save(folder, now)
    folder.configuration.mkdir(parents=True, exist_ok=True)
    folder.logs.mkdir(parents=True, exist_ok=True)
    (folder.configuration / "audit-policy.yaml").write_text(control_plane.audit_policy())
    own = folder.configuration / "kind.yaml"
    own.write_text(configuration(folder))
    report(f"kind cluster {folder.name}: creating")
    image = os.environ.get("KIND_NODE_IMAGE")
    run(
        "kind", "create", "cluster", "--name", folder.name, "--config", own, "--kubeconfig", folder.kubeconfig,
        "--wait", "180s", *(("--image", image) if image else ()),
    )  # fmt: skip
    kubectl = control_plane.kubectl(folder.kubeconfig, report)
    control_plane.wait_for_namespace(kubectl)
    wait_until(lambda: bool(_gateway()), "the address of the kind network", 10)
    with state.changing(folder) as changed:
        changed.store_address = _gateway()
    report(f"kind cluster {folder.name}: Ready")


def _gateway() -> str:
    """The host's IPv4 address in the network that kind's containers share."""
    networks = json.loads(run("docker", "network", "inspect", "kind"))
    gateways = [each.get("Gateway", "") for each in networks[0]["IPAM"]["Config"]]
    return next((gateway for gateway in gateways if "." in gateway), "")


def _load(name: str, archive: str) -> None:
    run("kind", "load", "image-archive", archive, "--name", name)


def _node(name: str) -> RealNode:
    """The one container that is all nodes of the cluster."""
    container = f"{name}-control-plane"

    def on_it(*words: str) -> str:
        return run("docker", "exec", container, *words)

    return RealNode(
        name=container,
        run=on_it,
        stop_kubelet=lambda: on_it("systemctl", "stop", "kubelet"),
        start_kubelet=lambda: on_it("systemctl", "start", "kubelet"),
    )


def _remove(folder: Folder) -> None:
    processes.Processes(folder).kill_all()
    if shutil.which("kind") is not None:
        run("kind", "delete", "cluster", "--name", folder.name)
    if folder.root.exists():
        shutil.rmtree(folder.root)
