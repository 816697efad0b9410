"""A cluster that is there already: the one KUBECONFIG names.

Beside it we start an object store on this machine and, when asked for, KWOK; ``down`` takes off what we put on it and
nothing else. Images must reach its nodes through a registry: we have no way to its container runtime.
"""

import os
import secrets
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from e2e.cluster import control_plane, processes, state
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import ClusterError, Report, run
from e2e.cluster.folders import CLUSTERS, Folder
from e2e.cluster.gateways import Gateways
from e2e.cluster.store import Store


def is_available() -> bool:
    """Whether KUBECONFIG is set."""
    return bool(os.environ.get("KUBECONFIG"))


def up(name: str, gateways: int, report: Report) -> Cluster:
    """Note the cluster that KUBECONFIG names under ``name`` and complete it with a store and simulated gateways."""
    folder = Folder(name)
    with state.locked(CLUSTERS / f".{name}.lock"):
        if state.load(folder) is None:
            _note(folder)
        cluster = connect(name)
        cluster.kubectl("get", "--raw", "/readyz")
        report(f"cluster {name}: answers")
        cluster.complete(gateways, report)
    return cluster


def down(name: str, report: Report) -> None:
    """Take our gateways, KWOK and the store away again; the cluster itself stays."""
    folder = Folder(name)
    with state.locked(CLUSTERS / f".{name}.lock"):
        now = state.load(folder)
        if now is not None and now.made_gateways:
            gateways = connect(name).gateways
            gateways.remove(gateways.names())
        processes.Processes(folder).kill_all()
        if folder.root.exists():
            shutil.rmtree(folder.root)
        (CLUSTERS / f".{name}.lock").unlink()
    report(f"cluster {name}: is as it was")


def connect(name: str) -> Cluster:
    """The cluster that ``up`` noted under this name."""
    folder = Folder(name)
    if state.load(folder) is None:
        raise ClusterError(f"no cluster was noted as {name!r}")
    kubectl = control_plane.kubectl(folder.kubeconfig)
    return Cluster(
        kind="existing",
        folder=folder,
        kubectl=kubectl,
        gateways=Gateways(folder, kubectl),
        store=Store(folder),
        import_image=_refuse,
        node=None,
        audit_log=None,
    )


def is_whole(folder: Folder) -> bool:
    """Whether the API server is ready."""
    try:
        connect(folder.name).kubectl("get", "--raw", "/readyz")
    except RuntimeError:
        return False
    return True


def _note(folder: Folder) -> None:
    """Copy the present context's credentials, so that a later change of KUBECONFIG does not hit another cluster."""
    content = run("kubectl", "config", "view", "--minify", "--flatten", "--raw")
    server = run("kubectl", "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
    state.save(
        folder,
        state.State(
            kind="existing",
            store_address=_own_address(server),
            access_key=f"modelfleet-{secrets.token_hex(4)}",
            secret_key=secrets.token_urlsafe(24),
        ),
    )
    folder.kubeconfig.touch(mode=0o600)
    folder.kubeconfig.write_text(content)


def _own_address(server: str) -> str:
    """The address of ours that the cluster sees us under, as far as routing tells."""
    target = urlsplit(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target.hostname or "", target.port or 443))
        address: str = probe.getsockname()[0]
    return address


def _refuse(archive: Path) -> None:
    raise ClusterError(
        f"cannot put {archive.name} on the nodes of a cluster that is not ours: push it to a registry that they reach, "
        "and install the chart with that image"
    )
